"""Validations in the course of a run: when, with which weights, and what becomes of the best."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from syncl.interrupts import Interrupted, StopRequest
from syncl.trackers.base import Tracker
from syncl.training.best import Best
from syncl.training.config import TrainingConfig
from syncl.training.journal import Journal

Validate = Callable[[Tracker], dict[str, float]]
SaveModel = Callable[[Path, dict[str, Tensor]], None]


class Validating:
    """Validates every so many steps and behind the last, logs the figures, and keeps the best weights.

    Args:
        config: how often, and by which figure weights are the best.
        run: its folder.
        validate: called with the tracker in inference mode; None = there are no validations.
        save_model: writes a tracker's state dict as a model file.
        validated: called when figures are logged.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: Path,
        validate: Validate | None,
        save_model: SaveModel,
        validated: Callable[[], None] | None,
    ) -> None:
        self._every, self._last, self._run = config.validate_every, config.steps, run
        self._validate, self._save_model, self._validated = validate, save_model, validated
        self._best = Best(config.best_by, run / "log.jsonl")

    def due(self, step: int) -> bool:
        """Whether there is one behind this step."""
        if self._validate is None or not self._every:
            return False
        return step % self._every == 0 or step == self._last

    def validate(
        self, step: int, tracker: Tracker, weights: dict[str, Tensor], journal: Journal, request: StopRequest
    ) -> None:
        """Validate weights in the tracker's place, which is left in inference mode.

        A request to stop ends it without a word: it comes first when the run goes on.
        """
        assert self._validate is not None
        try:
            with request.obeyed_at_once():
                figures = validate_weights(tracker, weights, self._validate)
        except Interrupted:
            return
        is_best = self._best.improved(figures)
        if is_best:
            self._save_model(self._run / "best.safetensors", weights)
        journal.write(step, "validation", figures)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        journal.say(f"step {step}  validation  {shown}{'  (best so far)' if is_best else ''}")
        if self._validated is not None:
            self._validated()


def validate_weights(tracker: Tracker, weights: dict[str, Tensor], validate: Validate) -> dict[str, float]:
    """Run validation with other weights in place and put the tracker's own back."""
    own = {name: tensor.detach().clone() for name, tensor in tracker.state_dict().items()}
    tracker.load_state_dict(weights)
    tracker.eval()
    try:
        return validate(tracker)
    finally:
        tracker.load_state_dict(own)
