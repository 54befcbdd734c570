"""Full-size ADA-Track on DETR3D and PETR, and ADA-Track++ on PETR.

Clips of three frames, seven classes. The image encoder, on PETR the backbone alone, stays as the detector
left it. Published detectors have ten classes, so `--init-parts` has to name what is taken over: on DETR3D
`detector.image_encoder detector.layers`, on PETR all of the detector but `class_branches`.
"""

from dataclasses import replace

from syncl.classes import TRACKING_CLASSES
from syncl.data.augmentation import Augmentation
from syncl.detectors import Mutr3dDetr3dConfig, PetrConfig
from syncl.recipes.recipe import PaperResult, Recipe, with_syncl
from syncl.recipes.settings import EPOCHS, published_input, published_training, r101_dcn, v2_99
from syncl.trackers import AdaTrackConfig
from syncl.trackers.model import ModelConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import UnrollConfig

ON_PETR = AdaTrackConfig(
    pairing="hungarian", pair_score=0.2, own_share=None, gated=True, hidden=2048, max_tracks=500
)


def ada_track_detr3d_r101_900x1600() -> Recipe:
    """ADA-Track as published on DETR3D; takes published weights as they are."""
    training = published_training(24, 3, Augmentation(resize_range=(1.0, 1.0)))
    recipe = Recipe(
        "ada-track_detr3d_r101_900x1600",
        "ADA-Track on DETR3D, ResNet-101, clips of three frames, encoder frozen",
        ModelConfig(
            published_input(900, 1600), Mutr3dDetr3dConfig(r101_dcn(), TRACKING_CLASSES), AdaTrackConfig()
        ),
        replace(training, unroll=UnrollConfig(frozen=("detector.image_encoder",))),
        starts_from="detr3d_r101_900x1600 (encoder and decoder layers)",
        paper=PaperResult("ADA-Track's repository", amota=38.4, amotp=1.378),
    )
    return with_syncl(recipe, SynclConfig())


def _on_petr(height: int, width: int, paper: PaperResult | None) -> Recipe:
    detector = PetrConfig(v2_99(), TRACKING_CLASSES, queries=500, learned_contents=True)
    training = published_training(EPOCHS[height], 3, Augmentation())
    recipe = Recipe(
        f"ada-track_petr_v99_{height}x{width}",
        "ADA-Track on PETR, VoVNet-99, clips of three frames, backbone frozen",
        ModelConfig(published_input(height, width), detector, ON_PETR),
        replace(training, unroll=UnrollConfig(frozen=("detector.image_encoder.backbone",))),
        starts_from=f"petr_v99_{height}x{width}_q500 (all but class branches)",
        paper=paper,
    )
    return with_syncl(recipe, SynclConfig())


def ada_track_petr_v99_640x1600() -> Recipe:
    """ADA-Track on PETR; takes published weights, which were trained on images of 900 x 1600."""
    return _on_petr(640, 1600, PaperResult("ADA-Track's repository, at 900 x 1600", amota=48.3, amotp=1.242))


def ada_track_petr_v99_320x800() -> Recipe:
    """ADA-Track on PETR at the small size, for which nothing is published."""
    return _on_petr(320, 800, None)


def ada_track_plus_petr_v99_640x1600() -> Recipe:
    """ADA-Track++ on PETR: the auxiliary token, reconstructed, for its code is not public."""
    base = ada_track_petr_v99_640x1600()
    paper = PaperResult("SynCL, ADA-Track++'s row", 50.4, 1.197, 60.8, 44.5, 613, 14839, 30616)
    recipe = replace(
        base,
        name="ada-track_plus_petr_v99_640x1600",
        summary=base.summary.replace("ADA-Track", "ADA-Track++"),
        model=replace(base.model, tracker=replace(ON_PETR, auxiliary_token=True)),
        paper=paper,
        strategies={},
    )
    return with_syncl(recipe, SynclConfig())
