"""Full-size OneTrack on StreamPETR and PETR: one stage, from the image backbone alone.

Two class heads without its mask, coordination and suppression, as SynCL reproduced it, are in `one_stage`.
"""

from dataclasses import replace

from syncl.recipes.one_stage import in_one_stage
from syncl.recipes.petr import mutr3d_petr_v99_320x800
from syncl.recipes.recipe import PaperResult, Recipe, with_two_tasks
from syncl.recipes.settings import VOVNET_FILE
from syncl.recipes.streampetr import mutr3d_streampetr_v99_320x800, mutr3d_streampetr_v99_640x1600
from syncl.trackers import OneTrackConfig
from syncl.training.strategies.one_track import TwoTasksConfig


def _one_track(base: Recipe, paper: PaperResult | None) -> Recipe:
    start = in_one_stage(base, VOVNET_FILE, paper)
    recipe = replace(
        start,
        name=base.name.replace("mutr3d", "onetrack"),
        summary=start.summary.replace("MUTR3D", "OneTrack"),
        model=replace(start.model, tracker=OneTrackConfig()),
        strategies=base.strategies,
    )
    return with_two_tasks(recipe, TwoTasksConfig())


def onetrack_petr_v99_320x800() -> Recipe:
    """OneTrack on PETR at 320 x 800."""
    return _one_track(mutr3d_petr_v99_320x800(), None)


def onetrack_streampetr_v99_320x800() -> Recipe:
    """OneTrack on StreamPETR at 320 x 800."""
    return _one_track(mutr3d_streampetr_v99_320x800(), None)


def onetrack_streampetr_v99_640x1600() -> Recipe:
    """OneTrack as published."""
    return _one_track(
        mutr3d_streampetr_v99_640x1600(),
        PaperResult("OneTrack (in SynCL's table 2)", 54.8, 1.088, 61.8, 47.9, 389),
    )
