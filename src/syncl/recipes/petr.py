"""Full-size PETR on VoVNet-99, and MUTR3D on it.

The recipes without suffix are PETR's own; `q500` are the single-frame detectors that PF-Track starts from,
with 500 queries and the tracked classes numbered first.
"""

from dataclasses import replace

from syncl.classes import DETECTION_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import PetrConfig
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import (
    EPOCHS,
    MIRRORED,
    TRACKED_FIRST,
    TURNED,
    VOVNET_FILE,
    published_detector,
    published_training,
    v2_99,
)
from syncl.trackers import Mutr3dConfig
from syncl.training.losses import LossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

_LOSS = LossConfig(own_class_count=True)
_STRATEGY = BaselineConfig(loss=_LOSS)


def _petr(height: int, width: int, paper: PaperResult) -> Recipe:
    return Recipe(
        f"petr_v99_{height}x{width}",
        "PETR, VoVNet-99, single frames",
        published_detector(height, width, PetrConfig(v2_99(), DETECTION_CLASSES)),
        published_training(24, 1, TURNED, _STRATEGY),
        starts_from=VOVNET_FILE,
        paper=paper,
    )


def _q500(height: int, width: int) -> Recipe:
    return Recipe(
        f"petr_v99_{height}x{width}_q500",
        "PETR with PF-Track's 500 queries, VoVNet-99, single frames",
        published_detector(height, width, PetrConfig(v2_99(), TRACKED_FIRST, queries=500)),
        published_training(EPOCHS[height], 1, MIRRORED, _STRATEGY),
        starts_from=VOVNET_FILE,
    )


def _mutr3d(height: int, width: int) -> Recipe:
    detector = _q500(height, width)
    recipe = Recipe(
        f"mutr3d_petr_v99_{height}x{width}",
        "MUTR3D on PETR, VoVNet-99, clips of three frames",
        replace(detector.model, tracker=Mutr3dConfig()),
        published_training(EPOCHS[height], 3, Augmentation(), _STRATEGY),
        starts_from=detector.name,
    )
    return with_syncl(recipe, SynclConfig(loss=_LOSS))


def petr_v99_320x800() -> Recipe:
    """PETR as published, at 320 x 800."""
    return _petr(320, 800, PaperResult("PETR", nds=42.6, map=37.8))


def petr_v99_640x1600() -> Recipe:
    """PETR as published, at 640 x 1600."""
    return _petr(640, 1600, PaperResult("PETR", nds=45.5, map=40.4))


def petr_v99_320x800_q500() -> Recipe:
    """PF-Track's single-frame detector at 320 x 800."""
    return _q500(320, 800)


def petr_v99_640x1600_q500() -> Recipe:
    """PF-Track's single-frame detector at 640 x 1600."""
    return _q500(640, 1600)


def mutr3d_petr_v99_320x800() -> Recipe:
    """MUTR3D on PETR at 320 x 800."""
    return _mutr3d(320, 800)


def mutr3d_petr_v99_640x1600() -> Recipe:
    """MUTR3D on PETR at 640 x 1600."""
    return _mutr3d(640, 1600)
