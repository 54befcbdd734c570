"""DORT: a recurrence over objects and their motion on BEVDepth (reconstructed)."""

from syncl.detectors.dort.dort import Dort, DortConfig
from syncl.detectors.dort.over_objects import DortDetr3d, DortDetr3dConfig
from syncl.detectors.dort.recurrence import RecurrenceConfig

__all__ = ["Dort", "DortConfig", "DortDetr3d", "DortDetr3dConfig", "RecurrenceConfig"]
