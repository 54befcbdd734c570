"""What the full-size recipes share: nuScenes, image backbones, schedules."""

from syncl.backbones import CpFpnConfig, FpnConfig, ResNetConfig, VoVNetConfig
from syncl.classes import TRACKING_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.data.nuscenes.tables.categories import CAMERA_ORDER
from syncl.detectors import DetectorConfig, ImageEncoderConfig
from syncl.layers.normaliser import NormaliserConfig
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.strategies import BaselineConfig, StrategyConfig

# PF-Track numbers the tracked classes first.
TRACKED_FIRST = (*TRACKING_CLASSES, "construction_vehicle", "traffic_cone", "barrier")

# PF-Track's schedules by height of the images: so many epochs for its detectors, as many for its trackers.
EPOCHS = {320: 12, 640: 24}
# PETR turns and scales the world; PF-Track's detectors only mirror images, its trackers not even that.
TURNED = Augmentation(flip_probability=0.5, rotation_rad=0.3925, scale_range=(0.95, 1.05))
MIRRORED = Augmentation(flip_probability=0.5)

VOVNET_FILE = "FCOS3D's VoVNet-99 (convert --from backbone)"

_BGR_MEAN = (103.53, 116.28, 123.675)
_TRAIN_SAMPLES = 28130
_PROCESSES = 8


def steps(epochs: int, batch_size: int = 1) -> int:
    """Optimiser steps of so many epochs over nuScenes' training split on eight GPUs, `batch_size` clips on
    each.
    """
    return epochs * (_TRAIN_SAMPLES // (_PROCESSES * batch_size))


def published_input(height: int, width: int) -> InputConfig:
    """What published weights see: boxes in LIDAR_TOP's frame, images resized as the originals do."""
    return InputConfig((height, width), CAMERA_ORDER, vehicle_frame="lidar", exact_resize=True)


def published_detector(height: int, width: int, detector: DetectorConfig) -> ModelConfig:
    """A detector alone, on what published weights see."""
    return ModelConfig(published_input(height, width), detector, SingleFrameConfig())


def published_training(
    epochs: int, clip_length: int, augmentation: Augmentation, strategy: StrategyConfig | None = None
) -> TrainingConfig:
    """A clip a GPU, as the originals are trained; without a strategy, the baseline's own costs and losses."""
    return TrainingConfig(
        steps=steps(epochs),
        data=DataConfig(clip_length=clip_length, batch_size=1, workers=4, augmentation=augmentation),
        optimiser=published_optimiser(),
        strategy=strategy or BaselineConfig(),
        checkpoint_every=2000,
        log_every=50,
    )


def published_optimiser() -> OptimiserConfig:
    """AdamW 2e-4, backbone a tenth of it, cosine to a thousandth, 500 steps of warm-up, clipping at 35.

    Unlike in the small recipes, weights of norms and biases decay as all others do.
    """
    return OptimiserConfig(decay_all=True)


def r101_dcn() -> ImageEncoderConfig:
    """Caffe-style ResNet-101, deformable in its last two stages; FPN with strides 8 to 64; padded to 32."""
    return ImageEncoderConfig(
        ResNetConfig(
            depth=101,
            style="caffe",
            out_stages=(1, 2, 3, 4),
            frozen_stages=1,
            norm="frozen",
            dcn_stages=(3, 4),
        ),
        FpnConfig(256, num_outs=4, start_level=1, extra_convs="on_output", relu_before_extra_convs=True),
        NormaliserConfig(_BGR_MEAN, (1.0, 1.0, 1.0), "bgr"),
        grid_mask=0.7,
        divisor=32,
    )


def v2_99() -> ImageEncoderConfig:
    """VoVNet-99 and CP-FPN with strides 16 and 32, of which PETR attends the first; padded to 32."""
    return ImageEncoderConfig(
        VoVNetConfig("V-99", out_stages=(4, 5), norm="fixed", checkpointing=True),
        CpFpnConfig(256),
        NormaliserConfig(_BGR_MEAN, (57.375, 57.12, 58.395), "bgr"),
        grid_mask=0.7,
        divisor=32,
    )
