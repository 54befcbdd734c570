"""DETR3D, as published and as MUTR3D changes it."""

from syncl.detectors.detr3d.detr3d import Detr3d, Detr3dConfig
from syncl.detectors.detr3d.mutr3d_detr3d import Mutr3dDetr3d, Mutr3dDetr3dConfig

__all__ = ["Detr3d", "Detr3dConfig", "Mutr3dDetr3d", "Mutr3dDetr3dConfig"]
