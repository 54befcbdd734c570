"""Query detectors: camera images and queries in, boxes after every decoder layer out. A folder a method."""

from syncl.detectors.aids import ProposalConfig
from syncl.detectors.base import Detector, DetectorConfig
from syncl.detectors.bevdepth import BevDepthConfig, CentreHeadConfig, CentreTask
from syncl.detectors.bevformer import BevEncoderConfig, BevformerConfig
from syncl.detectors.detr3d import Detr3dConfig, Mutr3dDetr3dConfig
from syncl.detectors.dort import DortConfig, DortDetr3dConfig, RecurrenceConfig
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.passed import Features
from syncl.detectors.petr import PetrConfig, Petrv2Config
from syncl.detectors.streampetr import FocalHeadConfig, StreamPetrConfig

# Every configuration of a detector that a file may name: where a detector of the library is registered.
DETECTOR_TYPES: tuple[type, ...] = (
    BevDepthConfig,
    BevEncoderConfig,
    BevformerConfig,
    CentreHeadConfig,
    CentreTask,
    Detr3dConfig,
    DortConfig,
    DortDetr3dConfig,
    FocalHeadConfig,
    ImageEncoderConfig,
    Mutr3dDetr3dConfig,
    PetrConfig,
    Petrv2Config,
    ProposalConfig,
    RecurrenceConfig,
    StreamPetrConfig,
)

__all__ = [
    "DETECTOR_TYPES",
    "BevDepthConfig",
    "BevEncoderConfig",
    "BevformerConfig",
    "CentreHeadConfig",
    "CentreTask",
    "Detector",
    "DetectorConfig",
    "Detr3dConfig",
    "DortConfig",
    "DortDetr3dConfig",
    "Features",
    "FocalHeadConfig",
    "ImageEncoderConfig",
    "Mutr3dDetr3dConfig",
    "PetrConfig",
    "Petrv2Config",
    "ProposalConfig",
    "RecurrenceConfig",
    "StreamPetrConfig",
]
