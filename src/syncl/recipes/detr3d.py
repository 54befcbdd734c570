"""Full-size DETR3D on ResNet-101, and MUTR3D on it."""

from dataclasses import replace

from syncl.backbones import FpnConfig
from syncl.classes import DETECTION_CLASSES, TRACKING_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import Detr3dConfig, ImageEncoderConfig, Mutr3dDetr3dConfig
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import published_detector, published_training, r101_dcn
from syncl.trackers import Mutr3dConfig
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


def detr3d_r101_900x1600() -> Recipe:
    """DETR3D as published; takes published weights as they are."""
    return Recipe(
        "detr3d_r101_900x1600",
        "DETR3D, ResNet-101 with deformable convolution, single frames",
        published_detector(900, 1600, Detr3dConfig(r101_dcn(), DETECTION_CLASSES)),
        published_training(24, 1, _COLOURS),
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
        model=published_detector(900, 1600, Mutr3dDetr3dConfig(_mutr3d_encoder(), TRACKING_CLASSES)),
        training=published_training(24, 1, _UNCHANGED),
        paper=None,
    )


def mutr3d_detr3d_r101_900x1600() -> Recipe:
    """MUTR3D on DETR3D as published, clips of three frames; takes published weights as they are."""
    detector = detr3d_r101_900x1600_q300()
    recipe = Recipe(
        "mutr3d_detr3d_r101_900x1600",
        "MUTR3D on DETR3D, ResNet-101, clips of three frames",
        replace(detector.model, tracker=Mutr3dConfig(longest_gap_s=10.0)),
        published_training(24, 3, _UNCHANGED, BaselineConfig(loss=_LOSS)),
        starts_from=detector.name,
        paper=PaperResult("SynCL, MUTR3D's row", 32.1, 1.448, 45.2, 28.3, 474, 15269, 43828),
    )
    paper = PaperResult("SynCL", 35.8, 1.391, 49.2, 32.9, 588, 14311, 40740)
    return with_syncl(recipe, SynclConfig(loss=_LOSS), paper)
