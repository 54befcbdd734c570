"""Looking at self-attention: the maps of a decoder's layers, formed beside the pass itself.

The pass is untouched: what goes into each self-attention is looked at, and its map computed a second time.

Letters: B streams, H heads, Q queries, S keys (the queries, then StreamPETR's remembered objects).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from syncl.detectors.base import Detector
from syncl.layers.attention import Attention
from syncl.layers.decoder import DecoderLayer


@contextmanager
def recorded_self_attention(detector: Detector) -> Iterator[list[Tensor]]:
    """Collect the maps [B, H, Q, S] of every layer's self-attention, of all passes within the block.

    Cross-only decoder groups have no self-attention and leave nothing here.
    """
    maps: list[Tensor] = []

    def record(module: nn.Module, arguments: tuple[Tensor, Tensor, Tensor, Tensor | None]) -> None:
        queries, keys, _, valid = arguments
        with torch.no_grad():
            maps.append(cast(Attention, module).weights(queries, keys, valid))

    layers = [cast(DecoderLayer, layer) for layer in detector.layers]
    handles = [layer.self_attention.register_forward_pre_hook(record) for layer in layers]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


TARGETS = ("itself", "other object queries", "other track queries", "memory")


def attention_mass(maps: Tensor, object_count: int) -> Tensor:
    """On whom queries spend their attention: shares [2, 4] of object queries' and track queries' attention.

    Args:
        maps: [Q, S] attention of one stream, mean over heads; S is Q, or more with remembered objects.
        object_count: how many leading queries are object queries.

    Returns:
        Row 0 is the mean over object queries, row 1 over track queries (nan if there are none); columns as in
        `TARGETS`: the query itself, other object queries, other track queries, remembered objects.
    """
    count = maps.shape[0]
    own = maps[:, :count].diagonal()
    objects = maps[:, :object_count].sum(1)
    tracks = maps[:, object_count:count].sum(1)
    is_track = torch.arange(count, device=maps.device) >= object_count
    shares = torch.stack(
        [
            own,
            objects - own * ~is_track,
            tracks - own * is_track,
            maps[:, count:].sum(1),
        ],
        dim=1,
    )
    return torch.stack([shares[:object_count].mean(0), shares[object_count:].mean(0)])
