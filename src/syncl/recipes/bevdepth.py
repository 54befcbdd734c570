"""BEVDepth over nine frames and DORT on it: full size as its repository has it, as much as is known of the
paper's row on the test split, and small.

Small ones have a view of 64 x 64 cells, three frames and few depth bins.
"""

from dataclasses import fields, replace
from typing import cast

from syncl.backbones import ConvNeXtConfig, CpFpnConfig, ResNetConfig
from syncl.classes import DETECTION_CLASSES
from syncl.detectors import (
    BevDepthConfig,
    CentreHeadConfig,
    CentreTask,
    Detr3dConfig,
    DortConfig,
    DortDetr3dConfig,
    ImageEncoderConfig,
    RecurrenceConfig,
)
from syncl.recipes.recipe import PaperResult, Recipe
from syncl.recipes.settings import TURNED, published_detector, published_training, steps
from syncl.recipes.synthetic import CLASSES, TRACKER_LOSS, image_encoder, small_model
from syncl.recipes.synthetic_plain import detr3d_synthetic_plain
from syncl.trackers import GreedyConfig, SingleFrameConfig
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.objectives import (
    CentreLossConfig,
    DepthLossConfig,
    ObjectCopiesConfig,
    ObjectiveConfig,
)
from syncl.training.strategies import RefinedCandidatesConfig
from syncl.training.unroll import UnrollConfig

_BASE = (CentreLossConfig(), DepthLossConfig())
_FRAMES = 9

# Images are between .38 and .55 of 900 x 1600; the original also turns them by up to 5.4 degrees.
_TURNED = replace(TURNED, resize_range=(0.864, 1.25), mirror_probability=0.5)


def _encoder() -> ImageEncoderConfig:
    """ResNet-50's last two stages, joined at stride 16."""
    return ImageEncoderConfig(ResNetConfig(depth=50, style="pytorch", out_stages=(3, 4)), CpFpnConfig(512))


def _training(objectives: tuple[ObjectiveConfig, ...]) -> TrainingConfig:
    """Windows of nine frames, eight of them without gradient; batches of 8 on 8 GPUs, clipping at 5.

    Unlike there, classes are not balanced, the learning rate falls along a cosine, and the past runs in
    inference mode.
    """
    training = published_training(24, _FRAMES, _TURNED, RefinedCandidatesConfig())
    return replace(
        training,
        steps=steps(24, batch_size=8),
        data=replace(training.data, batch_size=8, sampling="windows", spare_frames=0, depth_stride=16),
        optimiser=replace(training.optimiser, backbone_scale=1.0, clip_norm=5.0),
        unroll=UnrollConfig(context_frames=_FRAMES - 1, objectives=objectives),
    )


def bevdepth_r50_256x704() -> Recipe:
    """DORT's base detector."""
    return Recipe(
        "bevdepth_r50_256x704",
        "BEVDepth over nine frames, ResNet-50: the detector under DORT",
        published_detector(256, 704, BevDepthConfig(_encoder(), DETECTION_CLASSES)),
        _training(_BASE),
        starts_from="ImageNet's ResNet-50 (convert --from backbone)",
    )


def dort_r50_256x704() -> Recipe:
    """DORT with a reconstructed recurrence, tracked by nearest centres."""
    base = bevdepth_r50_256x704()
    head = CentreHeadConfig(candidates=300)
    detector = DortConfig(_encoder(), DETECTION_CLASSES, head=head)
    return Recipe(
        "dort_r50_256x704",
        "DORT (recurrence reconstructed) on BEVDepth, ResNet-50, tracked by nearest centres",
        replace(base.model, detector=detector, tracker=GreedyConfig()),
        _training((*_BASE, ObjectCopiesConfig())),
        starts_from=base.name,
        paper=PaperResult("DORT, its repository", amota=42.4, amotp=1.264, nds=52.1, map=37.9),
    )


def _large_encoder() -> ImageEncoderConfig:
    """ConvNeXt-B's last two stages, joined at stride 16."""
    backbone = ConvNeXtConfig("base", out_stages=(3, 4), drop_path=0.4, checkpointing=True)
    return ImageEncoderConfig(backbone, CpFpnConfig(512))


# As BEVDet turns images of their full width.
_LARGE_TURNED = replace(_TURNED, resize_range=(0.94, 1.11))


def bevdepth_convnextb_640x1600() -> Recipe:
    """The detector under the paper's row on the test split, as far as that is known: ConvNeXt-B.

    The size of images is that of BEVDepth's own entry there, everything else that of the smaller recipe.
    """
    small = bevdepth_r50_256x704()
    training = small.training
    return Recipe(
        "bevdepth_convnextb_640x1600",
        "BEVDepth over nine frames, ConvNeXt-B: the detector under DORT's row on the test split",
        published_detector(640, 1600, BevDepthConfig(_large_encoder(), DETECTION_CLASSES)),
        replace(training, data=replace(training.data, augmentation=_LARGE_TURNED)),
        starts_from="ImageNet's ConvNeXt-B (convert --from backbone)",
    )


