"""BEVDepth: detection in a bird's-eye view that images are lifted into; the detector under DORT."""

from syncl.detectors.bevdepth.bevdepth import BevDepth, BevDepthConfig
from syncl.detectors.bevdepth.centre_head import CentreHeadConfig, CentreTask

__all__ = ["BevDepth", "BevDepthConfig", "CentreHeadConfig", "CentreTask"]
