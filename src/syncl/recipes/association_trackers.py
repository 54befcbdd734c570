"""Trackers that associate detections: DQTrack and CC-3DT, full size and small.

Their detectors stay as they were trained, unless a recipe says end to end.
"""

from dataclasses import replace

from syncl.backbones import FpnConfig, ResNetConfig
from syncl.data.augmentation import Augmentation
from syncl.detectors import DetectorConfig, ImageEncoderConfig
from syncl.recipes.bevformer import bevformer_r101_900x1600
from syncl.recipes.detr3d import detr3d_r101_900x1600
from syncl.recipes.petrv2 import petrv2_v99_320x800
from syncl.recipes.recipe import PaperResult, Recipe
from syncl.recipes.settings import TURNED, published_training, steps
from syncl.recipes.synthetic import (
    AUGMENTATION,
    TRACKER_LOSS,
    small_bevformer,
    small_detr3d,
    small_model,
)
from syncl.recipes.synthetic_trackers import SMALL_DETECTORS
from syncl.trackers import Cc3dtConfig, DqTrackConfig
from syncl.trackers.cc_3dt import AppearanceConfig, AssociationConfig, cc_3dt_plus_plus
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.losses import LossConfig
from syncl.training.objectives import DualQueryLossConfig, ObjectiveConfig, SimilarityLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.unroll import UnrollConfig

# The detector is matched, so that it is known which query holds which object, and learns nothing.
_MATCHED_ONLY = BaselineConfig(loss=LossConfig(classification=0.0, box=0.0))
_SMALL_MATCHED_ONLY = BaselineConfig(loss=replace(TRACKER_LOSS, classification=0.0, box=0.0))
# Chosen on a world of its own (docs/tracking.md). As published for other detectors than PETRv2 (0.2, 0.2, 7),
# weak boxes begin tracks that stay where they were for seven frames: 0.06 to 0.13 less AMOTA.
_SMALL_DQTRACK = DqTrackConfig(
    detection_score=0.3, birth_score=0.4, miss_tolerance=2, max_objects=300, heads=4
)
# nuScenes' ego frame begins this far behind its LIDAR_TOP frame, whose y axis looks ahead.
_EGO_IN_LIDAR_M = (0.0, -0.94)


def _beside(*objectives: ObjectiveConfig) -> UnrollConfig:
    """Training of what is beside a detector."""
    return UnrollConfig(objectives=objectives, frozen=("detector",))


def dqtrack_petrv2_v99_320x800() -> Recipe:
    """DQTrack on PETRv2, as published: the detector is frozen, the association trains for five epochs.

    Its images and world are turned and scaled as the detector's are, in one way for a whole clip.
    """
    base = petrv2_v99_320x800()
    training = published_training(5, 3, TURNED, _MATCHED_ONLY)
    optimiser = replace(training.optimiser, learning_rate=1e-5, clip_norm=105.0)
    return Recipe(
        "dqtrack_petrv2_v99_320x800",
        "DQTrack on PETRv2, VoVNet-99, clips of three frames, detector frozen",
        replace(base.model, tracker=DqTrackConfig(range_centre_m=_EGO_IN_LIDAR_M)),
        replace(training, steps=steps(5), optimiser=optimiser, unroll=_beside(DualQueryLossConfig())),
        starts_from=base.name,
        paper=PaperResult("DQTrack", amota=44.6),
    )


def dqtrack_detr3d_r101_900x1600() -> Recipe:
    """DQTrack on DETR3D, as published; images are what they are."""
    base = detr3d_r101_900x1600()
    still = Augmentation(resize_range=(1.0, 1.0))
    training = published_training(5, 3, still, _MATCHED_ONLY)
    optimiser = replace(training.optimiser, learning_rate=1e-5, clip_norm=105.0)
    tracker = DqTrackConfig(detection_score=0.2, max_objects=300, range_centre_m=_EGO_IN_LIDAR_M)
    return Recipe(
        "dqtrack_detr3d_r101_900x1600",
        "DQTrack on DETR3D, ResNet-101 with deformable convolution, clips of three frames, detector frozen",
        replace(base.model, tracker=tracker),
        replace(training, steps=steps(5), optimiser=optimiser, unroll=_beside(DualQueryLossConfig())),
        starts_from=base.name,
        paper=PaperResult("DQTrack, its repository", amota=36.7, amotp=1.351),
    )


