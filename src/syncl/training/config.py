"""Settings of a training run."""

from dataclasses import dataclass, field
from typing import Literal

from syncl.data.augmentation import Augmentation
from syncl.training.strategies import BaselineConfig, StrategyConfig
from syncl.training.unroll import UnrollConfig


@dataclass(frozen=True)
class DataConfig:
    """How training samples are drawn.

    Attributes:
        clip_length: T frames a clip; 1 = single-frame detection.
        batch_size: clips a step and process.
        workers: data loading processes; 0 loads in the training process.
        prefetch: batches each worker keeps ready.
        augmentation: of images and world, one draw a clip; None = test-time images.
        min_points: annotations with fewer lidar and radar points are not ground truth.
        sampling: what a clip is.
            `clips`: frames in a row, of one scene.
            `windows`: StreamPETR's sliding window: every frame, behind clip_length - 1 of the frames before.
            `pairs`: PETRv2's: single frames (clip_length 1), each with images of a while ago.
            `streams`: each row of a batch walks through a part of a scene in time order, clip_length frames a
            step, and what is remembered lasts from step to step. Gradients do not. One frame a step is
            StreamPETR's streaming; trackers, which learn across frames, need at least two.
        spare_frames: windows: how many of the frames before are left out at random.
        pair_gap: pairs: how many key frames back the images of a while ago are, fewest and most, where the
            model does not say how to choose among all camera images (`model.input.past`) or the data have
            none between key frames. Choosing among all, the original takes them 0.33 to 2.25 s old; of key
            frames, two a second, 1 to 4 come nearest to that.
        scene_parts: streams: into how many parts a scene is cut.
        depth_stride: side in pixels of the cells of which the lidar's depths are read, for detectors that
            learn to lift (BEVDepth): the stride of the level they lift. 0 leaves them out; depths are then
            those of annotated boxes, as in frames whose lidar file is not there.
        scenes: train on so many scenes of the split, the first; 0 = all.
    """

    clip_length: int = 3
    batch_size: int = 1
    workers: int = 0
    prefetch: int = 2
    augmentation: Augmentation | None = None
    min_points: int = 1
    sampling: Literal["clips", "windows", "pairs", "streams"] = "clips"
    spare_frames: int = 1
    pair_gap: tuple[int, int] = (1, 4)
    scene_parts: int = 2
    depth_stride: int = 0
    scenes: int = 0


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with linear warm-up and a cosine schedule; the defaults are the paper's.

    Attributes:
        learning_rate: peak.
        backbone_scale: the image backbone's learning rate relative to it.
        weight_decay: of all parameters with more than one dimension.
        decay_all: weight decay of biases and norms too, as the originals have it.
        warmup_steps: steps of linear warm-up.
        warmup_start: where it starts, relative to the peak.
        final_scale: where the cosine ends, relative to the peak.
        clip_norm: gradients are clipped to this L2 norm.
    """

    learning_rate: float = 2e-4
    backbone_scale: float = 0.1
    weight_decay: float = 0.01
    decay_all: bool = False
    warmup_steps: int = 500
    warmup_start: float = 1 / 3
    final_scale: float = 1e-3
    clip_norm: float = 35.0


@dataclass(frozen=True)
class TrainingConfig:
    """A run.

    Attributes:
        steps: optimiser steps.
        data: sampling.
        optimiser: optimiser and schedule.
        strategy: baseline, SynCL, or one of your own.
        unroll: auxiliary losses and frozen parts.
        ema: decay of the exponential moving average of weights that is kept as the result; 0 = none.
        precision: `auto` takes bfloat16 where the device has it, else float32.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the latest are kept.
        log_every: steps between log entries.
        validate_every: steps between validations; 0 = none.
        best_by: the figure of validations by which `best.safetensors` is kept: amota, amotp, recall or ids of
            trackers, map or nds of detectors; auto = AMOTA, mAP.
        validation_scenes: how many scenes of the validation split are tracked; 0 = all.
        seed: of weights, data order and augmentation.
    """

    steps: int = 1000
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    strategy: StrategyConfig = field(default_factory=BaselineConfig)
    unroll: UnrollConfig = field(default_factory=UnrollConfig)
    ema: float = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    validate_every: int = 0
    validation_scenes: int = 2
    best_by: Literal["auto", "amota", "amotp", "recall", "ids", "map", "nds"] = "auto"
    seed: int = 0
