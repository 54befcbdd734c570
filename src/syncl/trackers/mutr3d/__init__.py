"""MUTR3D: multi-camera tracking via 3D-to-2D queries (Zhang et al., CVPR workshops 2022)."""

from syncl.trackers.mutr3d.tracker import Mutr3d, Mutr3dConfig

__all__ = ["Mutr3d", "Mutr3dConfig"]
