"""Scoring a model on some scenes during training, with the official metrics."""

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from syncl.checkpoints.model_file import LoadedModel
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.runs.track.reports import Reports
from syncl.runs.track.run import track_to_file
from syncl.trackers import SingleFrame, SingleFrameConfig, Tracker
from syncl.trackers.model import ModelConfig

MEANWHILE = ".validation-"
_OF_TRACKS = ("amota", "amotp", "recall", "ids")


@dataclass(frozen=True)
class Validation:
    """Tracks (or, for a detector, detects in) some scenes of a split and scores the result.

    Attributes:
        index: the dataset.
        split: the split the scenes belong to.
        scenes: which of its scenes.
        config: of the model in training.
        run: its folder, in which results are kept for a moment.
    """

    index: NuScenesIndex
    split: str
    scenes: tuple[str, ...]
    config: ModelConfig
    run: Path

    @property
    def figures(self) -> tuple[str, ...]:
        """What it measures, the most telling first."""
        return ("map", "nds") if isinstance(self.config.tracker, SingleFrameConfig) else _OF_TRACKS

    def __call__(self, tracker: Tracker) -> dict[str, float]:
        """AMOTA, AMOTP, recall and identity switches of a tracker; mAP and NDS of a detector."""
        from syncl.evaluation import evaluate_detection, evaluate_tracking

        detects = isinstance(tracker, SingleFrame)
        device = next(tracker.parameters()).device
        model = LoadedModel(tracker, self.config, None, {})
        place = tempfile.TemporaryDirectory(prefix=MEANWHILE, dir=self.run)
        with place as folder, torch.random.fork_rng():
            results = Path(folder) / "results.json"
            track_to_file(
                model,
                self.index,
                self.scenes,
                Reports(results, quiet=True),
                task="detection" if detects else "tracking",
                device=str(device),
            )
            source = (results, self.index.dataroot, self.index.version, self.split, self.scenes)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                if detects:
                    detection = evaluate_detection(*source, dataset=self.index.dataset)
                    return {"map": detection.mean_ap, "nds": detection.nd_score}
                metrics = evaluate_tracking(*source, dataset=self.index.dataset)
        return {name: metrics.overall(name) for name in _OF_TRACKS}
