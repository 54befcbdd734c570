"""Small recipes for the synthetic world: the full-size classes with smaller numbers.

They have the auxiliary image head and lifted queries, without which detection does not get off the ground in
CPU hours, and see 128 x 352 images. A detector comes first, on single frames; trackers start from it.
"""

from dataclasses import replace

from syncl.backbones import FpnConfig, ResNetConfig
from syncl.data.augmentation import Augmentation
from syncl.detectors import (
    DetectorConfig,
    Detr3dConfig,
    ImageEncoderConfig,
    PetrConfig,
    Petrv2Config,
    ProposalConfig,
    StreamPetrConfig,
)
from syncl.detectors.base import PointRange
from syncl.recipes.recipe import Recipe
from syncl.trackers import Mutr3dConfig, PfTrackConfig, SingleFrameConfig, TrackerConfig
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.denoising import DenoisingConfig
from syncl.training.losses import LossConfig
from syncl.training.reasoning_losses import ReasoningLossConfig
from syncl.training.strategies import BaselineConfig, StrategyConfig
from syncl.training.syncl.config import SynclConfig
from syncl.training.unroll import UnrollConfig

# Tracked classes first, as PF-Track numbers them.
CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "construction_vehicle",
    "traffic_cone",
    "barrier",
)
IMAGE_SIZE = (128, 352)
DIM = 128
QUERIES = 96
# The PETR family attends stride 16: a quarter of the tokens of stride 8, where proposals are looked for.
ATTENDED_LEVEL = 1
RANGE: PointRange = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)

# Training looks more like tracking: as many false tracks as true ones, unsure queries forgotten, tracks that
# ended far off let go. Without that, a small model's tracks outlive their objects.
CLIP_NOISE = ClipNoise(drop_probability=0.2, carry_score=0.25, false_positive_ratio=1.0)
RELEASE_M = 2.0

# Mirroring doubles the data at no cost. Turning and scaling the world, which full-size recipes do, slowed the
# small models down more than it helped them.
AUGMENTATION = Augmentation(resize_range=(1.0, 1.0), mirror_probability=0.5)
# Where an object stands counts double; velocity counts fully once clips show it.
DETECTOR_LOSS = LossConfig(code_weights=(2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2))
TRACKER_LOSS = LossConfig(code_weights=(2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))


def image_encoder() -> ImageEncoderConfig:
    """A small residual net and a pyramid of `DIM` channels, strides 8, 16, 32; the same for all detectors."""
    backbone = ResNetConfig(
        depth=None,
        blocks=(1, 2, 2, 2),
        stem_width=24,
        widths=(24, 48, 96, 128),
    )
    return ImageEncoderConfig(backbone, FpnConfig(out_channels=DIM))


def small_detr3d() -> Detr3dConfig:
    """DETR3D with three decoder layers."""
    return Detr3dConfig(
        image_encoder(),
        CLASSES,
        queries=QUERIES,
        dim=DIM,
        heads=4,
        layers=3,
        hidden=256,
        dropout=0.0,
        point_range=RANGE,
        proposals=ProposalConfig(count=64),
        lifted_tracks=True,
    )


def small_petr() -> PetrConfig:
    """PETR with three decoder layers, attending stride-16 tokens."""
    return PetrConfig(
        image_encoder(),
        CLASSES,
        queries=QUERIES,
        dim=DIM,
        heads=4,
        layers=3,
        hidden=256,
        dropout=0.0,
        point_range=RANGE,
        proposals=ProposalConfig(count=64),
        attended_level=ATTENDED_LEVEL,
        lifted_tracks=True,
    )


def small_petrv2() -> Petrv2Config:
    """PETRv2 with three decoder layers, attending stride-16 tokens of two frames."""
    return Petrv2Config(
        image_encoder(),
        CLASSES,
        queries=QUERIES,
        dim=DIM,
        heads=4,
        layers=3,
        hidden=256,
        dropout=0.0,
        point_range=RANGE,
        proposals=ProposalConfig(count=64),
        attended_level=ATTENDED_LEVEL,
        lifted_tracks=True,
    )


def small_streampetr() -> StreamPetrConfig:
    """StreamPETR with three decoder layers and a memory of four frames, attending stride-16 tokens."""
    return StreamPetrConfig(
        image_encoder(),
        CLASSES,
        queries=QUERIES,
        propagated=32,
        memory_slots=128,
        objects_a_frame=32,
        dim=DIM,
        heads=4,
        layers=3,
        hidden=256,
        dropout=0.0,
        point_range=RANGE,
        proposals=ProposalConfig(count=64),
        attended_level=ATTENDED_LEVEL,
        lifted_tracks=True,
    )


def small_mutr3d() -> Mutr3dConfig:
    """MUTR3D's propagation with fewer heads."""
    return Mutr3dConfig(
        heads=4,
        hidden=DIM,
        max_tracks=80,
        drop_probability=CLIP_NOISE.drop_probability,
        carry_score=CLIP_NOISE.carry_score,
        false_positive_ratio=CLIP_NOISE.false_positive_ratio,
    )


