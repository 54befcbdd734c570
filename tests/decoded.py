"""Looks at a frame made from predictions, for tests of strategies and losses."""

import torch
from torch import Tensor

from syncl.structures import Predictions, Queries
from syncl.trackers import Decoded


def decoded_of(predictions: tuple[Predictions, ...], track_identities: Tensor | None = None) -> Decoded:
    """A look whose decoders say this; its tracks, the last queries, hold identities [B, N], none if None.

    It has neither state nor frame nor features: what judges predictions must not look at them.
    """
    standard = predictions[0]
    embeddings, codes = standard.embeddings[-1].detach(), standard.codes[-1].detach()
    nobody = torch.full((len(standard.valid), standard.object_count), -1)
    if track_identities is None:
        track_identities = nobody[:, :0]
    identities = torch.cat([nobody, track_identities], dim=1)
    assert identities.shape == standard.valid.shape, "as many tracks as there are predictions of"
    queries = Queries(embeddings, embeddings, codes, identities, standard.valid, standard.object_count)
    return Decoded(None, None, None, queries, predictions)
