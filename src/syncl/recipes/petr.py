"""Full-size PETR on VoVNet-99, and MUTR3D on it.

The recipes without suffix are PETR's own; `q500` are the single-frame detectors that PF-Track starts from,
with 500 queries and the tracked classes numbered first.
"""

from dataclasses import replace

from syncl.classes import DETECTION_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import PetrConfig
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import TRACKED_FIRST, published_input, published_optimiser, steps, v2_99
from syncl.trackers import Mutr3dConfig, SingleFrameConfig
from syncl.trackers.model import ModelConfig
from syncl.training.config import DataConfig, TrainingConfig
from syncl.training.losses import LossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

# PETR turns and scales the world; PF-Track's detectors only mirror images, its trackers not even that.
_PETR = Augmentation(flip_probability=0.5, rotation_rad=0.3925, scale_range=(0.95, 1.05))
_SINGLE_FRAME = Augmentation(flip_probability=0.5)
_CLIP = Augmentation()
_LOSS = LossConfig(own_class_count=True)
_BACKBONE = "FCOS3D's VoVNet-99 (convert --from backbone)"
# PF-Track's f1 configurations: 12 epochs at 320 x 800, 24 at 640 x 1600; trackers likewise.
_EPOCHS = {320: 12, 640: 24}


def _training(epochs: int, clip_length: int, augmentation: Augmentation) -> TrainingConfig:
    return TrainingConfig(
        steps=steps(epochs),
        data=DataConfig(clip_length=clip_length, batch_size=1, workers=4, augmentation=augmentation),
        optimiser=published_optimiser(),
        strategy=BaselineConfig(loss=_LOSS),
        checkpoint_every=2000,
        log_every=50,
    )


def _petr(height: int, width: int, paper: PaperResult) -> Recipe:
    return Recipe(
        f"petr_v99_{height}x{width}",
        "PETR, VoVNet-99, single frames",
        ModelConfig(
            published_input(height, width), PetrConfig(v2_99(), DETECTION_CLASSES), SingleFrameConfig()
        ),
        _training(24, 1, _PETR),
        starts_from=_BACKBONE,
        paper=paper,
    )


def _q500(height: int, width: int) -> Recipe:
    return Recipe(
        f"petr_v99_{height}x{width}_q500",
        "PETR with PF-Track's 500 queries, VoVNet-99, single frames",
        ModelConfig(
            published_input(height, width),
            PetrConfig(v2_99(), TRACKED_FIRST, queries=500),
            SingleFrameConfig(),
        ),
        _training(_EPOCHS[height], 1, _SINGLE_FRAME),
        starts_from=_BACKBONE,
    )


def _mutr3d(height: int, width: int) -> Recipe:
    detector = _q500(height, width)
    recipe = Recipe(
        f"mutr3d_petr_v99_{height}x{width}",
        "MUTR3D on PETR, VoVNet-99, clips of three frames",
        replace(detector.model, tracker=Mutr3dConfig()),
        _training(_EPOCHS[height], 3, _CLIP),
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
