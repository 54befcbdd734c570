"""Choosing and rearranging rows of per-query values [B, Q, ...]."""

import torch
from torch import Tensor


def with_object_rows(tensor: Tensor, count: int, fill: float) -> Tensor:
    """Put `count` rows of `fill` in front of per-track values [B, N, ...]: one for each object query."""
    rows = tensor.new_full((tensor.shape[0], count, *tensor.shape[2:]), fill)
    return torch.cat([rows, tensor], dim=1)


def ranked_rows(selected: Tensor, scores: Tensor, count: int) -> Tensor:
    """Indices [B, count] of the selected rows in row order; if they are too many, of those scored highest.

    Args:
        selected: [B, Q] bool.
        scores: [B, Q] in [0, 1].
        count: number of rows to take; streams that select fewer are filled up with others.
    """
    best = torch.where(selected, scores, scores - 2).topk(count, dim=1).indices
    chosen = torch.zeros_like(selected).scatter(1, best, True) & selected
    return (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]


def take_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """The rows [B, R] (indices) of a tensor [B, Q, ...]: [B, R, ...]."""
    index = rows.reshape(*rows.shape, *[1] * (tensor.dim() - 2))
    return tensor.gather(1, index.expand(-1, -1, *tensor.shape[2:]))
