"""Denoising queries: extra queries of training that start near annotated objects (DN-DETR, StreamPETR 3.5).

They lie behind all other queries, in G groups of N. Each group sees itself, all other queries and the
temporal memory, but no other group; nobody sees them.

Letters: B streams, G groups, N queries a group, Q other queries, M memory keys.
"""

from dataclasses import replace

import torch
from torch import Tensor

from syncl.structures import Predictions


def denoising_mask(valid: Tensor, groups: int, group_size: int, memory: int) -> Tensor:
    """What each query may look at in self-attention.

    Args:
        valid: [B, Q] bool of the other queries.
        groups: G.
        group_size: N.
        memory: M keys of the temporal memory, which lie behind all queries.

    Returns:
        [B, Q + G N, Q + G N + M] bool, True = seen.
    """
    streams, queries = valid.shape
    noised = groups * group_size
    group = torch.arange(noised, device=valid.device) // max(group_size, 1)
    own = torch.zeros(queries + noised, noised, dtype=torch.bool, device=valid.device)
    own[queries:] = group[:, None] == group
    return torch.cat(
        [
            valid[:, None].expand(-1, queries + noised, -1),
            own.expand(streams, -1, -1),
            valid.new_ones(streams, queries + noised, memory),
        ],
        dim=2,
    )


def split_predictions(predictions: Predictions, count: int) -> tuple[Predictions, Predictions]:
    """The first `count` queries' predictions and those of the others."""
    return _rows(predictions, slice(None, count)), _rows(predictions, slice(count, None))


def _rows(predictions: Predictions, rows: slice) -> Predictions:
    return replace(
        predictions,
        logits=predictions.logits[:, :, rows],
        codes=predictions.codes[:, :, rows],
        embeddings=predictions.embeddings[:, :, rows],
        references=predictions.references[:, :, rows],
        valid=predictions.valid[:, rows],
    )
