"""CC-3DT: association across cameras by appearance, motion and depth order."""

from syncl.trackers.cc_3dt.appearance import AppearanceConfig
from syncl.trackers.cc_3dt.association import AssociationConfig
from syncl.trackers.cc_3dt.memory import MemoryConfig
from syncl.trackers.cc_3dt.tracker import Cc3dt, Cc3dtConfig, Cc3dtMemory, cc_3dt_plus_plus

__all__ = [
    "AppearanceConfig",
    "AssociationConfig",
    "Cc3dt",
    "Cc3dtConfig",
    "Cc3dtMemory",
    "MemoryConfig",
    "cc_3dt_plus_plus",
]
