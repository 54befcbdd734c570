"""A clip through tracker and strategy, frame by frame, with gradients across frames."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from syncl.errors import SynclError
from syncl.structures import Annotations, Clip, Frame, Outcome, Queries
from syncl.trackers.base import Tracker
from syncl.trackers.state import TrackState
from syncl.training.objectives import (
    AssociationLossConfig,
    DenoisingConfig,
    ImageLossConfig,
    Objective,
    ObjectiveConfig,
    ProposalLossConfig,
    ReasoningLossConfig,
)
from syncl.training.strategies import Strategy


@dataclass(frozen=True)
class UnrollConfig:
    """What is shared by all strategies.

    Attributes:
        proposals: loss weights of the proposal head, where the detector has one.
        image: loss weights of StreamPETR's auxiliary image head, where the detector has it.
        reasoning: loss weights of PF-Track's own refinement and forecasts, where the tracker makes them.
        association: loss of ADA-Track's association, where the tracker has it.
        denoising: noised copies of the annotated objects as further queries, for detectors that can; None
            leaves them out.
        objectives: further ones, a method's own.
        poses_ahead: whether each frame has pose and time of the next, and the last of a clip is for these
            alone: ADA-Track's own training moves tracks as the vehicle does a frame later.
        context_frames: leading frames of a clip that only fill the detector's memory: no losses, no tracks.
            They run in inference mode without gradients. StreamPETR's sliding window has 6 of them in 8.
        frozen: names of the model's parts that are not trained and stay in inference mode, such as
            `detector.image_encoder`.
    """

    proposals: ProposalLossConfig = field(default_factory=ProposalLossConfig)
    image: ImageLossConfig = field(default_factory=ImageLossConfig)
    reasoning: ReasoningLossConfig = field(default_factory=ReasoningLossConfig)
    association: AssociationLossConfig = field(default_factory=AssociationLossConfig)
    denoising: DenoisingConfig | None = None
    objectives: tuple[ObjectiveConfig, ...] = ()
    poses_ahead: bool = False
    context_frames: int = 0
    frozen: tuple[str, ...] = ()

    @property
    def all_objectives(self) -> tuple[ObjectiveConfig, ...]:
        """Every objective, in the order in which losses are named."""
        denoising = () if self.denoising is None else (self.denoising,)
        return (*denoising, self.reasoning, self.association, self.proposals, self.image, *self.objectives)


class ClipTraining(nn.Module):
    """The module the trainer optimises: its forward turns a clip into losses."""

    def __init__(self, tracker: Tracker, strategy: Strategy, config: UnrollConfig) -> None:
        super().__init__()
        self.tracker = tracker
        self.strategy = strategy
        self.config = config
        self.objectives = tuple(objective.build() for objective in config.all_objectives)
        if config.poses_ahead and tracker.detector.initial_memory(1) is not None:
            raise SynclError(
                f"training.unroll.poses_ahead=true: {type(tracker.detector).__name__} remembers frames and "
                "needs their own poses; set it to false"
            )
        for name in config.frozen:
            tracker.get_submodule(name).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ClipTraining":
        """Switch modes; frozen parts stay in inference mode."""
        super().train(mode)
        for name in self.config.frozen:
            self.tracker.get_submodule(name).eval()
        return self

    def forward(self, clip: Clip) -> dict[str, Tensor]:
        """Losses by name, summed over the clip's frames behind the context, and their `total`.

        Raises:
            SynclError: if the clip has no frame behind its context.
        """
        losses, _ = self.unroll(clip, self.tracker.initial_state(clip.frames[0].batch_size), carry_on=False)
        return losses

    def unroll(
        self, clip: Clip, state: TrackState, *, carry_on: bool
    ) -> tuple[dict[str, Tensor], TrackState]:
        """Losses of a clip whose streams are in `state`, and the state behind it.

        Args:
            clip: B streams.
            state: of the same streams.
            carry_on: whether the state behind the last frame is wanted; else it is the state at that frame.

        Raises:
            SynclError: if the clip has no frame behind its context.
        """
        if self.config.poses_ahead:
            clip = _with_poses_ahead(clip)
        context = self.config.context_frames
        if clip.length <= context:
            raise SynclError(
                f"clips of {clip.length} frames have none with losses behind {context} context frames; "
                "raise training.data.clip_length or lower training.unroll.context_frames"
            )
        for frame in clip.frames[:context]:
            state = self._watch(state, frame)
        sums: dict[str, Tensor] = {}
        pairs = list(zip(clip.frames, clip.annotations, strict=True))[context:]
        for index, (frame, annotations) in enumerate(pairs):
            further = self._further_queries(annotations)
            guide = self.strategy.guide(annotations)
            decoded = self.tracker.look(frame, state, self.strategy.groups, further, guide)
            # Costs and losses are small differences of large numbers: full precision whatever the model has.
            with torch.autocast(frame.images.device.type, enabled=False):
                outcome = self.strategy(decoded, annotations)
                self._check_outcome(outcome)
                reasoned = self.tracker.supervised(decoded, outcome, annotations)
                decoded = replace(decoded, reasoned=reasoned)
                losses = outcome.losses
                for objective in self.objectives:
                    losses = self._joined(losses, objective, objective(decoded, outcome, annotations))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value
            if carry_on or index + 1 < len(pairs):
                state = self.tracker.carry(decoded, outcome)
        return sums | {"total": torch.stack(list(sums.values())).sum()}, state

    def _check_outcome(self, outcome: object) -> None:
        if not isinstance(outcome, Outcome):
            raise SynclError(
                f"strategy: {type(self.strategy).__name__} returned a {type(outcome).__name__}; its forward "
                "returns an Outcome: losses, identities and targets (docs/add-strategy.md)"
            )

    def _joined(
        self, losses: Mapping[str, Tensor], objective: Objective, more: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """All losses by name; a second one of a name would take the place of the first."""
        if taken := more.keys() & {*losses, "total"}:
            raise SynclError(
                f"training.unroll.objectives: {type(objective).__name__} returned a loss called "
                f"{min(taken)!r}, which there is already; give it another name"
            )
        return {**losses, **more}

    def _watch(self, state: TrackState, frame: Frame) -> TrackState:
        """The state after a frame that only the detector's memory takes notice of."""
        training = self.training
        self.eval()
        with torch.no_grad():
            state = self.tracker.watch(frame, state)
        self.train(training)
        return state

    def _further_queries(self, annotations: Annotations) -> Queries | None:
        """All queries that objectives want decoded beside the frame's own."""
        wanted = [o.further_queries(self.tracker.detector, annotations) for o in self.objectives]
        asked = [queries for queries in wanted if queries is not None]
        if len(asked) > 1:
            raise SynclError("two objectives of training.unroll ask for queries of their own; leave one out")
        return asked[0] if asked else None


def _with_poses_ahead(clip: Clip) -> Clip:
    """All frames of a clip but the last, each with pose and time of the next."""
    frames = tuple(
        replace(frame, global_from_vehicle=ahead.global_from_vehicle, timestamp_s=ahead.timestamp_s)
        for frame, ahead in pairwise(clip.frames)
    )
    return Clip(frames, clip.annotations[:-1])
