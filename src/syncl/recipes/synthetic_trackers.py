"""Small trackers for the synthetic world, any tracker on any detector, each with both strategies.

They start from the detectors of `synthetic`. Clips have three frames, behind those that fill a detector's
memory; `TRACKER_LOSS` counts velocities fully.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from syncl.detectors import DetectorConfig
from syncl.recipes.recipe import Recipe, with_syncl, with_two_tasks
from syncl.recipes.synthetic import (
    AUGMENTATION,
    RELEASE_M,
    TRACKER_LOSS,
    frozen_encoder,
    small_ada_track,
    small_bevformer,
    small_detr3d,
    small_model,
    small_mutr3d,
    small_one_track,
    small_petr,
    small_petrv2,
    small_pf_track,
    small_star_track,
    small_streampetr,
)
from syncl.trackers import PfTrackConfig, TrackerConfig
from syncl.training.config import DataConfig, OptimiserConfig, TrainingConfig
from syncl.training.objectives.reasoning import ReasoningLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.one_track import TwoTasksConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import UnrollConfig

# The paper gives an object five of 500 and more queries. Of these models' 96, two did better
# (docs/syncl-synthetic.md).
SYNCL = SynclConfig(loss=TRACKER_LOSS, release_m=RELEASE_M, queries_per_object=2)

SMALL_DETECTORS: Mapping[str, tuple[str, Callable[[], DetectorConfig], int]] = {
    "detr3d": ("DETR3D", small_detr3d, 0),
    "petr": ("PETR", small_petr, 0),
    "petrv2": ("PETRv2", small_petrv2, 0),
    "streampetr": ("StreamPETR", small_streampetr, 3),
    "bevformer": ("BEVFormer", small_bevformer, 1),
}
"""By name in recipes: a detector's own name, the detector, and the frames before a clip's three that fill its
memory. A tracker on StreamPETR that had only seen nearly empty ones stayed at AMOTA 0.23, and went on to 0.30
with three.
"""

# By name in recipes: the field's name, the tracker, and the detectors that it has recipes on.
_TRACKERS: Mapping[str, tuple[str, Callable[[], TrackerConfig], tuple[str, ...]]] = {
    "mutr3d": ("MUTR3D", small_mutr3d, tuple(SMALL_DETECTORS)),
    "pf-track": ("PF-Track", small_pf_track, tuple(SMALL_DETECTORS)),
    "ada-track": ("ADA-Track", small_ada_track, ("detr3d", "petr", "petrv2", "streampetr")),
    "star-track": ("STAR-Track", small_star_track, ("detr3d", "petr", "petrv2", "streampetr")),
    # On DETR3D the paper does not have it.
    "onetrack": ("OneTrack", small_one_track, ("detr3d", "petr", "streampetr")),
}

SMALL_TRACKERS: tuple[tuple[str, str], ...] = tuple(
    (tracker, detector) for tracker, (_, _, detectors) in _TRACKERS.items() for detector in detectors
)
"""Names of tracker and detector for each of which `small_tracker` gives a recipe."""


def small_tracker(tracker: str, detector: str) -> Recipe:
    """A tracker on a detector, by their names in `SMALL_TRACKERS`: `mutr3d_detr3d_synthetic` and its like.

    OneTrack too starts from the detector: one stage from nothing takes longer than small recipes have.
    """
    title, tracker_config, _ = _TRACKERS[tracker]
    detector_title, detector_config, context_frames = SMALL_DETECTORS[detector]
    unroll = UnrollConfig(context_frames=context_frames)
    config = tracker_config()
    if isinstance(config, PfTrackConfig):
        unroll = replace(unroll, reasoning=ReasoningLossConfig(refined=TRACKER_LOSS))
    recipe = Recipe(
        f"{tracker}_{detector}_synthetic",
        f"{title} on {detector_title}, small, clips of three frames of the synthetic world",
        small_model(detector_config(), config),
        TrainingConfig(
            steps=3000,
            data=DataConfig(clip_length=context_frames + 3, batch_size=2, augmentation=AUGMENTATION),
            optimiser=OptimiserConfig(
                learning_rate=4e-4, backbone_scale=0.25, warmup_steps=100, warmup_start=0.05, final_scale=0.01
            ),
            strategy=BaselineConfig(loss=TRACKER_LOSS, release_m=RELEASE_M),
            unroll=unroll,
            ema=0.999,
            checkpoint_every=250,
            log_every=25,
        ),
        starts_from=f"{detector}_synthetic",
    )
    recipe = with_syncl(recipe, SYNCL)
    return with_two_tasks(recipe, TwoTasksConfig()) if tracker == "onetrack" else recipe


def mutr3d_detr3d_synthetic_long() -> Recipe:
    """The last stage of an earlier model of `syncl demo`: clips of five frames, the image encoder as it is.

    Clips of five frames show more tracks that end than clips of three do.
    """
    base = frozen_encoder(small_tracker("mutr3d", "detr3d"))
    training = base.training
    return replace(
        base,
        name="mutr3d_detr3d_synthetic_long",
        summary="MUTR3D on DETR3D, small, clips of five frames, encoder frozen",
        training=replace(training, steps=1700, data=replace(training.data, clip_length=5)),
        starts_from="mutr3d_detr3d_synthetic_syncl, or detr3d_synthetic",
    )
