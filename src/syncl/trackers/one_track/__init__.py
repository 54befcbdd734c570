"""OneTrack (Wang et al., ECCV 2024), reconstructed."""

from syncl.trackers.one_track.tracker import HeadsApart, OneTrack, OneTrackConfig

__all__ = ["HeadsApart", "OneTrack", "OneTrackConfig"]
