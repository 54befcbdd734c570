"""What the full-size recipes share: nuScenes, image backbones, schedules."""

from syncl.backbones import CpFpnConfig, FpnConfig, ResNetConfig, VoVNetConfig
from syncl.classes import TRACKING_CLASSES
from syncl.data.nuscenes.tables.categories import CAMERA_ORDER
from syncl.detectors import ImageEncoderConfig
from syncl.layers.normaliser import NormaliserConfig
from syncl.trackers.model import InputConfig
from syncl.training.config import OptimiserConfig

# PF-Track numbers the tracked classes first.
TRACKED_FIRST = (*TRACKING_CLASSES, "construction_vehicle", "traffic_cone", "barrier")

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
