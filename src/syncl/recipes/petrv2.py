"""Full-size PETRv2 on VoVNet-99."""

from dataclasses import replace

from syncl.classes import DETECTION_CLASSES
from syncl.data.past_images import PastImages
from syncl.detectors import Petrv2Config
from syncl.recipes.recipe import PaperResult, Recipe
from syncl.recipes.settings import (
    MIRRORED,
    TRACKED_FIRST,
    TURNED,
    VOVNET_FILE,
    published_detector,
    published_training,
    v2_99,
)
from syncl.training.losses import LossConfig
from syncl.training.strategies import BaselineConfig

# Velocities count as much as the rest, unlike in the first version.
_LOSS = LossConfig(code_weights=(1.0,) * 10, own_class_count=True)
# Where there are no images between key frames, three key frames are remembered, so that one of them is about
# 1.25 s old, as the original's image in its test.
_HISTORY = 3


def _petrv2(height: int, width: int, paper: PaperResult | None = None) -> Recipe:
    model = published_detector(height, width, Petrv2Config(v2_99(), DETECTION_CLASSES, history=_HISTORY))
    training = published_training(24, 1, TURNED, BaselineConfig(loss=_LOSS))
    return Recipe(
        f"petrv2_v99_{height}x{width}",
        "PETRv2, VoVNet-99, pairs of frames",
        replace(model, input=replace(model.input, past=PastImages())),
        replace(training, data=replace(training.data, sampling="pairs")),
        starts_from=VOVNET_FILE,
        paper=paper,
    )


def petrv2_v99_320x800_q500() -> Recipe:
    """PETRv2 with PF-Track's queries, classes and augmentation, which the paper's baseline 1 starts from."""
    base = _petrv2(320, 800)
    data = replace(base.training.data, augmentation=MIRRORED)
    return replace(
        base,
        name="petrv2_v99_320x800_q500",
        summary="PETRv2 with PF-Track's 500 queries, VoVNet-99, pairs of frames",
        model=replace(base.model, detector=Petrv2Config(v2_99(), TRACKED_FIRST, queries=500)),
        training=replace(base.training, data=data),
    )


def petrv2_v99_320x800() -> Recipe:
    """PETRv2 as published, at 320 x 800."""
    return _petrv2(320, 800, PaperResult("PETRv2", nds=50.3, map=41.0))


def petrv2_v99_640x1600() -> Recipe:
    """PETRv2 at 640 x 1600."""
    return _petrv2(640, 1600)
