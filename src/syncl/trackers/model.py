"""A whole model's configuration: what it sees, its detector and its tracker."""

from dataclasses import dataclass
from typing import Literal

from syncl.data.past_images import PastImages
from syncl.detectors import DetectorConfig
from syncl.trackers import TrackerConfig
from syncl.trackers.base import Tracker


@dataclass(frozen=True)
class InputConfig:
    """What the weights expect of their input.

    Attributes:
        image_size: (H, W) in pixels after resizing and cropping.
        cameras: camera names in the order the network sees them; None = the dataset's own order.
        vehicle_frame: body frame of boxes and references: nuScenes' ego frame, or its LIDAR_TOP frame as
            published weights use.
        exact_resize: resize as the original implementations do (slower), for published weights.
        past: which camera images of a while ago the detector sees beside the present ones; None = it
            remembers the frames it has seen. Data without images between key frames make do with that too.
        odometry: the detector is told how the vehicle itself moves (BEVFormer): pose, and readings of
            nuScenes' CAN-bus extension where it is there. Without, BEVFormer goes by the frame's own pose.
    """

    image_size: tuple[int, int]
    cameras: tuple[str, ...] | None = None
    vehicle_frame: Literal["ego", "lidar"] = "ego"
    exact_resize: bool = True
    past: PastImages | None = None
    odometry: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a tracker, stored in every checkpoint."""

    input: InputConfig
    detector: DetectorConfig
    tracker: TrackerConfig

    def build(self) -> Tracker:
        """The tracker around its detector, with fresh weights."""
        return self.tracker.build(self.detector.build())
