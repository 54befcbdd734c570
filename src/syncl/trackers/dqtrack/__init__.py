"""DQTrack: detections are decoupled into object and track queries, and associated by a learned affinity."""

from syncl.trackers.dqtrack.query_tracks import DqTracks
from syncl.trackers.dqtrack.tracker import DqTrack, DqTrackConfig

__all__ = ["DqTrack", "DqTrackConfig", "DqTracks"]
