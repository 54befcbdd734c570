"""The values that travel between rooms: frozen dataclasses of tensors with declared shapes and units.

Letters: B batch (independent streams), C cameras, M objects (padded), Q queries, L decoder layers, T frames,
D channels, K classes.
"""

from syncl.structures.annotations import Annotations, Clip, Trajectories
from syncl.structures.frame import CameraRig, Frame, Odometry, ToldFrame
from syncl.structures.objects import Objects, TrackedObject
from syncl.structures.outcome import Outcome
from syncl.structures.queries import Predictions, Queries, object_queries

__all__ = [
    "Annotations",
    "CameraRig",
    "Clip",
    "Frame",
    "Objects",
    "Odometry",
    "Outcome",
    "Predictions",
    "Queries",
    "ToldFrame",
    "TrackedObject",
    "Trajectories",
    "object_queries",
]
