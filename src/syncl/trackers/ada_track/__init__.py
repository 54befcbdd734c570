"""ADA-Track: end-to-end tracking with alternating detection and association (Ding et al., CVPR 2024)."""

from syncl.trackers.ada_track.tracker import AdaTrack, AdaTrackConfig

__all__ = ["AdaTrack", "AdaTrackConfig"]
