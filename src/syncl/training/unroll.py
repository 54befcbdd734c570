"""A clip through tracker and strategy, frame by frame, with gradients across frames."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from syncl.structures import Clip
from syncl.trackers.base import Tracker
from syncl.training.proposal_losses import ProposalLossConfig, proposal_losses
from syncl.training.strategies import Strategy


@dataclass(frozen=True)
class UnrollConfig:
    """What is shared by all strategies.

    Attributes:
        proposals: loss weights of the auxiliary image head, where the detector has one.
        frozen: names of the model's parts that are not trained and stay in inference mode, such as
            `detector.image_encoder`.
    """

    proposals: ProposalLossConfig = field(default_factory=ProposalLossConfig)
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
        """Losses by name, summed over the clip's frames, and their `total`."""
        detector = self.tracker.detector
        state = self.tracker.initial_state(clip.frames[0].batch_size)
        sums: dict[str, Tensor] = {}
        for index, (frame, annotations) in enumerate(zip(clip.frames, clip.annotations)):
            state = self.tracker.enter(state, frame)
            features = detector.encode(frame, state.detector_memory)
            queries = self.tracker.queries(state, features)
            predictions = detector.decode(queries, features, self.strategy.groups)
            outcome = self.strategy(predictions, annotations, state.identities)
            losses = outcome.losses
            if features.proposals is not None:
                losses = losses | proposal_losses(
                    features.proposals, features, annotations, self.config.proposals
                )
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value
            if index + 1 < clip.length:
                state = self.tracker.remember(state, frame, features, predictions[0])
                state = self.tracker.carry_supervised(state, queries, predictions[0], outcome.identities)
        return sums | {"total": torch.stack(list(sums.values())).sum()}