def dort_convnextb_640x1600() -> Recipe:
    """DORT's row on the test split, as far as it is known."""
    base, small = bevdepth_convnextb_640x1600(), dort_r50_256x704()
    detector = DortConfig(_large_encoder(), DETECTION_CLASSES, head=CentreHeadConfig(candidates=300))
    return Recipe(
        "dort_convnextb_640x1600",
        "DORT (recurrence reconstructed) on BEVDepth, ConvNeXt-B; published for the test split",
        replace(base.model, detector=detector, tracker=small.model.tracker),
        replace(base.training, unroll=small.training.unroll),
        starts_from=base.name,
        paper=PaperResult("DORT, test split", amota=57.6, amotp=0.951, recall=63.4, mota=48.4, nds=62.5),
    )


# Headings five times, as in the other small recipes.
_SMALL = (CentreLossConfig(code_weights=TRACKER_LOSS.code_weights), DepthLossConfig(weight=30.0))
# One task: branches are half of what a step costs, and each task has all of them.
_SMALL_HEAD = CentreHeadConfig(
    (
        CentreTask(
            CLASSES,
            (0.8, 0.6, 0.5, 0.6, 1.0, 1.0, 2.0, 0.7, 3.0, 1.0),
            overlap=0.3,
        ),
    ),
    shared=32,
    hidden=16,
    task_candidates=60,
    candidates=48,
    min_score=0.05,
    peaks_only=True,
)


_SMALL_RECURRENCE = RecurrenceConfig(
    grid=(4, 4, 2), least_m=(3.0, 3.0, 2.0), channels=32, volume=16, blocks=1, dim=64
)


def small_bevdepth() -> BevDepthConfig:
    """A view of 64 x 64 cells of 1 m from stride-16 features, three frames.

    The synthetic world has its objects within 32 m. Where in a cell something lies is kept, and heads see the
    view itself: what a small encoder's half resolution lacks, with few channels, is place.
    """
    return BevDepthConfig(
        image_encoder(),
        CLASSES,
        point_range=(-32.0, -32.0, -5.0, 32.0, 32.0, 3.0),
        cell_m=1.0,
        depths_m=(1.0, 61.0, 1.5),
        lifted_level=1,
        pixel_centres=True,
        cell_offsets=True,
        context=16,
        depth_hidden=32,
        depth_blocks=1,
        frames=3,
        bev_channels=32,
        full_resolution=True,
        head=_SMALL_HEAD,
    )


def small_dort() -> DortConfig:
    """The same with a recurrence of three turns over small volumes, looking at stride 8."""
    base = small_bevdepth()
    sizes = {field.name: getattr(base, field.name) for field in fields(base)}
    return DortConfig(**sizes, recurrence=_SMALL_RECURRENCE)


# All of a DETR3D, which stays as it was trained.
_DETR3D = tuple(
    f"detector.{part}"
    for part in (
        "image_encoder",
        "query_embedding",
        "reference_points",
        "layers",
        "class_branches",
        "box_branches",
    )
)


def _small_training(objectives: tuple[ObjectiveConfig, ...]) -> TrainingConfig:
    """Streams: a frame a step, with what is remembered of the steps before.

    Steps are small, because frames are what CPU hours lack; scenes come in short parts, so that they differ.
    """
    return TrainingConfig(
        steps=12000,
        data=DataConfig(clip_length=1, batch_size=2, sampling="streams", scene_parts=5),
        optimiser=OptimiserConfig(
            learning_rate=1.5e-3, backbone_scale=1.0, warmup_steps=100, warmup_start=0.05, final_scale=0.01
        ),
        strategy=RefinedCandidatesConfig(),
        unroll=UnrollConfig(objectives=objectives, frozen=("detector.image_encoder",)),
        ema=0.999,
        checkpoint_every=500,
        log_every=25,
    )


def bevdepth_synthetic() -> Recipe:
    """BEVDepth, small; start it from `detr3d_synthetic` (backbone and neck fit)."""
    return Recipe(
        "bevdepth_synthetic",
        "BEVDepth, small, streams of the synthetic world, frozen encoder",
        small_model(small_bevdepth(), SingleFrameConfig()),
        _small_training(_SMALL),
        starts_from="detr3d_synthetic (backbone and neck)",
    )


def dort_synthetic() -> Recipe:
    """DORT, small; start it from `bevdepth_synthetic`."""
    return Recipe(
        "dort_synthetic",
        "DORT (recurrence reconstructed), small, streams of the synthetic world, tracked by nearest centres",
        small_model(small_dort(), GreedyConfig(min_score=0.2)),
        _small_training((*_SMALL, ObjectCopiesConfig())),
        starts_from="bevdepth_synthetic",
    )


def dort_detr3d_synthetic() -> Recipe:
    """The recurrence on a DETR3D that stays as it is: it learns to refine, and how fast things are."""
    base = detr3d_synthetic_plain().model.detector
    sizes = {field.name: getattr(base, field.name) for field in fields(cast(Detr3dConfig, base))}
    detector = DortDetr3dConfig(**sizes, recurrence=_SMALL_RECURRENCE, frames=3, refined=48, min_score=0.05)
    training = _small_training(())
    whole = replace(
        training,
        steps=2000,
        data=replace(training.data, batch_size=4, scene_parts=1),
        optimiser=replace(training.optimiser, learning_rate=1e-3),
        unroll=replace(training.unroll, frozen=_DETR3D),
    )
    return Recipe(
        "dort_detr3d_synthetic",
        "DORT's recurrence (reconstructed) on DETR3D, small, streams of the synthetic world, detector frozen",
        small_model(detector, GreedyConfig()),
        whole,
        starts_from="detr3d_synthetic_plain",
    )
