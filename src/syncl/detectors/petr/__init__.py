"""PETR and PETRv2."""

from syncl.detectors.petr.petr import Petr, PetrConfig
from syncl.detectors.petr.petrv2 import Petrv2, Petrv2Config

__all__ = ["Petr", "PetrConfig", "Petrv2", "Petrv2Config"]
