"""Trackers: how queries live from frame to frame, a folder a method. They own propagation and life cycle."""

from syncl.trackers.ada_track import AdaTrackConfig
from syncl.trackers.base import Tracker, TrackerConfig
from syncl.trackers.cc_3dt import AppearanceConfig, AssociationConfig, Cc3dtConfig, MemoryConfig
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.dqtrack import DqTrackConfig
from syncl.trackers.greedy import GreedyConfig
from syncl.trackers.look import Decoded
from syncl.trackers.mutr3d import Mutr3dConfig
from syncl.trackers.one_track import OneTrackConfig
from syncl.trackers.pf_track import PfTrackConfig
from syncl.trackers.single_frame import SingleFrame, SingleFrameConfig
from syncl.trackers.star_track import StarTrackConfig
from syncl.trackers.state import Move, TrackQueries, TrackState

# Every configuration of a tracker that a file may name: where a tracker of the library is registered.
TRACKER_TYPES: tuple[type, ...] = (
    AppearanceConfig,
    AdaTrackConfig,
    AssociationConfig,
    Cc3dtConfig,
    ClipNoise,
    DqTrackConfig,
    GreedyConfig,
    MemoryConfig,
    Mutr3dConfig,
    OneTrackConfig,
    PfTrackConfig,
    SingleFrameConfig,
    StarTrackConfig,
)

__all__ = [
    "TRACKER_TYPES",
    "AdaTrackConfig",
    "Cc3dtConfig",
    "ClipNoise",
    "Decoded",
    "DqTrackConfig",
    "GreedyConfig",
    "Move",
    "Mutr3dConfig",
    "OneTrackConfig",
    "PfTrackConfig",
    "SingleFrame",
    "SingleFrameConfig",
    "StarTrackConfig",
    "TrackQueries",
    "TrackState",
    "Tracker",
    "TrackerConfig",
]
