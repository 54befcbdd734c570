"""Detector and tracker trained at once, from the image backbone alone (method, table 8).

Two of each: as they are, and with two class heads as OneTrack has it, which SynCL trains too. They train for
24 epochs, as long as the two stages of the trackers they are compared with. The paper does not give auxiliary
losses: StreamPETR keeps what its detector is trained with, denoising queries and the auxiliary image head.
"""

from dataclasses import replace
from typing import cast

from syncl.detectors import FocalHeadConfig, StreamPetrConfig
from syncl.recipes.pf_track import pf_track_petr_v99_320x800
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import VOVNET_FILE, steps
from syncl.recipes.streampetr import mutr3d_streampetr_v99_320x800
from syncl.recipes.synthetic_trackers import small_tracker
from syncl.trackers import Mutr3dConfig, PfTrackConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.strategies.syncl.strategy import SynclConfig


def in_one_stage(recipe: Recipe, starts_from: str, paper: PaperResult | None) -> Recipe:
    """The recipe without the detector's own training before it."""
    model, training = recipe.model, recipe.training
    if "synthetic" not in recipe.name:
        training = replace(training, steps=steps(24))
    if isinstance(model.detector, StreamPetrConfig):
        model = replace(model, detector=replace(model.detector, focal_head=FocalHeadConfig()))
        training = replace(training, unroll=replace(training.unroll, denoising=DenoisingConfig()))
    return replace(
        recipe,
        name=f"{recipe.name}_one_stage",
        summary=f"{recipe.summary}, detector and tracker at once",
        model=model,
        training=training,
        starts_from=starts_from,
        paper=paper,
        strategies={},
    )


def _two_heads(
    recipe: Recipe, starts_from: str, paper: PaperResult | None, syncl: PaperResult | None
) -> Recipe:
    """The same with a class head for tracking beside the detector's; with SynCL as the recipe has it."""
    base = in_one_stage(recipe, starts_from, paper)
    tracker = cast(Mutr3dConfig | PfTrackConfig, base.model.tracker)
    two_heads = replace(
        base,
        name=f"{base.name}_two_heads",
        summary=f"{base.summary}, two class heads",
        model=replace(base.model, tracker=replace(tracker, tracking_head=True)),
    )
    return with_syncl(two_heads, cast(SynclConfig, recipe.strategies["syncl"].config), syncl)


def _table_8(amota: float, amotp: float, nds: float, mean_ap: float) -> PaperResult:
    return PaperResult("SynCL, table 8", amota=amota, amotp=amotp, nds=nds, map=mean_ap)


def pf_track_petr_v99_320x800_one_stage() -> Recipe:
    """PF-Track on PETR in one stage."""
    return in_one_stage(pf_track_petr_v99_320x800(), VOVNET_FILE, _table_8(36.5, 1.411, 46.2, 36.9))


def pf_track_petr_v99_320x800_one_stage_two_heads() -> Recipe:
    """The same with two class heads."""
    plain, syncl = _table_8(37.8, 1.380, 47.3, 37.7), _table_8(42.4, 1.347, 48.9, 38.4)
    return _two_heads(pf_track_petr_v99_320x800(), VOVNET_FILE, plain, syncl)


def mutr3d_streampetr_v99_320x800_one_stage() -> Recipe:
    """MUTR3D on StreamPETR in one stage."""
    return in_one_stage(mutr3d_streampetr_v99_320x800(), VOVNET_FILE, _table_8(43.8, 1.265, 53.6, 45.1))


def mutr3d_streampetr_v99_320x800_one_stage_two_heads() -> Recipe:
    """The same with two class heads."""
    plain, syncl = _table_8(45.3, 1.237, 55.9, 46.4), _table_8(48.1, 1.204, 56.8, 47.0)
    return _two_heads(mutr3d_streampetr_v99_320x800(), VOVNET_FILE, plain, syncl)


def pf_track_petr_synthetic_one_stage() -> Recipe:
    """Small PF-Track on PETR in one stage."""
    return in_one_stage(small_tracker("pf-track", "petr"), "", None)


def pf_track_petr_synthetic_one_stage_two_heads() -> Recipe:
    """The same with two class heads."""
    return _two_heads(small_tracker("pf-track", "petr"), "", None, None)
