"""A clip through tracker and strategy, frame by frame, with gradients across frames."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from syncl.detectors.base import Features
from syncl.detectors.streampetr import StreamPetrFeatures
from syncl.errors import SynclError
from syncl.structures import Annotations, Clip, Frame, Predictions, Queries
from syncl.trackers.base import Tracker, TrackState
from syncl.trackers.forecasts import Reasoned
from syncl.training.denoising import DenoisingConfig, denoising_losses, noise_objects
from syncl.training.image_losses import ImageLossConfig, image_losses
from syncl.training.image_targets import project_annotations
from syncl.training.proposal_losses import ProposalLossConfig, proposal_losses
from syncl.training.reasoning_losses import ReasoningLossConfig, reasoning_losses
from syncl.training.strategies import FrameOutcome, Strategy


@dataclass(frozen=True)
class UnrollConfig:
    """What is shared by all strategies.

    Attributes:
        proposals: loss weights of the proposal head, where the detector has one.
        image: loss weights of StreamPETR's auxiliary image head, where the detector has it.
        reasoning: loss weights of the tracker's own refinement and forecasts, where it makes any.
        denoising: noised copies of the annotated objects as further queries, for detectors that can; None
            leaves them out.
        context_frames: leading frames of a clip that only fill the detector's memory: no losses, no tracks.
            They run in inference mode without gradients. StreamPETR's sliding window has 6 of them in 8.
        frozen: names of the model's parts that are not trained and stay in inference mode, such as
            `detector.image_encoder`.
    """

    proposals: ProposalLossConfig = field(default_factory=ProposalLossConfig)
    image: ImageLossConfig = field(default_factory=ImageLossConfig)
    reasoning: ReasoningLossConfig = field(default_factory=ReasoningLossConfig)
    denoising: DenoisingConfig | None = None
    context_frames: int = 0
    frozen: tuple[str, ...] = ()


class ClipTraining(nn.Module):
    """The module the trainer optimises: its forward turns a clip into losses."""

    def __init__(self, tracker: Tracker, strategy: Strategy, config: UnrollConfig) -> None:
        super().__init__()
        self.tracker = tracker
        self.strategy = strategy
        self.config = config
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
        context = self.config.context_frames
        if clip.length <= context:
            raise SynclError(
                f"clips of {clip.length} frames have none with losses behind {context} context frames; "
                "raise training.data.clip_length or lower training.unroll.context_frames"
            )
        for frame in clip.frames[:context]:
            state = self._remember_only(state, frame)
        sums: dict[str, Tensor] = {}
        pairs = list(zip(clip.frames, clip.annotations, strict=True))[context:]
        for index, (frame, annotations) in enumerate(pairs):
            state = self.tracker.enter(state, frame)
            features = self.tracker.detector.encode(frame, state.detector_memory)
            queries = self.tracker.queries(state, features)
            predictions, losses = self._decode(queries, features, annotations)
            reasoned = self.tracker.reason(state, queries, predictions[0])
            # Costs and losses are small differences of large numbers: full precision whatever the model has.
            with torch.autocast(frame.images.device.type, enabled=False):
                outcome = self.strategy(predictions, annotations, state.identities)
                losses |= self._reasoning_losses(reasoned, outcome, annotations)
            losses = outcome.losses | losses | self._image_losses(features, annotations)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value
            if carry_on or index + 1 < len(pairs):
                state = self.tracker.remember(state, frame, features, predictions[0])
                state = self.tracker.carry_supervised(
                    state, queries, predictions[0], outcome.identities, outcome.targets >= 0, reasoned
                )
        return sums | {"total": torch.stack(list(sums.values())).sum()}, state

    def _remember_only(self, state: TrackState, frame: Frame) -> TrackState:
        """The state after a frame that only the detector's memory takes notice of."""
        training = self.training
        self.eval()
        with torch.no_grad():
            state = self.tracker.enter(state, frame)
            features = self.tracker.detector.encode(frame, state.detector_memory)
            queries = self.tracker.queries(state, features)
            predictions = self.tracker.classify(self.tracker.detector.decode(queries, features)[0])
            state = self.tracker.remember(state, frame, features, predictions)
        self.train(training)
        return state

    def _decode(
        self, queries: Queries, features: Features, annotations: Annotations
    ) -> tuple[tuple[Predictions, ...], dict[str, Tensor]]:
        """Predictions of the strategy's groups, and the losses of denoising queries where configured."""
        detector, config, groups = self.tracker.detector, self.config.denoising, self.strategy.groups
        classify = self.tracker.classify
        if config is None or annotations.labels.shape[1] == 0:
            return tuple(map(classify, detector.decode(queries, features, groups))), {}
        noised = noise_objects(annotations, detector.point_range, config)
        predictions, found = detector.decode_noised(queries, noised.references, features, groups)
        return tuple(map(classify, predictions)), denoising_losses(found, noised, annotations, config)

    def _reasoning_losses(
        self, reasoned: Reasoned | None, outcome: FrameOutcome, annotations: Annotations
    ) -> dict[str, Tensor]:
        """Losses of what the tracker itself predicts, if it does."""
        if reasoned is None:
            return {}
        config = self.config.reasoning
        return reasoning_losses(reasoned, outcome.targets, outcome.identities, annotations, config)

    def _image_losses(self, features: Features, annotations: Annotations) -> dict[str, Tensor]:
        """Losses of the image heads that the detector has."""
        losses: dict[str, Tensor] = {}
        if features.proposals is not None:
            losses |= proposal_losses(features.proposals, features, annotations, self.config.proposals)
        if isinstance(features, StreamPetrFeatures) and features.image_predictions is not None:
            targets = project_annotations(features, annotations)
            losses |= image_losses(
                features.image_predictions, targets, features.image_size, self.config.image
            )
        return losses
