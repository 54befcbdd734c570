"""What learns in a run, and what a step of it does."""

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from syncl.data.stream_clips import ClipSource, StreamDataset
from syncl.structures import Clip
from syncl.trackers.base import Tracker
from syncl.training.config import TrainingConfig
from syncl.training.optimiser import WeightAverage, build_optimiser, learning_rate_factor
from syncl.training.resuming import RunState
from syncl.training.streaming import CarriedState, StreamTraining
from syncl.training.unroll import ClipTraining


class Learner:
    """A tracker in its losses, with optimiser, schedule and average of weights.

    Args:
        accelerator: on whose device, and among whose processes, it learns.
        tracker: with its starting weights.
        dataset: of the clips that it will be shown; of streams, its state is carried from step to step.
        config: the run's settings.

    Attributes:
        state: all of it that changes from step to step.
    """

    def __init__(
        self, accelerator: Accelerator, tracker: Tracker, dataset: ClipSource, config: TrainingConfig
    ) -> None:
        self._accelerator, self._tracker, self._config = accelerator, tracker, config
        self._strategy = config.strategy.build(tracker.detector.dim)
        module = ClipTraining(tracker, self._strategy, config.unroll)
        streams = None
        if isinstance(dataset, StreamDataset):
            streams = CarriedState(tracker, config.data.batch_size)
        trained: nn.Module = module if streams is None else StreamTraining(module)
        optimiser = build_optimiser(trained, config.optimiser)
        schedule = LambdaLR(optimiser, learning_rate_factor(config.optimiser, config.steps))
        self._wrapped, optimiser = accelerator.prepare(trained, optimiser)
        average = WeightAverage(tracker, config.ema) if config.ema > 0 else None
        if streams is not None:
            streams.to(accelerator.device)
        self.state = RunState(trained, optimiser, schedule, average, streams)

    @property
    def learning_rate(self) -> float:
        """That of the next step, of the group that is not slowed down."""
        return float(self.state.schedule.get_last_lr()[-1])

    def weights(self) -> dict[str, Tensor]:
        """The weights with which a run that ended here would leave its tracker."""
        average = self.state.average
        return self._tracker.state_dict() if average is None else average.average

    def losses(self, clip: Clip, step: int) -> dict[str, Tensor]:
        """The losses of a step's clips, by name, with their sum, `total`; streams are at the clips' end then.

        Args:
            clip: of this process.
            step: how many steps were done before.
        """
        self._strategy.progress = step / self._config.steps
        values: dict[str, Tensor]
        if (streams := self.state.streams) is None:
            values = self._wrapped(clip)
        else:
            values, streams.state = self._wrapped(clip, streams.state)
        return values

    def learn(self, total: Tensor) -> Tensor:
        """Follow the gradient of a step's loss, and return its norm before it was clipped."""
        state = self.state
        self._accelerator.backward(total)
        norm: Tensor = self._accelerator.clip_grad_norm_(
            self._wrapped.parameters(), self._config.optimiser.clip_norm
        )
        state.optimiser.step()
        state.schedule.step()
        state.optimiser.zero_grad()
        if state.average is not None:
            state.average.update(self._tracker)
        return norm
