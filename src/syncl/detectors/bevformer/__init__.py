"""BEVFormer: detection in a bird's-eye view that lasts from frame to frame."""

from syncl.detectors.bevformer.bev_encoder import BevEncoderConfig
from syncl.detectors.bevformer.bevformer import Bevformer, BevformerConfig

__all__ = ["BevEncoderConfig", "Bevformer", "BevformerConfig"]
