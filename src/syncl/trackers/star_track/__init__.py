"""S.T.A.R.-Track (Doll et al., RA-L 2024), reconstructed."""

from syncl.trackers.star_track.tracker import StarTrack, StarTrackConfig

__all__ = ["StarTrack", "StarTrackConfig"]
