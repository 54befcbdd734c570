"""Full-size StreamPETR on ResNet-50 and VoVNet-99, and MUTR3D on it (the paper's second baseline).

Detectors train as the released ones were: streaming, one frame a step and slot, memory carried from step to
step. `streampetr_r50_256x704_window` is StreamPETR's other way: windows of eight frames, of which the first
six only fill the memory. Trackers train on clips of three frames, with gradients through all of them.
"""

from dataclasses import replace

from syncl.backbones import CpFpnConfig, ResNetConfig
from syncl.classes import DETECTION_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import FocalHeadConfig, ImageEncoderConfig, StreamPetrConfig
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import (
    EPOCHS,
    TURNED,
    VOVNET_FILE,
    published_detector,
    published_optimiser,
    published_training,
    steps,
    v2_99,
)
from syncl.trackers import Mutr3dConfig
from syncl.training.assignment import CostConfig
from syncl.training.config import TrainingConfig
from syncl.training.losses import LossConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import UnrollConfig

# The centre on the ground counts twice, velocities fully; matching weighs the same way.
_LOSS = LossConfig(code_weights=(2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), own_class_count=True)
_COST = CostConfig(code_weights=_LOSS.code_weights[:8])
# Every frame has its own draw, in streams as in windows.
_V99 = replace(TURNED, each_frame=True)
_R50 = replace(_V99, resize_range=(0.864, 1.25))
_STRATEGY = BaselineConfig(_COST, _LOSS)


def _r50() -> ImageEncoderConfig:
    """ResNet-50 with frozen BatchNorm, strides 16 and 32 into CP-FPN; RGB."""
    backbone = ResNetConfig(depth=50, out_stages=(3, 4), norm="frozen", checkpointing=True)
    return ImageEncoderConfig(backbone, CpFpnConfig(256), grid_mask=0.7, divisor=32)


def _streaming(epochs: int, augmentation: Augmentation, backbone_scale: float = 0.1) -> TrainingConfig:
    """Two streams a GPU, sixteen in all, with twice the learning rate of eight."""
    base = published_training(epochs, 1, augmentation, _STRATEGY)
    return replace(
        base,
        steps=steps(epochs, batch_size=2),
        data=replace(base.data, batch_size=2, sampling="streams"),
        optimiser=replace(base.optimiser, learning_rate=4e-4, backbone_scale=backbone_scale),
        unroll=UnrollConfig(denoising=DenoisingConfig()),
    )


def _windows(epochs: int, augmentation: Augmentation) -> TrainingConfig:
    """Eight frames, chosen among nine; losses and gradients in the last two."""
    base = _streaming(epochs, augmentation)
    return replace(
        base,
        steps=steps(epochs),
        data=replace(base.data, clip_length=8, batch_size=1, sampling="windows"),
        optimiser=published_optimiser(),
        unroll=replace(base.unroll, context_frames=6),
    )


def _full(encoder: ImageEncoderConfig) -> StreamPetrConfig:
    """With the auxiliary image head that its training has."""
    return StreamPetrConfig(encoder, DETECTION_CLASSES, focal_head=FocalHeadConfig())


def _v99(height: int, width: int, paper: PaperResult | None = None) -> Recipe:
    return Recipe(
        f"streampetr_v99_{height}x{width}",
        "StreamPETR, VoVNet-99, 900 queries, streaming",
        published_detector(height, width, _full(v2_99())),
        _streaming(24, _V99),
        starts_from=VOVNET_FILE,
        paper=paper,
    )


def _mutr3d(height: int, width: int, paper: PaperResult | None) -> Recipe:
    start = _v99(height, width)
    # The auxiliary image head belongs to the detector's own training.
    detector = StreamPetrConfig(v2_99(), DETECTION_CLASSES)
    return Recipe(
        f"mutr3d_{start.name}",
        "MUTR3D on StreamPETR, VoVNet-99, clips of three frames",
        replace(start.model, detector=detector, tracker=Mutr3dConfig()),
        published_training(EPOCHS[height], 3, Augmentation(), _STRATEGY),
        starts_from=start.name,
        paper=paper,
    )


def streampetr_r50_256x704() -> Recipe:
    """StreamPETR on ResNet-50 with 900 queries."""
    return Recipe(
        "streampetr_r50_256x704",
        "StreamPETR, ResNet-50, 900 queries, streaming",
        published_detector(256, 704, _full(_r50())),
        # A backbone that never saw driving learns faster than one that did.
        _streaming(24, _R50, backbone_scale=0.25),
        starts_from="ImageNet's ResNet-50 (convert --from backbone)",
        paper=PaperResult("StreamPETR, 24 epochs", nds=47.6, map=37.5),
    )


def streampetr_r50_256x704_q428() -> Recipe:
    """StreamPETR on ResNet-50 with 428 queries and half the memory."""
    base = streampetr_r50_256x704()
    detector = replace(_full(_r50()), queries=300, propagated=128, memory_slots=512, objects_a_frame=128)
    return replace(
        base,
        name="streampetr_r50_256x704_q428",
        summary="StreamPETR, ResNet-50, 428 queries, streaming",
        model=replace(base.model, detector=detector),
        training=_streaming(60, _R50),
        starts_from="nuImages' ResNet-50 (convert --from backbone)",
        paper=PaperResult("StreamPETR, 60 epochs", nds=54.6, map=44.9),
    )


def streampetr_r50_256x704_window() -> Recipe:
    """StreamPETR on ResNet-50 with 428 queries, trained on sliding windows as in its paper."""
    base = streampetr_r50_256x704_q428()
    return replace(
        base,
        name="streampetr_r50_256x704_window",
        summary="StreamPETR, ResNet-50, 428 queries, windows of eight frames",
        training=_windows(60, _R50),
        paper=None,
    )


def streampetr_v99_320x800() -> Recipe:
    """StreamPETR on VoVNet-99 at 320 x 800."""
    return _v99(320, 800, PaperResult("StreamPETR, 24 epochs", nds=57.1, map=48.2))


def streampetr_v99_640x1600() -> Recipe:
    """StreamPETR on VoVNet-99 at 640 x 1600."""
    return _v99(640, 1600)


def mutr3d_streampetr_v99_320x800() -> Recipe:
    """The paper's baseline 2."""
    paper = PaperResult("SynCL, baseline 2", 49.6, 1.164, 57.3, 42.9, 411, 13962, 33526, 57.6, 48.5)
    improved = PaperResult("SynCL", 51.8, 1.149, 58.8, 45.2, 540, 13639, 33368, 58.7, 49.2)
    return with_syncl(_mutr3d(320, 800, paper), SynclConfig(_COST, _LOSS), improved)


def mutr3d_streampetr_v99_640x1600() -> Recipe:
    """Baseline 2 at full resolution, of which the paper has SynCL only."""
    improved = PaperResult("SynCL", 58.9, 1.016, 64.0, 51.5, 652, 13946, 27330)
    return with_syncl(_mutr3d(640, 1600, None), SynclConfig(_COST, _LOSS), improved)
