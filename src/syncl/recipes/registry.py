"""All recipes by name."""

from collections.abc import Callable

from syncl.errors import SynclError
from syncl.recipes import (
    detr3d,
    one_stage,
    petr,
    petrv2,
    pf_track,
    streampetr,
    synthetic,
    synthetic_trackers,
)
from syncl.recipes.recipe import Recipe

_FUNCTIONS: tuple[Callable[[], Recipe], ...] = (
    synthetic.detr3d_synthetic,
    synthetic.petr_synthetic,
    synthetic.petrv2_synthetic,
    synthetic.streampetr_synthetic,
    synthetic_trackers.mutr3d_detr3d_synthetic,
    synthetic_trackers.mutr3d_detr3d_synthetic_syncl,
    synthetic_trackers.mutr3d_detr3d_synthetic_long_syncl,
    synthetic_trackers.mutr3d_petr_synthetic,
    synthetic_trackers.mutr3d_petr_synthetic_syncl,
    synthetic_trackers.mutr3d_petrv2_synthetic,
    synthetic_trackers.mutr3d_petrv2_synthetic_syncl,
    synthetic_trackers.mutr3d_streampetr_synthetic,
    synthetic_trackers.mutr3d_streampetr_synthetic_syncl,
    synthetic_trackers.pf_track_detr3d_synthetic,
    synthetic_trackers.pf_track_detr3d_synthetic_syncl,
    synthetic_trackers.pf_track_petr_synthetic,
    synthetic_trackers.pf_track_petr_synthetic_syncl,
    synthetic_trackers.pf_track_petrv2_synthetic,
    synthetic_trackers.pf_track_petrv2_synthetic_syncl,
    synthetic_trackers.pf_track_streampetr_synthetic,
    synthetic_trackers.pf_track_streampetr_synthetic_syncl,
    detr3d.detr3d_r101_900x1600,
    detr3d.detr3d_r101_900x1600_q300,
    detr3d.mutr3d_detr3d_r101_900x1600,
    detr3d.mutr3d_detr3d_r101_900x1600_syncl,
    petr.petr_v99_320x800,
    petr.petr_v99_640x1600,
    petr.petr_v99_320x800_q500,
    petr.petr_v99_640x1600_q500,
    petr.mutr3d_petr_v99_320x800,
    petr.mutr3d_petr_v99_320x800_syncl,
    petr.mutr3d_petr_v99_640x1600,
    petr.mutr3d_petr_v99_640x1600_syncl,
    pf_track.pf_track_petr_v99_320x800,
    pf_track.pf_track_petr_v99_320x800_syncl,
    pf_track.pf_track_petr_v99_640x1600,
    pf_track.pf_track_petr_v99_640x1600_syncl,
    petrv2.petrv2_v99_320x800,
    petrv2.petrv2_v99_640x1600,
    petrv2.petrv2_v99_320x800_q500,
    pf_track.pf_track_petrv2_v99_320x800,
    pf_track.pf_track_petrv2_v99_320x800_syncl,
    streampetr.streampetr_r50_256x704,
    streampetr.streampetr_r50_256x704_q428,
    streampetr.streampetr_r50_256x704_window,
    streampetr.streampetr_v99_320x800,
    streampetr.streampetr_v99_640x1600,
    streampetr.mutr3d_streampetr_v99_320x800,
    streampetr.mutr3d_streampetr_v99_320x800_syncl,
    streampetr.mutr3d_streampetr_v99_640x1600_syncl,
    one_stage.pf_track_petr_synthetic_one_stage,
    one_stage.pf_track_petr_synthetic_one_stage_two_heads,
    one_stage.pf_track_petr_synthetic_one_stage_two_heads_syncl,
    one_stage.pf_track_petr_v99_320x800_one_stage,
    one_stage.pf_track_petr_v99_320x800_one_stage_two_heads,
    one_stage.pf_track_petr_v99_320x800_one_stage_two_heads_syncl,
    one_stage.mutr3d_streampetr_v99_320x800_one_stage,
    one_stage.mutr3d_streampetr_v99_320x800_one_stage_two_heads,
    one_stage.mutr3d_streampetr_v99_320x800_one_stage_two_heads_syncl,
)

# PF-Track's name has a hyphen, which Python's names cannot have.
RECIPES: dict[str, Callable[[], Recipe]] = {
    function.__name__.replace("pf_track", "pf-track"): function for function in _FUNCTIONS
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        SynclError: if there is none, with the names there are.
    """
    if name not in RECIPES:
        raise SynclError(f"there is no recipe {name!r}; recipes: {', '.join(RECIPES)}")
    return RECIPES[name]()
