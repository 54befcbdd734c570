"""Full-size STAR-Track on DETR3D and PETR: MUTR3D's recipes with STAR-Track's parts in the place of MUTR3D's.

The paper's schedule is not public. As in ADA-Track's set-up on DETR3D, whose table has its results, the image
encoder stays as the detector left it; MUTR3D's figure to compare with is then the 32.1 of SynCL's table.
"""

from dataclasses import replace
from typing import cast

from syncl.recipes.detr3d import mutr3d_detr3d_r101_900x1600
from syncl.recipes.petr import mutr3d_petr_v99_640x1600
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.trackers import Mutr3dConfig, StarTrackConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import UnrollConfig


def _star_track(base: Recipe, paper: PaperResult | None) -> Recipe:
    life = cast(Mutr3dConfig, base.model.tracker)
    recipe = replace(
        base,
        name=base.name.replace("mutr3d", "star-track"),
        summary=f"{base.summary.replace('MUTR3D', 'STAR-Track')}, encoder frozen",
        model=replace(base.model, tracker=StarTrackConfig(longest_gap_s=life.longest_gap_s)),
        training=replace(base.training, unroll=UnrollConfig(frozen=("detector.image_encoder",))),
        paper=paper,
        strategies={},
    )
    return with_syncl(recipe, cast(SynclConfig, base.strategies["syncl"].config))


def star_track_detr3d_r101_900x1600() -> Recipe:
    """STAR-Track on DETR3D."""
    paper = PaperResult("STAR-Track (in ADA-Track's table 1; not verified)", 37.9, 1.358, 50.1, 36.0, 372)
    return _star_track(mutr3d_detr3d_r101_900x1600(), paper)


def star_track_petr_v99_640x1600() -> Recipe:
    """STAR-Track on PETR, of which only results on the test split are published."""
    return _star_track(mutr3d_petr_v99_640x1600(), None)
