"""PF-Track: past-and-future reasoning for multi-camera tracking (Pang et al., CVPR 2023)."""

from syncl.trackers.pf_track.tracker import PfTrack, PfTrackConfig

__all__ = ["PfTrack", "PfTrackConfig"]
