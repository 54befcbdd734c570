"""Full-size DETR3D on ResNet-101, and MUTR3D on it."""

from dataclasses import replace

from syncl.backbones import FpnConfig
from syncl.classes import DETECTION_CLASSES, TRACKING_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import Detr3dConfig, ImageEncoderConfig, Mutr3dDetr3dConfig
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import published_input, published_optimiser, r101_dcn, steps
from syncl.trackers import Mutr3dConfig, SingleFrameConfig
from syncl.trackers.model import ModelConfig
from syncl.training.config import DataConfig, TrainingConfig
from syncl.training.losses import LossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

# Images keep their size, and nothing is mirrored or turned; DETR3D changes colours, MUTR3D nothing.
_UNCHANGED = Augmentation(resize_range=(1.0, 1.0))
# MUTR3D also counts the tracks whose object is gone where it normalises the class loss.
_LOSS = LossConfig(count_vanished=True)
_COLOURS = Augmentation(resize_range=(1.0, 1.0), photometric=True)
_BACKBONE = "FCOS3D's image backbone (convert --from backbone)"


def _mutr3d_encoder() -> ImageEncoderConfig:
    """MUTR3D's pyramid has BatchNorm behind every convolution, DETR3D's has none."""
    neck = FpnConfig(256, num_outs=4, start_level=1, extra_convs="on_output", norm="batch")
    return replace(r101_dcn(), neck=neck)


def _model(detector: Detr3dConfig) -> ModelConfig:
    return ModelConfig(published_input(900, 1600), detector, SingleFrameConfig())


def _training(clip_length: int, augmentation: Augmentation = _UNCHANGED) -> TrainingConfig:
    return TrainingConfig(
        steps=steps(24),
        data=DataConfig(clip_length=clip_length, batch_size=1, workers=4, augmentation=augmentation),
        optimiser=published_optimiser(),
        checkpoint_every=2000,
        log_every=50,
    )


def detr3d_r101_900x1600() -> Recipe:
    """DETR3D as published; takes published weights as they are."""
    return Recipe(
        "detr3d_r101_900x1600",
        "DETR3D, ResNet-101 with deformable convolution, single frames",
        _model(Detr3dConfig(r101_dcn(), DETECTION_CLASSES)),
        _training(1, _COLOURS),
        starts_from=_BACKBONE,
        paper=PaperResult("DETR3D", nds=42.2, map=34.7),
    )


def detr3d_r101_900x1600_q300() -> Recipe:
    """MUTR3D's detector alone: its head on DETR3D's decoder, 300 queries, seven classes."""
    base = detr3d_r101_900x1600()
    return replace(
        base,
        name="detr3d_r101_900x1600_q300",
        summary="the detector of MUTR3D, ResNet-101, 300 queries, seven classes, single frames",
        model=_model(Mutr3dDetr3dConfig(_mutr3d_encoder(), TRACKING_CLASSES)),
        training=_training(clip_length=1),
        paper=None,
    )


def mutr3d_detr3d_r101_900x1600() -> Recipe:
    """MUTR3D on DETR3D as published, clips of three frames; takes published weights as they are."""
    detector = detr3d_r101_900x1600_q300()
    recipe = Recipe(
        "mutr3d_detr3d_r101_900x1600",
        "MUTR3D on DETR3D, ResNet-101, clips of three frames",
        replace(detector.model, tracker=Mutr3dConfig(longest_gap_s=10.0)),
        replace(_training(clip_length=3), strategy=BaselineConfig(loss=_LOSS)),
        starts_from=detector.name,
        paper=PaperResult("SynCL, MUTR3D's row", 32.1, 1.448, 45.2, 28.3, 474, 15269, 43828),
    )
    paper = PaperResult("SynCL", 35.8, 1.391, 49.2, 32.9, 588, 14311, 40740)
    return with_syncl(recipe, SynclConfig(loss=_LOSS), paper)
