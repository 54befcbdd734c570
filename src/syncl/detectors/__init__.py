"""Query detectors: camera images and queries in, boxes after every decoder layer out. One file each."""

from syncl.detectors.base import Detector, DetectorConfig, Features
from syncl.detectors.detr3d import Detr3dConfig
from syncl.detectors.focal_head import FocalHeadConfig
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.mutr3d_detr3d import Mutr3dDetr3dConfig
from syncl.detectors.petr import PetrConfig
from syncl.detectors.petrv2 import Petrv2Config
from syncl.detectors.proposals import ProposalConfig
from syncl.detectors.streampetr import StreamPetrConfig

__all__ = [
    "Detector",
    "DetectorConfig",
    "Detr3dConfig",
    "Features",
    "FocalHeadConfig",
    "ImageEncoderConfig",
    "Mutr3dDetr3dConfig",
    "PetrConfig",
    "Petrv2Config",
    "ProposalConfig",
    "StreamPetrConfig",
]
