"""Argoverse 2: its 26 classes, seven ring cameras and 150 m, ten frames a second; full size and small.

Numbers that no paper of these detectors gives are ours and say so; nothing was trained on the real data here.
"""

from dataclasses import replace
from typing import cast

from syncl.data.argoverse2.argoverse2_classes import CLASSES
from syncl.data.argoverse2.log_folders import RING_CAMERAS
from syncl.detectors import Detr3dConfig, StreamPetrConfig
from syncl.detectors.reference_range import PointRange
from syncl.recipes.recipe import Recipe, with_syncl
from syncl.recipes.streampetr import mutr3d_streampetr_v99_640x1600, streampetr_v99_640x1600
from syncl.recipes.synthetic_plain import mutr3d_detr3d_synthetic_any_rig
from syncl.trackers import Mutr3dConfig, SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

# A little more than the 150 m that are scored; rays end and objects are reported 10 m farther out still, as
# on nuScenes. The ego frame's origin is at the rear axle.
_RANGE: PointRange = (-152.4, -152.4, -5.0, 152.4, 152.4, 5.0)
_RAYS: PointRange = (-162.4, -162.4, -10.0, 162.4, 162.4, 10.0)
# Ten frames a second, not two: as long as on nuScenes takes five times as many of them.
_FRAMES_FOR_ONE = 5


def _seen_far(recipe: Recipe, name: str, summary: str) -> Recipe:
    """A full-size StreamPETR of nuScenes, for Argoverse 2. Its steps are six epochs here, and 24 there."""
    detector = cast(StreamPetrConfig, recipe.model.detector)
    tracker = cast(SingleFrameConfig | Mutr3dConfig, recipe.model.tracker)
    if isinstance(tracker, Mutr3dConfig):
        tracker = replace(tracker, miss_tolerance=_FRAMES_FOR_ONE * tracker.miss_tolerance)
    model = ModelConfig(
        InputConfig((640, 960), RING_CAMERAS, vehicle_frame="ego", exact_resize=False),
        replace(detector, classes=CLASSES, point_range=_RANGE, position_range=_RAYS),
        replace(tracker, output_range_m=_RAYS[3]),
    )
    return replace(recipe, name=name, summary=summary, model=model, paper=None)


def streampetr_v99_640x960_argoverse2() -> Recipe:
    """StreamPETR on VoVNet-99 for Argoverse 2, streaming."""
    return _seen_far(
        streampetr_v99_640x1600(),
        "streampetr_v99_640x960_argoverse2",
        "StreamPETR for Argoverse 2, VoVNet-99, 26 classes, 150 m, streaming",
    )


def mutr3d_streampetr_v99_640x960_argoverse2() -> Recipe:
    """MUTR3D on it, clips of three frames."""
    base = mutr3d_streampetr_v99_640x1600()
    recipe = _seen_far(
        base,
        "mutr3d_streampetr_v99_640x960_argoverse2",
        "MUTR3D on StreamPETR for Argoverse 2, VoVNet-99, 26 classes, 150 m, clips of three frames",
    )
    recipe = replace(recipe, starts_from="streampetr_v99_640x960_argoverse2")
    return with_syncl(recipe, cast(SynclConfig, base.strategies["syncl"].config))


def mutr3d_detr3d_synthetic_argoverse2() -> Recipe:
    """The small MUTR3D for any rig with Argoverse 2's classes, on the synthetic world in its layout.

    Its range stays the small models', 51 m, which the reference points of `any-rig` go by.
    """
    base = mutr3d_detr3d_synthetic_any_rig()
    detector = cast(Detr3dConfig, base.model.detector)
    tracker = cast(Mutr3dConfig, base.model.tracker)
    tracker = replace(tracker, miss_tolerance=_FRAMES_FOR_ONE * tracker.miss_tolerance)
    return replace(
        base,
        name="mutr3d_detr3d_synthetic_argoverse2",
        summary="MUTR3D on DETR3D, small, Argoverse 2's 26 classes, the synthetic world in its layout",
        model=replace(base.model, detector=replace(detector, classes=CLASSES), tracker=tracker),
        starts_from="the model any-rig (classes that are alike keep its rows)",
    )
