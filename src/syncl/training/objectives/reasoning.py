"""Losses of what trackers make of predictions themselves: refined boxes and classes, and trajectories.

PF-Track (Pang et al., CVPR 2023, section 3.4). They follow the standard decoder's last assignment, whatever
the strategy.

Letters: B streams, Q queries, M objects, F future frames.
"""

from dataclasses import dataclass, field, replace

from torch import Tensor

from syncl.errors import SynclError
from syncl.structures import Annotations, Outcome, Predictions, Trajectories
from syncl.trackers.look import Decoded
from syncl.trackers.pf_track.forecasts import Reasoned
from syncl.training.assignment import Assignment
from syncl.training.losses import LossConfig, set_losses
from syncl.training.objectives.base import Objective


@dataclass(frozen=True)
class ReasoningLossConfig:
    """Weights; the defaults are the published ones.

    Attributes:
        refined: losses of the refined classes and boxes.
        trajectory: weight of the L1 loss of displacements; 0 leaves them untrained.
    """

    refined: LossConfig = field(default_factory=LossConfig)
    trajectory: float = 0.5

    def build(self) -> "ReasoningObjective":
        """The objective."""
        return ReasoningObjective(self)


@dataclass(frozen=True)
class ReasoningObjective(Objective):
    """Trains what PF-Track makes of a frame itself: `refined_class`, `refined_box` and `trajectory`."""

    config: ReasoningLossConfig

    def __call__(self, decoded: Decoded, outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """The losses of a frame whose tracker reasons about it.

        Raises:
            SynclError: if displacements are predicted and the annotations' trajectories are missing or too
                short.
        """
        if not isinstance(decoded.reasoned, Reasoned):
            return {}
        return reasoning_losses(decoded.reasoned, decoded.queries.valid, outcome, annotations, self.config)


def reasoning_losses(
    reasoned: Reasoned,
    valid: Tensor,
    outcome: Outcome,
    annotations: Annotations,
    config: ReasoningLossConfig,
) -> dict[str, Tensor]:
    """`refined_class`, `refined_box` and, where displacements are predicted, `trajectory`.

    Args:
        reasoned: of the frame.
        valid: [B, Q] bool; False = padding.
        outcome: of the frame; tracks whose object is gone are background.
        annotations: of the frame, with trajectories if displacements are predicted.
        config: weights.

    Raises:
        SynclError: if the annotations' trajectories are missing or too short.
    """
    refined = Predictions(
        logits=reasoned.logits[None],
        codes=reasoned.codes[None],
        embeddings=reasoned.embeddings[None],
        references=reasoned.codes[None, ..., :3],
        valid=valid,
        object_count=0,
    )
    assignment = Assignment(outcome.targets[None], valid[None])
    losses = {
        f"refined_{name}": value
        for name, value in set_losses(refined, assignment, annotations, config.refined).items()
    }
    displacements = reasoned.displacements
    if displacements is not None and displacements.shape[2] and config.trajectory > 0:
        tied = ((outcome.identities >= 0) | outcome.present) & valid
        future = future_of(annotations, displacements.shape[2])
        losses["trajectory"] = config.trajectory * trajectory_loss(
            displacements, outcome.targets, tied, future
        )
    return losses


def trajectory_loss(
    displacements: Tensor, targets: Tensor, tied: Tensor, trajectories: Trajectories
) -> Tensor:
    """L1 distance of predicted from true displacements in the ground plane, metres.

    The mean is over all steps of all queries tied to an object: steps without annotation, and queries whose
    object is gone, count as zero.

    Args:
        displacements: [B, Q, F, 3].
        targets: [B, Q] int64 object each query holds, -1 = none.
        tied: [B, Q] bool queries that have an object or had one.
        trajectories: of the objects, F frames on.
    """
    steps = displacements.shape[2]
    tied_steps = tied.sum() * (steps * 2)
    if trajectories.centres.shape[1] == 0:
        return displacements.sum() * 0
    index = targets.clamp(min=0)
    true = trajectories.centres[..., :2].diff(dim=2)
    known = trajectories.valid[..., 1:] & trajectories.valid[..., :-1]
    true = true.gather(1, index[..., None, None].expand(-1, -1, *true.shape[2:]))
    known = known.gather(1, index[..., None].expand(-1, -1, steps)) & (targets >= 0)[..., None]
    distance = (displacements[..., :2] - true).abs() * (known & tied[..., None])[..., None]
    return distance.sum() / tied_steps.clamp(min=1)


def future_of(annotations: Annotations, steps: int) -> Trajectories:
    """The first `steps` future frames of the annotated trajectories.

    Raises:
        SynclError: if there are none, or fewer.
    """
    trajectories = annotations.trajectories
    held = 0 if trajectories is None else trajectories.centres.shape[2] - 1
    if trajectories is None or held < steps:
        raise SynclError(
            f"the tracker foresees {steps} frames, the annotations hold {held}: read them with "
            f"AnnotationOptions(future_frames={steps}), or set training.unroll.reasoning.trajectory=0"
        )
    return replace(
        trajectories,
        centres=trajectories.centres[:, :, : steps + 1],
        valid=trajectories.valid[:, :, : steps + 1],
    )
