"""Picking rows of per-query and per-track values. Letters: B streams, N rows there are, R rows picked."""

from dataclasses import replace

import torch
from torch import Tensor

from syncl.layers.numerics import either
from syncl.structures import Objects


def take_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Values [B, R, ...] of rows [B, R] int64 out of values [B, N, ...]."""
    index = rows.reshape(*rows.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(-1, -1, *values.shape[2:]))


def take_rows_or_zero(values: Tensor, rows: Tensor) -> Tensor:
    """The same, zero (or False) where a row is negative; N may be 0."""
    if values.shape[1] == 0:
        return values.new_zeros(*rows.shape, *values.shape[2:])
    present = (rows >= 0).reshape(*rows.shape, *[1] * (values.dim() - 2))
    return either(present, take_rows(values, rows.clamp(min=0)), torch.zeros_like(values[:, :1]))


def rows_at_hand(selected: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows [R] int64 of a mask [N], and which of them are selected; None = all of them are.

    Away from the host they are all rows there are, since a device would be waited for to say how many.
    """
    if selected.device.type == "cpu":
        return selected.nonzero()[:, 0], None
    return torch.arange(len(selected), device=selected.device), selected


def with_front_rows(values: Tensor, count: int, fill: float) -> Tensor:
    """Values [B, N, ...] behind `count` rows of `fill`."""
    rows = values.new_full((values.shape[0], count, *values.shape[2:]), fill)
    return torch.cat([rows, values], dim=1)


def ranked_rows(selected: Tensor, scores: Tensor, count: int) -> Tensor:
    """Indices [B, count] of the selected rows in row order; if they are too many, of those scored highest.

    Args:
        selected: [B, N] bool.
        scores: [B, N] in [0, 1].
        count: R; rows beyond the selected ones are filled up with others.
    """
    best = torch.where(selected, scores, scores - 2).topk(count, dim=1).indices
    chosen = torch.zeros_like(selected).scatter(1, best, True) & selected
    total = selected.shape[1]
    order = torch.arange(total, 0, -1, device=selected.device)
    return (order + total * chosen).topk(count, dim=1).indices


def most_rows(*selections: Tensor) -> list[int]:
    """Of each selection [B, N] bool, how many rows the fullest stream has; one wait for all."""
    counts: list[int] = torch.stack([selected.sum(1).amax() for selected in selections]).tolist()
    return counts


def carried_rows(alive: Tensor, scores: Tensor, most: int, slots: int | None = None) -> Tensor:
    """Indices [B, R] of the rows that go on, see `ranked_rows`: R is what the fullest stream needs.

    To know it is to wait for the device; where `slots` says how many there always are, nobody has to.

    Args:
        alive: [B, N] bool.
        scores: [B, N] in [0, 1].
        most: rows at the most.
        slots: R, at most N (`Tracker.slots`).
    """
    if slots is None:
        (needed,) = most_rows(alive)
        slots = min(needed, most)
    return ranked_rows(alive, scores, slots)


def best_objects(objects: Objects, most: int, range_m: float, height_m: float) -> Objects:
    """The valid objects with the highest scores, best first.

    They are chosen before the range is looked at, so there may be fewer than `most` although more are within.
    """
    order = torch.where(objects.valid, objects.scores, -1.0)
    rows = order.topk(min(most, order.shape[1]), dim=1).indices
    best = objects.map(lambda tensor: take_rows(tensor, rows))
    inside = (best.boxes[..., :2].abs() <= range_m).all(-1) & (best.boxes[..., 2].abs() <= height_m)
    return replace(best, valid=best.valid & inside)
