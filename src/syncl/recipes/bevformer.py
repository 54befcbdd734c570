"""Full-size BEVFormer: base, small and tiny, trained with a queue of frames before the one that counts.

The history runs in inference mode without gradient, with some of the frames before left out at random: clips
of four frames (small and tiny: three) are windows whose last frame has losses.
"""

from dataclasses import replace
from typing import cast

from syncl.backbones import FpnConfig, ResNetConfig
from syncl.classes import DETECTION_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import BevEncoderConfig, BevformerConfig, ImageEncoderConfig
from syncl.layers.normaliser import NormaliserConfig
from syncl.recipes.recipe import PaperResult, Recipe
from syncl.recipes.settings import published_detector, published_training, r101_dcn
from syncl.trackers.model import ModelConfig
from syncl.training.config import TrainingConfig
from syncl.training.unroll import UnrollConfig

_COLOURS = Augmentation(resize_range=(1.0, 1.0), photometric=True)
_ONE_LEVEL = FpnConfig(256, num_outs=1)
_FCOS3D = "FCOS3D's image backbone (convert --from backbone)"


def _grid(side: int, layers: int) -> BevEncoderConfig:
    """A square view; as published it is turned about cell (100, 100), the middle of base's alone."""
    return BevEncoderConfig((side, side), layers, rotation_centre=(100.0, 100.0), checkpointing=True)


def _training(clip_length: int) -> TrainingConfig:
    training = published_training(24, clip_length, _COLOURS)
    return replace(
        training,
        data=replace(training.data, sampling="windows"),
        unroll=UnrollConfig(context_frames=clip_length - 1),
    )


def _model(height: int, width: int, detector: BevformerConfig) -> ModelConfig:
    model = published_detector(height, width, detector)
    return replace(model, input=replace(model.input, odometry=True))


def bevformer_r101_900x1600() -> Recipe:
    """BEVFormer base as published; takes published weights as they are."""
    detector = BevformerConfig(r101_dcn(), DETECTION_CLASSES, bev=_grid(200, 6))
    return Recipe(
        "bevformer_r101_900x1600",
        "BEVFormer base, ResNet-101 with deformable convolution, windows of four frames",
        _model(900, 1600, detector),
        _training(4),
        starts_from=_FCOS3D,
        paper=PaperResult("BEVFormer", nds=51.7, map=41.6),
    )


def bevformer_r101_720x1280() -> Recipe:
    """BEVFormer small: images of 0.8 times the size, one feature level, a coarser view."""
    encoder = r101_dcn()
    backbone = replace(cast(ResNetConfig, encoder.backbone), out_stages=(4,))
    detector = BevformerConfig(
        replace(encoder, backbone=backbone, neck=_ONE_LEVEL), DETECTION_CLASSES, bev=_grid(150, 3)
    )
    return Recipe(
        "bevformer_r101_720x1280",
        "BEVFormer small, ResNet-101 with deformable convolution, windows of three frames",
        _model(720, 1280, detector),
        _training(3),
        starts_from=_FCOS3D,
        paper=PaperResult("BEVFormer, its repository", nds=47.9, map=37.0),
    )


def bevformer_r50_450x800() -> Recipe:
    """BEVFormer tiny: ResNet-50, images of half the size, one feature level, a coarse view."""
    encoder = ImageEncoderConfig(
        ResNetConfig(depth=50, style="pytorch", out_stages=(4,), frozen_stages=1, norm="frozen"),
        _ONE_LEVEL,
        NormaliserConfig(),
        grid_mask=0.7,
        divisor=32,
    )
    detector = BevformerConfig(encoder, DETECTION_CLASSES, bev=_grid(50, 3))
    return Recipe(
        "bevformer_r50_450x800",
        "BEVFormer tiny, ResNet-50, windows of three frames",
        _model(450, 800, detector),
        _training(3),
        starts_from="ImageNet's ResNet-50 (convert --from backbone)",
        paper=PaperResult("BEVFormer, its repository", nds=35.4, map=25.2),
    )
