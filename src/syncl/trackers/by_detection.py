"""Tracking by detection: detections of a frame are tied to tracks, which the detector knows nothing of.

The detections are those of the tracker's own detector, or anybody's:

    objects, state = tracker.step_given(frame, state, detections)

Letters: B streams, D detections.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from syncl.classes import DETECTION_CLASSES
from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import DetectorMemory, Features
from syncl.detectors.reference_range import PointRange, ReferenceRange
from syncl.errors import SynclError
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Frame, Objects, Predictions, Queries
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.look import Decoded
from syncl.trackers.single_frame import SingleFrame, SingleFrameConfig, best_pairs
from syncl.trackers.state import TrackState


@dataclass(frozen=True, kw_only=True)
class ByDetectionConfig:
    """What trackers by detection are all asked.

    Attributes:
        max_detections: how many (query, class) pairs of the own detector are looked at a frame.
        output_range_m: detections whose centre lies beyond +-this in x or y are not looked at.
        output_height_m: the same for z.
        longest_gap_s: tracks end after a longer silence within a scene; None = never.
    """

    max_detections: int = 300
    output_range_m: float = 61.2
    output_height_m: float = 10.0
    longest_gap_s: float | None = None

    @property
    def most_chosen(self) -> int:
        """See `ChoosingConfig`."""
        return self.max_detections


class ByDetection(HostPairing):
    """Base of trackers by detection.

    Attributes:
        looks: whether it looks at images itself, beside its detector.
    """

    config: ByDetectionConfig
    looks: bool = False

    def __init__(self, detector: Detector, config: ByDetectionConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.longest_gap_s = config.longest_gap_s

    def close_eyes(self) -> None:
        """Do without looking at images oneself from now on."""
        self.looks = False

    def stepping_part(self) -> SingleFrame:
        """The own detector's detections of single frames, which this tracker ties together."""
        config = self.config
        rules = SingleFrameConfig(config.max_detections, config.output_range_m, config.output_height_m)
        return SingleFrame(self.detector, rules).eval()

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Detect as `SingleFrame` does, then associate."""
        return self.associate(decoded.frame, decoded.state, self.detections(decoded))

    def detections(self, decoded: Decoded) -> Objects:
        """What the own detector sees in a frame."""
        return best_pairs(
            decoded.standard,
            self.config.max_detections,
            self.config.output_range_m,
            self.config.output_height_m,
            self.detector.boxes(decoded.standard.codes[-1]),
        )

    @torch.no_grad()
    def step_given(self, frame: Frame, state: TrackState, detections: Objects) -> tuple[Objects, TrackState]:
        """Track one frame whose detections come from elsewhere; the detector is not asked.

        Args:
            frame: B streams; its images are looked at only by trackers with an eye of their own.
            state: of the same streams.
            detections: [B, D] best first, vehicle frame, labels in the order of the detector's classes.

        Raises:
            SynclError: see `Tracker.look`.
        """
        objects, state = self.associate(frame, self.arrive(frame, state), detections)
        return replace(objects, classes=self.classes), state


class NoDetector(Detector):
    """Stands where a tracker's detector is, when all detections come from elsewhere.

    It knows the nuScenes classes and nothing else; asked for anything of a frame it refuses.
    """

    dim, query_count = 0, 0
    positions_follow_references = False

    def __init__(self, classes: tuple[str, ...] = DETECTION_CLASSES) -> None:
        super().__init__()
        self.classes = classes
        self.point_range = ReferenceRange(_EVERYWHERE)
        self.layers, self.class_branches = nn.ModuleList(), nn.ModuleList()
        # Says on which device the tracker is.
        self.nothing = nn.Parameter(torch.zeros(0), requires_grad=False)

    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Features:  # noqa: ARG002
        """Raises, naming the way on."""
        raise _refusal()

    def initial_queries(self, features: Features) -> Queries:  # noqa: ARG002
        """Raises as `encode` does."""
        raise _refusal()

    def decode(
        self,
        queries: Queries,  # noqa: ARG002
        features: Features,  # noqa: ARG002
        groups: Groups = STANDARD,  # noqa: ARG002
        interaction: Interaction | None = None,  # noqa: ARG002
    ) -> tuple[Predictions, ...]:
        """Raises as `encode` does."""
        raise _refusal()

    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:  # noqa: ARG002
        """The same."""
        return positions


def _refusal() -> SynclError:
    return SynclError("this tracker has no detector; give it detections (Tracker.step_given)")


_EVERYWHERE: PointRange = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
