"""The loss of ADA-Track's association (Ding et al., CVPR 2024, section 3.5): which edge is one object.

Letters: L decoder layers, B streams, D detections (object queries), N tracks.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from syncl.structures import Annotations, Outcome
from syncl.trackers.ada_track.association import Affinities
from syncl.trackers.look import Decoded
from syncl.training.objectives.base import Objective


@dataclass(frozen=True)
class AssociationLossConfig:
    """Of the focal loss of edges; the defaults are the published ones.

    Attributes:
        weight: of the mean over edges, a layer.
        gamma: focal focus; nothing balances edges that are one object against the many that are not.
    """

    weight: float = 10.0
    gamma: float = 1.0

    def build(self) -> "AssociationObjective":
        """The objective."""
        return AssociationObjective(self)


@dataclass(frozen=True)
class AssociationObjective(Objective):
    """Trains the affinities of ADA-Track, every layer's by that layer's own matching: `association`."""

    config: AssociationLossConfig

    def __call__(self, decoded: Decoded, outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """The loss of a frame whose tracker associates; see `association_loss`."""
        if not isinstance(decoded.reasoned, Affinities):
            return {}
        count = decoded.queries.object_count
        held, alive = decoded.track_identities, decoded.queries.valid[:, count:]
        objects = identities_of(outcome.layer_targets[:, :, :count], annotations)
        one = (objects[..., None] == held[:, None]) & (held >= 0)[:, None]
        loss = association_loss(decoded.reasoned.logits, one, alive, self.config.gamma)
        return {"association": self.config.weight * loss}


def identities_of(targets: Tensor, annotations: Annotations) -> Tensor:
    """Identity of each object of `targets` [L, B, D], -1 = none."""
    if annotations.identities.shape[1] == 0:
        return targets
    known = annotations.identities.expand(len(targets), -1, -1).gather(2, targets.clamp(min=0))
    return known.masked_fill(targets < 0, -1)


def association_loss(logits: Tensor, one: Tensor, alive: Tensor, gamma: float) -> Tensor:
    """Focal loss without balance, the mean over all edges of a frame, summed over layers; 0 without edges.

    Args:
        logits: [L, B, D, N].
        one: the same shape, bool; whether the two are one object.
        alive: [B, N] bool; edges of other tracks do not count.
        gamma: focal focus.
    """
    logits, wanted = logits.float(), one.float()
    probability = logits.sigmoid()
    wrong = probability * (1 - wanted) + (1 - probability) * wanted
    focal = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * wrong**gamma
    edges = (alive.sum() * logits.shape[2]).clamp(min=1)
    return (focal * alive[:, None]).sum() / edges
