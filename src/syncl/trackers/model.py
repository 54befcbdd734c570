"""A whole model's configuration: what it sees, its detector and its tracker."""

from dataclasses import dataclass

from syncl.detectors import DetectorConfig
from syncl.trackers import TrackerConfig
from syncl.trackers.base import Tracker
from syncl.trackers.inputs import InputConfig as InputConfig


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a tracker, stored in every checkpoint."""

    input: InputConfig
    detector: DetectorConfig
    tracker: TrackerConfig

    def build(self) -> Tracker:
        """The tracker around its detector, with fresh weights; it knows its input."""
        tracker = self.tracker.build(self.detector.build())
        tracker.input = self.input
        return tracker
