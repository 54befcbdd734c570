"""DQTrack's two losses of its affinities (Li et al., ICCV 2023), written from their description.

Letters: R queries that hold objects, N tracks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from syncl.structures import Annotations, Outcome
from syncl.trackers.dqtrack.query_tracks import DualQueries
from syncl.trackers.look import Decoded
from syncl.training.objectives.base import Objective

# Between these, wrong logits are pushed up; below there is no gradient, as published.
_LEAST, _MOST = 1e-9, 1 - 1e-9
_FEWEST_TRACKS = 3


@dataclass(frozen=True)
class DualQueryLossConfig:
    """Weights; the defaults are the published ones.

    Attributes:
        association: of the cross entropy over tracks.
        wrong_tracks: of the regulariser of the logits for wrong tracks, published as maximum entropy. It
            reads logits as if they were probabilities; 0 leaves it out.
    """

    association: float = 1.0
    wrong_tracks: float = 1.0

    def build(self) -> "DualQueryObjective":
        """The objective."""
        return DualQueryObjective(self)


class DualQueryObjective(Objective):
    """Trains the association: `association` and `wrong_tracks`, in the mean over streams."""

    def __init__(self, config: DualQueryLossConfig) -> None:
        self.config = config

    def __call__(
        self, decoded: Decoded, _outcome: Outcome, _annotations: Annotations, /
    ) -> dict[str, Tensor]:
        """The losses of a frame; 0 where no object has a track."""
        if not isinstance(decoded.reasoned, DualQueries):
            return {}
        streams = decoded.reasoned.streams
        pairs = []
        for stream in streams:
            found = association_losses(stream.logits, stream.identities, stream.columns)
            # So that every frame has a gradient, if one of zero.
            pairs.append([value + 0 * stream.embeddings.sum() for value in found])
        association, wrong = (torch.stack(values).mean() for values in zip(*pairs, strict=True))
        return {
            "association": self.config.association * association,
            "wrong_tracks": self.config.wrong_tracks * wrong,
        }


def association_losses(logits: Tensor, identities: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy over tracks, and the regulariser of wrong ones.

    Args:
        logits: [R, N].
        identities: [R] of the objects.
        columns: [N] of the tracks; -1 = false tracks, which are wrong for everybody.
    """
    same = identities[:, None] == columns
    rows = same.any(1)
    nothing = logits.sum() * 0
    if not bool(rows.any()):
        return nothing, nothing
    logits, same = logits[rows], same[rows]
    cross_entropy = functional.cross_entropy(logits, same.int().argmax(1))
    count = logits.shape[1]
    if count < _FEWEST_TRACKS:
        return cross_entropy, nothing
    wrong = -logits.clamp(_LEAST, _MOST).log().masked_fill(same, 0)
    return cross_entropy, wrong.sum(1).mean() / (count - 1)
