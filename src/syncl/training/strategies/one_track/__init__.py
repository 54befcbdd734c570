"""OneTrack's training (Wang et al., ECCV 2024), reconstructed: two tasks, each with a class head of its own.

- `two_tasks`: who is positive for which task, and which tracks are too far from their objects
- `coordination`: what the class losses of contradicted queries may tell the features below
"""

from syncl.training.strategies.one_track.two_tasks import TwoTasksConfig

__all__ = ["TwoTasksConfig"]
