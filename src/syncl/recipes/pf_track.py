"""Full-size PF-Track on PETR and PETRv2, VoVNet-99.

Clips of three frames, 500 queries with learned contents, the tracked classes numbered first. Training starts
from the single-frame detectors of the same size, whose query contents are zero.
"""

from dataclasses import replace
from typing import cast

from syncl.data.augmentation import Augmentation
from syncl.detectors import PetrConfig
from syncl.recipes.petr import petr_v99_320x800_q500, petr_v99_640x1600_q500
from syncl.recipes.petrv2 import petrv2_v99_320x800_q500
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import EPOCHS, published_training
from syncl.trackers import PfTrackConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import UnrollConfig

# At full resolution tracks survive a miss less.
_MISS_TOLERANCE = {320: 7, 640: 6}
# The published full-resolution tracker keeps its detector's backbone and neck as they are.
_FROZEN = {320: (), 640: ("detector.image_encoder",)}


def _pf_track(start: Recipe, title: str, paper: PaperResult) -> Recipe:
    height, _ = start.model.input.image_size
    detector = cast(PetrConfig, start.model.detector)
    return Recipe(
        f"pf-track_{start.name.removesuffix('_q500')}",
        f"PF-Track on {title}, VoVNet-99, clips of three frames",
        replace(
            start.model,
            detector=replace(detector, learned_contents=True),
            tracker=PfTrackConfig(miss_tolerance=_MISS_TOLERANCE[height], longest_gap_s=10.0),
        ),
        replace(
            published_training(EPOCHS[height], 3, Augmentation()), unroll=UnrollConfig(frozen=_FROZEN[height])
        ),
        starts_from=f"{start.name} (query contents and reasoning are new)",
        paper=paper,
    )


def pf_track_petr_v99_320x800() -> Recipe:
    """PF-Track as published, at 320 x 800; takes published weights as they are."""
    paper = PaperResult("SynCL, PF-Track's row", 40.8, 1.343, 50.7, 37.6, 166, 15288, 40398, 47.7, 37.8)
    improved = PaperResult("SynCL", 44.7, 1.262, 56.5, 40.8, 203, 15344, 36801, 49.7, 39.6)
    return with_syncl(_pf_track(petr_v99_320x800_q500(), "PETR", paper), SynclConfig(), improved)


def pf_track_petr_v99_640x1600() -> Recipe:
    """PF-Track as published, at 640 x 1600; takes published weights as they are."""
    paper = PaperResult("PF-Track", amota=47.9, amotp=1.227, ids=181)
    improved = PaperResult("SynCL", 50.7, 1.183, 61.3, 46.2, 248, 14506, 30577)
    return with_syncl(_pf_track(petr_v99_640x1600_q500(), "PETR", paper), SynclConfig(), improved)


def pf_track_petrv2_v99_320x800() -> Recipe:
    """The paper's baseline 1: PF-Track with PETRv2 as the only change."""
    paper = PaperResult("SynCL, baseline 1", 43.2, 1.272, 55.0, 40.6, 173, 14106, 37065, 50.4, 41.0)
    improved = PaperResult("SynCL", 45.7, 1.260, 56.8, 43.0, 170, 13411, 36756, 51.1, 42.0)
    return with_syncl(_pf_track(petrv2_v99_320x800_q500(), "PETRv2", paper), SynclConfig(), improved)
