"""Trackers: how queries live from frame to frame. They own propagation and life cycle, never losses."""

from syncl.trackers.base import Tracker, TrackerConfig, TrackState
from syncl.trackers.greedy import GreedyConfig
from syncl.trackers.mutr3d import Mutr3dConfig
from syncl.trackers.pf_track import PfTrackConfig
from syncl.trackers.single_frame import SingleFrame, SingleFrameConfig

__all__ = [
    "GreedyConfig",
    "Mutr3dConfig",
    "PfTrackConfig",
    "SingleFrame",
    "SingleFrameConfig",
    "TrackState",
    "Tracker",
    "TrackerConfig",
]
