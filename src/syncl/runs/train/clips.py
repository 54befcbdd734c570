"""The clips that a recipe trains on, from a nuScenes-format dataset."""

import numpy as np

from syncl.data.features import FeatureStore
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.choices import ClipChoice, SlidingWindow
from syncl.data.nuscenes.clips.dataset import ClipDataset, choose_cameras
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.past.sources import PastKeyFrames, PastSource, PastSweeps, has_sweeps
from syncl.data.past_images import PastImages
from syncl.data.stream_clips import StreamDataset, scene_parts
from syncl.errors import SynclError
from syncl.recipes import Recipe
from syncl.runs.track.scenes import image_options

# Of a forecast's step; nearer times count as on time in tracking, too.
_UNPUNCTUAL = 0.2


def training_clips(
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    recipe: Recipe,
    features: FeatureStore | None = None,
    future_frames: int = 0,
) -> ClipDataset | StreamDataset:
    """The clips a recipe trains on.

    Args:
        index: of the dataset.
        scenes: their names.
        recipe: how they are sampled and what of them is ground truth.
        features: of a frozen image encoder; None = images are read.
        future_frames: how many frames behind each the annotations tell of (`Tracker.future_frames`).

    Raises:
        SynclError: if the recipe's sampling does not go with its clip length, or scenes are too short.
    """
    training, data = recipe.training, recipe.training.data
    if data.sampling == "pairs" and data.clip_length != 1:
        raise SynclError(f"training.data.clip_length={data.clip_length}: must be 1 with sampling 'pairs'")
    if data.sampling == "streams" and training.unroll.context_frames:
        raise SynclError(
            f"training.unroll.context_frames={training.unroll.context_frames}: must be 0 with sampling "
            "'streams', whose states last from step to step"
        )
    augmentation = data.augmentation
    if data.sampling == "streams" and augmentation is not None and not augmentation.each_frame:
        raise SynclError(
            "training.data.augmentation: with sampling 'streams' a scene's steps would each have a world of "
            "their own; set each_frame to true and mirror_probability to 0, or the augmentation to null"
        )
    if training.unroll.poses_ahead and augmentation is not None and augmentation.each_frame:
        raise SynclError(
            "training.data.augmentation.each_frame=true: must be false with training.unroll.poses_ahead, "
            "which gives frames the pose of the next, whose world would be turned otherwise"
        )
    choice: ClipChoice | None = None
    if data.sampling == "windows":
        choice = SlidingWindow(index, scenes, data.clip_length, data.spare_frames)
    clips = ClipDataset(
        index,
        scenes,
        clip_length=data.clip_length,
        images=image_options(recipe.model.input),
        annotations=annotation_options(recipe, future_frames),
        augmentation=augmentation,
        seed=training.seed,
        choice=choice,
        features=features,
        past=past_source(index, scenes, recipe),
    )
    if data.sampling != "streams":
        return clips
    lengths = [len(index.scene_samples(scene)) for scene in scenes]
    return StreamDataset(clips, scene_parts(lengths, data.scene_parts, data.clip_length))


def check_frame_times(index: NuScenesIndex, scenes: tuple[str, ...], forecast_step_s: float | None) -> None:
    """Make sure that frames, whose steps forecasts learn, lie as far apart as the tracker takes them to.

    Args:
        index: of the dataset.
        scenes: their names.
        forecast_step_s: see `Tracker.forecast_step_s`.

    Raises:
        SynclError: if frames lie more than a fifth nearer or farther apart (median).
    """
    times_us = index.columns.sample_timestamps_us
    gaps_us = np.concatenate(
        [np.diff(times_us[rows.start : rows.stop]) for rows in map(index.scene_samples, scenes)]
    )
    if forecast_step_s is None or not gaps_us.size:
        return
    apart_s = 1e-6 * float(np.median(gaps_us))
    if abs(apart_s / forecast_step_s - 1) > _UNPUNCTUAL:
        raise SynclError(
            f"{index.dataroot / index.version}: frames lie {apart_s:.3g} s apart (median), and forecasts of "
            f"this tracker take a frame for {forecast_step_s:g} s; set model.tracker.frame_s={apart_s:.3g}"
        )


def past_source(index: NuScenesIndex, scenes: tuple[str, ...], recipe: Recipe) -> PastSource | None:
    """Where the past images of a recipe's frames come from.

    All scenes must have images between key frames for the model to see them, since a batch mixes scenes;
    otherwise pairs are made of key frames, and clips go without, as the detector remembers their frames.

    Raises:
        SynclError: if the recipe's range of key frames makes no sense.
    """
    wanted, data = recipe.model.input.past, recipe.training.data
    cameras = choose_cameras(index, recipe.model.input.cameras)
    if wanted is not None and has_sweeps(index, scenes):
        return PastSweeps(index, cameras, wanted)
    if data.sampling != "pairs":
        return None
    return PastKeyFrames(index, cameras, data.pair_gap, (wanted or PastImages()).repeat_age_s)


def annotation_options(recipe: Recipe, future_frames: int = 0) -> AnnotationOptions:
    """Which annotations are ground truth for a recipe whose tracker wants so many future frames told."""
    detector = recipe.model.detector
    return AnnotationOptions(
        detector.classes,
        detector.point_range,
        min_points=recipe.training.data.min_points,
        future_frames=future_frames,
        depth_stride=recipe.training.data.depth_stride,
        depth_pixel_centres=getattr(detector, "pixel_centres", False),
    )