def small_pf_track() -> PfTrackConfig:
    """PF-Track's reasoning with fewer heads and hidden channels."""
    return PfTrackConfig(
        heads=4,
        hidden=256,
        dropout=0.0,
        max_tracks=80,
        drop_probability=CLIP_NOISE.drop_probability,
        carry_score=CLIP_NOISE.carry_score,
        false_positive_ratio=CLIP_NOISE.false_positive_ratio,
    )


def _model(detector: DetectorConfig, tracker: TrackerConfig) -> ModelConfig:
    return ModelConfig(InputConfig(IMAGE_SIZE, exact_resize=False), detector, tracker)


def _detector_training(steps: int) -> TrainingConfig:
    return TrainingConfig(
        steps=steps,
        data=DataConfig(clip_length=1, batch_size=2, augmentation=AUGMENTATION),
        optimiser=OptimiserConfig(
            learning_rate=8e-4, backbone_scale=1.0, warmup_steps=200, warmup_start=0.05, final_scale=0.01
        ),
        strategy=BaselineConfig(loss=DETECTOR_LOSS),
        ema=0.999,
        checkpoint_every=500,
        log_every=25,
    )


def _tracker_training(steps: int, strategy: StrategyConfig) -> TrainingConfig:
    return TrainingConfig(
        steps=steps,
        data=DataConfig(clip_length=3, batch_size=2, augmentation=AUGMENTATION),
        optimiser=OptimiserConfig(
            learning_rate=4e-4, backbone_scale=0.25, warmup_steps=100, warmup_start=0.05, final_scale=0.01
        ),
        strategy=strategy,
        ema=0.999,
        checkpoint_every=250,
        log_every=25,
    )


def detr3d_synthetic() -> Recipe:
    """The single-frame detector that synthetic trackers start from."""
    return Recipe(
        "detr3d_synthetic",
        "DETR3D, small, single frames of the synthetic world",
        _model(small_detr3d(), SingleFrameConfig()),
        _detector_training(15000),
    )


def petr_synthetic() -> Recipe:
    """PETR, small; start it from `detr3d_synthetic` (backbone, neck and image head fit)."""
    return Recipe(
        "petr_synthetic",
        "PETR, small, single frames of the synthetic world",
        _model(small_petr(), SingleFrameConfig()),
        _detector_training(15000),
        starts_from="detr3d_synthetic (backbone, neck and image head)",
    )


def petrv2_synthetic() -> Recipe:
    """PETRv2, small, on pairs of frames; start it from `detr3d_synthetic`."""
    base = _detector_training(15000)
    return Recipe(
        "petrv2_synthetic",
        "PETRv2, small, pairs of frames of the synthetic world",
        _model(small_petrv2(), SingleFrameConfig()),
        replace(
            base,
            data=replace(base.data, clip_length=1, sampling="pairs"),
            strategy=BaselineConfig(loss=TRACKER_LOSS),
        ),
        starts_from="detr3d_synthetic (backbone, neck and image head)",
    )


def streampetr_synthetic() -> Recipe:
    """StreamPETR, small, streaming; start it from `detr3d_synthetic`."""
    base = _detector_training(15000)
    return Recipe(
        "streampetr_synthetic",
        "StreamPETR, small, streams of the synthetic world",
        _model(small_streampetr(), SingleFrameConfig()),
        replace(
            base,
            data=replace(
                base.data,
                sampling="streams",
                augmentation=replace(AUGMENTATION, mirror_probability=0.0, each_frame=True),
            ),
            strategy=BaselineConfig(loss=TRACKER_LOSS),
            unroll=UnrollConfig(denoising=DenoisingConfig(groups=3)),
        ),
        starts_from="detr3d_synthetic (backbone, neck and image head)",
    )


def mutr3d_detr3d_synthetic() -> Recipe:
    """MUTR3D on DETR3D, baseline strategy."""
    return Recipe(
        "mutr3d_detr3d_synthetic",
        "MUTR3D on DETR3D, small, clips of three frames of the synthetic world",
        _model(small_detr3d(), small_mutr3d()),
        _tracker_training(3000, BaselineConfig(loss=TRACKER_LOSS, release_m=RELEASE_M)),
        starts_from="detr3d_synthetic",
    )


def mutr3d_detr3d_synthetic_syncl() -> Recipe:
    """MUTR3D on DETR3D, trained with SynCL; `syncl demo` has a model of this kind."""
    return _with_syncl(mutr3d_detr3d_synthetic())


