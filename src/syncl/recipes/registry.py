"""All recipes by name.

`RECIPES` has the functions; each returns a recipe with a choice of strategies, where it leaves one.
"""

from collections.abc import Callable
from functools import partial

from syncl.errors import SynclError, alike
from syncl.recipes import (
    ada_track,
    association_trackers,
    bevdepth,
    bevformer,
    detr3d,
    for_argoverse2,
    one_stage,
    one_track,
    petr,
    petrv2,
    pf_track,
    star_track,
    streampetr,
    synthetic,
    synthetic_plain,
    synthetic_trackers,
)
from syncl.recipes.recipe import BASELINE, Recipe

_FUNCTIONS: tuple[Callable[[], Recipe], ...] = (
    synthetic.detr3d_synthetic,
    synthetic.petr_synthetic,
    synthetic.petrv2_synthetic,
    synthetic.streampetr_synthetic,
    synthetic.bevformer_synthetic,
    bevdepth.bevdepth_synthetic,
    bevdepth.dort_synthetic,
    bevdepth.dort_detr3d_synthetic,
    synthetic_plain.detr3d_synthetic_plain,
    synthetic_plain.petr_synthetic_plain,
    *(partial(synthetic_trackers.small_tracker, *names) for names in synthetic_trackers.SMALL_TRACKERS),
    synthetic_trackers.mutr3d_detr3d_synthetic_long,
    synthetic_plain.mutr3d_detr3d_synthetic_plain,
    synthetic_plain.mutr3d_detr3d_synthetic_any_rig,
    synthetic_plain.pf_track_petr_synthetic_plain,
    for_argoverse2.mutr3d_detr3d_synthetic_argoverse2,
    *(
        partial(association_trackers.small_dqtrack, detector)
        for detector in synthetic_trackers.SMALL_DETECTORS
    ),
    association_trackers.dqtrack_detr3d_synthetic_end_to_end,
    association_trackers.cc_3dt_detr3d_synthetic,
    association_trackers.cc_3dt_bevformer_synthetic,
    detr3d.detr3d_r101_900x1600,
    detr3d.detr3d_r101_900x1600_q300,
    detr3d.mutr3d_detr3d_r101_900x1600,
    petr.petr_v99_320x800,
    petr.petr_v99_640x1600,
    petr.petr_v99_320x800_q500,
    petr.petr_v99_640x1600_q500,
    petr.mutr3d_petr_v99_320x800,
    petr.mutr3d_petr_v99_640x1600,
    pf_track.pf_track_petr_v99_320x800,
    pf_track.pf_track_petr_v99_640x1600,
    petrv2.petrv2_v99_320x800,
    petrv2.petrv2_v99_640x1600,
    petrv2.petrv2_v99_320x800_q500,
    pf_track.pf_track_petrv2_v99_320x800,
    streampetr.streampetr_r50_256x704,
    streampetr.streampetr_r50_256x704_q428,
    streampetr.streampetr_r50_256x704_window,
    streampetr.streampetr_v99_320x800,
    streampetr.streampetr_v99_640x1600,
    streampetr.mutr3d_streampetr_v99_320x800,
    streampetr.mutr3d_streampetr_v99_640x1600,
    for_argoverse2.streampetr_v99_640x960_argoverse2,
    for_argoverse2.mutr3d_streampetr_v99_640x960_argoverse2,
    bevformer.bevformer_r101_900x1600,
    bevformer.bevformer_r101_720x1280,
    bevformer.bevformer_r50_450x800,
    bevdepth.bevdepth_r50_256x704,
    bevdepth.dort_r50_256x704,
    bevdepth.bevdepth_convnextb_640x1600,
    bevdepth.dort_convnextb_640x1600,
    one_stage.pf_track_petr_synthetic_one_stage,
    one_stage.pf_track_petr_synthetic_one_stage_two_heads,
    one_stage.pf_track_petr_v99_320x800_one_stage,
    one_stage.pf_track_petr_v99_320x800_one_stage_two_heads,
    one_stage.mutr3d_streampetr_v99_320x800_one_stage,
    one_stage.mutr3d_streampetr_v99_320x800_one_stage_two_heads,
    ada_track.ada_track_detr3d_r101_900x1600,
    ada_track.ada_track_petr_v99_640x1600,
    ada_track.ada_track_petr_v99_320x800,
    ada_track.ada_track_plus_petr_v99_640x1600,
    star_track.star_track_detr3d_r101_900x1600,
    star_track.star_track_petr_v99_640x1600,
    association_trackers.dqtrack_petrv2_v99_320x800,
    association_trackers.dqtrack_detr3d_r101_900x1600,
    association_trackers.cc_3dt_bevformer_r101_900x1600,
    one_track.onetrack_petr_v99_320x800,
    one_track.onetrack_streampetr_v99_320x800,
    one_track.onetrack_streampetr_v99_640x1600,
)

RECIPES: dict[str, Callable[[], Recipe]] = {function().name: function for function in _FUNCTIONS}


def recipe_names() -> tuple[str, ...]:
    """All names that `find_recipe` knows: every recipe, behind it those of its further strategies."""
    found = []
    for name, function in RECIPES.items():
        further = (strategy for strategy in function().strategies if strategy != BASELINE)
        found += [name, *(f"{name}_{strategy}" for strategy in further)]
    return tuple(found)


def find_recipe(name: str, strategy: str | None = None) -> Recipe:
    """The recipe of this name with one of its strategies: `NAME_syncl` is `NAME` trained with `syncl`.

    Args:
        name: of a recipe, with or without a strategy at its end.
        strategy: takes the place of the one in the name; None keeps that, or `baseline`.

    Raises:
        SynclError: if there is none, with names that are like it.
    """
    base, _, ending = name.rpartition("_")
    if name in RECIPES:
        base, ending = name, BASELINE
    elif base not in RECIPES or ending == BASELINE or ending not in RECIPES[base]().strategies:
        raise SynclError(f"there is no recipe {name!r}{alike(name, recipe_names())}; syncl recipes lists all")
    recipe = RECIPES[base]()
    return recipe.trained_with(strategy or ending) if recipe.strategies else recipe