def cc_3dt_bevformer_r101_900x1600() -> Recipe:
    """CC-3DT on BEVFormer base, its first release (AMOTA 42.9); the second (43.4, its repository's number) is
    `--set model.tracker.association.swapped_depth_ordering=false`.

    The image network is torchvision's ResNet-101 beside BEVFormer's own. Training is that of what boxes look
    like, by AdamW and not by SGD as published, on the detector's boxes and the annotated ones; VeloLSTM has
    `syncl train-motion`.
    """
    base = bevformer_r101_900x1600()
    backbone = ResNetConfig(depth=101, out_stages=(1, 2, 3, 4), frozen_stages=1, norm="frozen")
    tracker = Cc3dtConfig(
        AssociationConfig(swapped_depth_ordering=True),
        motion="velo_lstm",
        appearance=AppearanceConfig(ImageEncoderConfig(backbone, FpnConfig(256), divisor=32)),
    )
    mirrored = Augmentation(resize_range=(1.0, 1.0), mirror_probability=0.5)
    return Recipe(
        "cc-3dt_bevformer_r101_900x1600",
        "CC-3DT on BEVFormer, appearance by a ResNet-101 of its own, motion by VeloLSTM, detector frozen",
        replace(base.model, tracker=tracker),
        replace(
            published_training(24, 2, mirrored, _MATCHED_ONLY),
            unroll=UnrollConfig(objectives=(SimilarityLossConfig(),), frozen=("detector", "motion")),
        ),
        starts_from=base.name,
        paper=PaperResult("CC-3DT", 42.9, 1.257, 53.4, 38.5, 2219),
    )


def _small_training(clip_length: int, unroll: UnrollConfig, strategy: BaselineConfig) -> TrainingConfig:
    return TrainingConfig(
        steps=1000,
        data=DataConfig(clip_length=clip_length, batch_size=2, augmentation=AUGMENTATION),
        optimiser=OptimiserConfig(
            learning_rate=4e-4, backbone_scale=1.0, warmup_steps=100, warmup_start=0.05, final_scale=0.01
        ),
        strategy=strategy,
        unroll=unroll,
        ema=0.99,
        checkpoint_every=250,
        log_every=25,
    )


def small_dqtrack(detector: str) -> Recipe:
    """DQTrack on a detector of `SMALL_DETECTORS`: `dqtrack_detr3d_synthetic` and its like."""
    name, detector_config, context_frames = SMALL_DETECTORS[detector]
    unroll = replace(_beside(DualQueryLossConfig()), context_frames=context_frames)
    return Recipe(
        f"dqtrack_{detector}_synthetic",
        f"DQTrack on {name}, small, clips of three frames of the synthetic world, detector frozen",
        small_model(detector_config(), _SMALL_DQTRACK),
        _small_training(context_frames + 3, unroll, _SMALL_MATCHED_ONLY),
        starts_from=f"{detector}_synthetic",
    )


def dqtrack_detr3d_synthetic_end_to_end() -> Recipe:
    """DQTrack on DETR3D, which goes on learning with it."""
    base = small_dqtrack("detr3d")
    unroll = UnrollConfig(objectives=(DualQueryLossConfig(),), frozen=("detector.image_encoder",))
    return replace(
        base,
        name=f"{base.name}_end_to_end",
        summary="DQTrack on DETR3D, small, clips of three frames of the synthetic world, end to end",
        training=_small_training(3, unroll, BaselineConfig(loss=TRACKER_LOSS)),
    )


def _small_cc_3dt(name: str, detector: DetectorConfig) -> Recipe:
    """Trains what boxes look like; its Kalman filter needs no training.

    With the settings of CC-3DT++, where appearance counts a quarter and not half: half is too much after a
    short training (docs/tracking.md).
    """
    backbone = ResNetConfig(
        depth=None, blocks=(1, 1, 1, 1), stem_width=16, widths=(16, 32, 64, 64), out_stages=(1, 2, 3, 4)
    )
    looks = AppearanceConfig(
        ImageEncoderConfig(backbone, FpnConfig(32), divisor=32), dim=64, hidden=128, convolutions=2, groups=8
    )
    return Recipe(
        f"cc-3dt_{name.lower()}_synthetic",
        f"CC-3DT on {name}, small, appearance from pairs of frames of the synthetic world, detector frozen",
        small_model(detector, replace(cc_3dt_plus_plus(), appearance=looks)),
        _small_training(2, _beside(SimilarityLossConfig()), _SMALL_MATCHED_ONLY),
        starts_from=f"{name.lower()}_synthetic",
    )


def cc_3dt_detr3d_synthetic() -> Recipe:
    """CC-3DT on DETR3D."""
    return _small_cc_3dt("DETR3D", small_detr3d())


def cc_3dt_bevformer_synthetic() -> Recipe:
    """CC-3DT on BEVFormer."""
    return _small_cc_3dt("BEVFormer", small_bevformer())