def mutr3d_detr3d_synthetic_long_syncl() -> Recipe:
    """The last stage of the model of `syncl demo`: clips of five frames, the image encoder as it is.

    Clips of five frames show more tracks that end than clips of three do.
    """
    base = mutr3d_detr3d_synthetic_syncl()
    training = base.training
    return replace(
        base,
        name="mutr3d_detr3d_synthetic_long_syncl",
        summary="MUTR3D on DETR3D, small, clips of five frames, encoder frozen, trained with SynCL",
        training=replace(
            training,
            steps=1700,
            data=replace(training.data, clip_length=5),
            unroll=UnrollConfig(frozen=("detector.image_encoder",)),
        ),
        starts_from="mutr3d_detr3d_synthetic_syncl, or detr3d_synthetic",
    )


def _mutr3d(name: str, detector: DetectorConfig) -> Recipe:
    """MUTR3D on a detector of the PETR family, baseline strategy."""
    kind = name.lower()
    return replace(
        mutr3d_detr3d_synthetic(),
        name=f"mutr3d_{kind}_synthetic",
        summary=f"MUTR3D on {name}, small, clips of three frames of the synthetic world",
        model=_model(detector, small_mutr3d()),
        starts_from=f"{kind}_synthetic",
    )


def _with_syncl(base: Recipe) -> Recipe:
    """The same, trained with SynCL."""
    return replace(
        base,
        name=f"{base.name}_syncl",
        summary=f"{base.summary}, trained with SynCL",
        training=replace(base.training, strategy=SynclConfig(loss=TRACKER_LOSS, release_m=RELEASE_M)),
    )


def mutr3d_petr_synthetic() -> Recipe:
    """MUTR3D on PETR, baseline strategy."""
    return _mutr3d("PETR", small_petr())


def mutr3d_petr_synthetic_syncl() -> Recipe:
    """MUTR3D on PETR, trained with SynCL."""
    return _with_syncl(mutr3d_petr_synthetic())


def mutr3d_petrv2_synthetic() -> Recipe:
    """MUTR3D on PETRv2, baseline strategy."""
    return _mutr3d("PETRv2", small_petrv2())


def mutr3d_petrv2_synthetic_syncl() -> Recipe:
    """MUTR3D on PETRv2, trained with SynCL."""
    return _with_syncl(mutr3d_petrv2_synthetic())


def mutr3d_streampetr_synthetic() -> Recipe:
    """MUTR3D on StreamPETR, baseline strategy."""
    return _mutr3d("StreamPETR", small_streampetr())


def mutr3d_streampetr_synthetic_syncl() -> Recipe:
    """MUTR3D on StreamPETR, trained with SynCL."""
    return _with_syncl(mutr3d_streampetr_synthetic())


def _with_pf_track(base: Recipe) -> Recipe:
    """A MUTR3D recipe's detector and training with PF-Track."""
    reasoning = ReasoningLossConfig(refined=TRACKER_LOSS)
    return replace(
        base,
        name=base.name.replace("mutr3d", "pf-track"),
        summary=base.summary.replace("MUTR3D", "PF-Track"),
        model=replace(base.model, tracker=small_pf_track()),
        training=replace(base.training, unroll=replace(base.training.unroll, reasoning=reasoning)),
    )


def pf_track_detr3d_synthetic() -> Recipe:
    """PF-Track on DETR3D, baseline strategy."""
    return _with_pf_track(mutr3d_detr3d_synthetic())


def pf_track_detr3d_synthetic_syncl() -> Recipe:
    """PF-Track on DETR3D, trained with SynCL."""
    return _with_pf_track(mutr3d_detr3d_synthetic_syncl())


def pf_track_petr_synthetic() -> Recipe:
    """PF-Track on PETR, baseline strategy."""
    return _with_pf_track(mutr3d_petr_synthetic())


def pf_track_petr_synthetic_syncl() -> Recipe:
    """PF-Track on PETR, trained with SynCL."""
    return _with_pf_track(mutr3d_petr_synthetic_syncl())


def pf_track_petrv2_synthetic() -> Recipe:
    """PF-Track on PETRv2, baseline strategy."""
    return _with_pf_track(mutr3d_petrv2_synthetic())


def pf_track_petrv2_synthetic_syncl() -> Recipe:
    """PF-Track on PETRv2, trained with SynCL."""
    return _with_pf_track(mutr3d_petrv2_synthetic_syncl())


def pf_track_streampetr_synthetic() -> Recipe:
    """PF-Track on StreamPETR, baseline strategy."""
    return _with_pf_track(mutr3d_streampetr_synthetic())


def pf_track_streampetr_synthetic_syncl() -> Recipe:
    """PF-Track on StreamPETR, trained with SynCL."""
    return _with_pf_track(mutr3d_streampetr_synthetic_syncl())


def frozen_encoder(recipe: Recipe) -> Recipe:
    """The recipe with its image encoder kept as it is: steps become much cheaper."""
    unroll = replace(recipe.training.unroll, frozen=("detector.image_encoder",))
    return replace(recipe, training=replace(recipe.training, unroll=unroll))
