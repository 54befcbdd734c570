"""Tracking by detection with the greedy centre tracker, the yardstick of every learned one."""

from syncl.trackers.greedy.tracker import CentreTracks, Greedy, GreedyConfig

__all__ = ["CentreTracks", "Greedy", "GreedyConfig"]
