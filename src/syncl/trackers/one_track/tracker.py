"""OneTrack: one decoder that detects and tracks, learned in one stage (Wang et al., ECCV 2024).

Reconstructed: there is neither code nor a preprint, and what abstract and SynCL's reproduction leave open is
chosen here (`docs/tracking.md` lists what, and why). MUTR3D's propagation, as in SynCL's table 8, with a
class head for each task and the dynamic mask; what resolves the conflict of their gradients is training's
(`training.strategies.one_track`). On StreamPETR its propagated queries stay object queries: they are chosen
by the detection head, and tracks are rows of their own.

Letters: L decoder layers, B streams, Q queries, D channels, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.errors import SynclError
from syncl.structures import Predictions, Queries
from syncl.structures.tensors import TensorStructure
from syncl.trackers.look import Decoded, Guide
from syncl.trackers.mutr3d import Mutr3d, Mutr3dConfig
from syncl.trackers.one_track.dynamic_mask import DynamicMask
from syncl.trackers.state import TrackState
from syncl.trackers.tracking_head import TrackingHead, branch_logits


@dataclass(frozen=True)
class OneTrackConfig(Mutr3dConfig):
    """Life cycle and sizes as MUTR3D's, without its memory bank.

    Attributes:
        memory_slots: slots of MUTR3D's memory bank; 0 leaves it out.
        tracking_head: whether tracking has a class head of its own; OneTrack always has.
        mask: whether self-attention is masked between queries that the tasks contradict each other about.
        mask_score: without supervision, a query counts as an object for a task at or above this score.
        memory_by: the head whose scores decide what StreamPETR remembers.
    """

    memory_slots: int = 0
    tracking_head: bool = True
    mask: bool = True
    mask_score: float = 0.4
    memory_by: Literal["detection", "tracking"] = "detection"

    def build(self, detector: Detector) -> "OneTrack":
        """Build the module around a detector.

        Raises:
            SynclError: without a tracking head.
        """
        return OneTrack(detector, self)


@dataclass(frozen=True)
class HeadsApart(TensorStructure):
    """Both class heads over features that are cut off from the decoder: they learn, and nothing below does.

    Attributes:
        features: [L, B, Q, D], a leaf.
        detection: [L, B, Q, K] logits made of them.
        tracking: [L, B, Q, K] logits made of them.
    """

    features: Tensor
    detection: Tensor
    tracking: Tensor


class OneTrack(Mutr3d):
    """See the module's docstring."""

    config: OneTrackConfig
    tracking_head: TrackingHead

    def __init__(self, detector: Detector, config: OneTrackConfig) -> None:
        if not config.tracking_head:
            raise SynclError(
                "tracker.tracking_head=false: OneTrack is two class heads; for one head choose MUTR3D"
            )
        super().__init__(detector, config)

    @torch.no_grad()
    def complete(self, fresh: tuple[str, ...]) -> None:
        """A tracking head that starts from a detector's file begins as the detection head."""
        new = {name.split(".branches")[0].split("_branches")[0] for name in fresh}
        if "tracking_head" in new and "detector.class" not in new:
            self.tracking_head.branches.load_state_dict(self.detector.class_branches.state_dict())

    def interaction(self, state: TrackState, queries: Queries, guide: Guide | None, /) -> Interaction | None:
        """The dynamic mask."""
        if not self.config.mask:
            return None
        count = queries.object_count + state.count
        return DynamicMask(self.detector, self.tracking_head, queries, count, guide, self.config.mask_score)

    def memorised(self, predictions: Predictions) -> Predictions:
        """See `Tracker.memorised`: as the detection head has it, unless configured otherwise."""
        return predictions.as_detected if self.config.memory_by == "detection" else predictions

    def reason(self, decoded: Decoded, _interaction: Interaction | None, /) -> HeadsApart | None:
        """In training, what both heads say of features without a past, for the strategy to choose from."""
        if not torch.is_grad_enabled():
            return None
        features = decoded.standard.embeddings.detach().requires_grad_()
        return HeadsApart(
            features,
            branch_logits(self.detector.class_branches, features),
            branch_logits(self.tracking_head.branches, features),
        )
