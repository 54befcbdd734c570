"""Small recipes without the aids of the other small ones: no lifted tracks, no letting go, no false tracks.

DETR3D has learned queries alone. Of PETR's 200, 64 come from proposals: learned ones alone found nothing in
24,000 frames. Its decoder then corrected no place, so that tracks were left behind: queries are moved to what
proposals show around them, and the detector learns it already, from noised ones. A frozen encoder, whose
features can be stored, makes up for the rest: steps are cheap, so detector and tracker see 100,000 frames in
an hour or two of one core. What they came to is told in docs/evidence.md.
"""

from dataclasses import replace

from syncl.detectors import Detr3dConfig, PetrConfig, ProposalConfig
from syncl.recipes.recipe import Recipe, with_syncl
from syncl.recipes.synthetic import (
    DETECTOR_LOSS,
    TRACKER_LOSS,
    detr3d_synthetic,
    frozen_encoder,
    petr_synthetic,
    small_detr3d,
    small_model,
    small_mutr3d,
    small_petr,
    small_pf_track,
)
from syncl.recipes.synthetic_trackers import small_tracker
from syncl.trackers.clip_noise import ClipNoise
from syncl.training.config import TrainingConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

# Births and ends by score, as in tracking, over whole scenes: scores stay right however old a track gets.
_NOISE = ClipNoise(drop_probability=0.1, carry_score=0.2, birth_score=0.2)

# The temperature of the work that the paper cites, with similarities in the range of its cosines: with a
# limit of 5 the contrast's gradient drowned all others. False tracks, which the cross-attention decoder
# cannot tell from true ones, turn its class loss against the standard decoder's.
_SYNCL = SynclConfig(
    loss=TRACKER_LOSS,
    false_tracks="ignored",
    contrastive=ContrastiveConfig(weight=0.1, temperature=0.07, score_limit=1.0),
)

# What a PETR looks at that starts from a trained image head: stored features and the head's maps stay.
_PROPOSAL_MAPS = tuple(f"detector.proposal_head.{part}" for part in ("tower", "heat", "offset", "log_depth"))


def _single_frames(training: TrainingConfig) -> TrainingConfig:
    return replace(training, steps=12500, data=replace(training.data, batch_size=8, augmentation=None))


def _streams(training: TrainingConfig) -> TrainingConfig:
    """The baseline on whole scenes, four frames of four at a time."""
    data = replace(
        training.data, sampling="streams", scene_parts=1, clip_length=4, batch_size=4, augmentation=None
    )
    return replace(training, data=data, strategy=BaselineConfig(loss=TRACKER_LOSS))


def _plain_detr3d(cameras: int | None = 6) -> Detr3dConfig:
    return replace(small_detr3d(), queries=200, proposals=None, lifted_tracks=False, cameras=cameras)


def detr3d_synthetic_plain() -> Recipe:
    """DETR3D with 200 learned queries and no proposals, on the encoder of `detr3d_synthetic`."""
    base = frozen_encoder(detr3d_synthetic())
    return replace(
        base,
        name="detr3d_synthetic_plain",
        summary="DETR3D, small, learned queries alone, frozen encoder, single frames of the synthetic world",
        model=small_model(_plain_detr3d(), base.model.tracker),
        training=_single_frames(base.training),
        starts_from="detr3d_synthetic (its encoder and decoder layers)",
    )


def mutr3d_detr3d_synthetic_plain() -> Recipe:
    """MUTR3D on it, streams of whole scenes, four frames a step."""
    base = frozen_encoder(small_tracker("mutr3d", "detr3d"))
    tracker = replace(
        small_mutr3d(), birth_score=0.35, keep_score=0.3, output_score=0.2, miss_tolerance=1, noise=_NOISE
    )
    recipe = replace(
        base,
        name="mutr3d_detr3d_synthetic_plain",
        summary="MUTR3D on DETR3D, small, learned queries alone, streams of whole synthetic scenes",
        model=small_model(_plain_detr3d(), tracker),
        training=_streams(base.training),
        starts_from="detr3d_synthetic_plain",
    )
    return with_syncl(recipe, _SYNCL)


def mutr3d_detr3d_synthetic_any_rig() -> Recipe:
    """The same for any rig: all cameras share their weights. Train it on `syncl generate --rigs`."""
    base = mutr3d_detr3d_synthetic_plain()
    return replace(
        base,
        name="mutr3d_detr3d_synthetic_any_rig",
        summary="MUTR3D on DETR3D, small, any number of cameras and any lens, streams of synthetic scenes",
        model=replace(base.model, detector=_plain_detr3d(cameras=None)),
        starts_from="mutr3d_detr3d_synthetic_plain (the mean of its cameras' weights)",
    )


def _plain_petr() -> PetrConfig:
    proposals = ProposalConfig(count=64, nearby=True, moves=True)
    return replace(small_petr(), queries=200, proposals=proposals, lifted_tracks=False)


def petr_synthetic_plain() -> Recipe:
    """PETR with 200 queries, of which 64 come from the proposals of a trained image head, whose maps stay."""
    base = frozen_encoder(petr_synthetic(), *_PROPOSAL_MAPS)
    training = _single_frames(base.training)
    # Up to one and a half times the object's own size away along each axis, as tracks are.
    noised = DenoisingConfig(groups=3, noise_scale=3.0, loss=DETECTOR_LOSS)
    training = replace(training, unroll=replace(training.unroll, denoising=noised))
    return replace(
        base,
        name="petr_synthetic_plain",
        summary="PETR, small, frozen encoder and image head, single frames of the synthetic world",
        model=small_model(_plain_petr(), base.model.tracker),
        training=training,
        starts_from="detr3d_synthetic (its encoder and image head)",
    )


def pf_track_petr_synthetic_plain() -> Recipe:
    """PF-Track on it, streams of whole scenes, four frames a step; with SynCL what `syncl demo` has."""
    base = frozen_encoder(small_tracker("pf-track", "petr"), *_PROPOSAL_MAPS)
    tracker = replace(
        small_pf_track(), birth_score=0.3, record_score=0.3, output_score=0.2, miss_tolerance=1, noise=_NOISE
    )
    recipe = replace(
        base,
        name="pf-track_petr_synthetic_plain",
        summary="PF-Track on PETR, small, streams of whole synthetic scenes",
        model=small_model(_plain_petr(), tracker),
        training=_streams(base.training),
        starts_from="petr_synthetic_plain",
    )
    return with_syncl(recipe, _SYNCL)
