"""Properties of the SynCL strategy on a small model through the real rooms."""

import dataclasses
from functools import cache, partial

import numpy as np
import pytest
import torch

import rig
from rig import SMALL
from syncl.layers.decoder import PARALLEL, STANDARD
from syncl.recipes.synthetic import (
    small_mutr3d,
)
from syncl.structures import Annotations, Clip
from syncl.trackers import ClipNoise, Decoded, Mutr3dConfig, Tracker
from syncl.training.assignment import matching_cost
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig, InstanceContrast, decoupled_loss
from syncl.training.strategies.syncl.hybrid_matching import one_to_many
from syncl.training.strategies.syncl.query_filtering import fit_mixture, mixture_threshold
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

make_frame = partial(rig.make_frame, cameras=6, size=(64, 96), speed_m_s=3.0)


def make_annotations(streams: int = 1, objects: int = 7, first_identity: int = 0) -> Annotations:
    generator = torch.Generator().manual_seed(5)
    boxes = torch.rand(streams, objects, 9, generator=generator)
    boxes[..., :2] = (boxes[..., :2] - 0.5) * 50
    boxes[..., 3:6] = 1 + 3 * boxes[..., 3:6]
    return Annotations(
        boxes,
        torch.randint(0, 10, (streams, objects), generator=generator),
        torch.arange(first_identity, first_identity + objects).repeat(streams, 1),
        torch.ones(streams, objects, dtype=torch.bool),
    )


def build(kind: str):
    torch.manual_seed(0)
    tracker: Mutr3dConfig = dataclasses.replace(small_mutr3d(), noise=ClipNoise())
    return tracker.build(SMALL[kind]().build())


@cache
def second_look(kind: str) -> tuple[Tracker, Decoded]:
    """A model and its look at a second frame with both decoders, with the first one's objects as tracks."""
    tracker = build(kind).eval()
    strategy = BaselineConfig().build(tracker.detector.dim)
    with torch.no_grad():
        first = tracker.look(make_frame(1.0), tracker.initial_state(1))
        state = tracker.carry(first, strategy(first, make_annotations(1)))
        return tracker, tracker.look(make_frame(1.5), state, PARALLEL)


@cache
def products_stand_alone() -> bool:
    """Whether a row of a product is the same to the last bit however many rows there are.

    That is the processor's: with MKL's products of AVX-512 it is, with those of AVX2 it is not.
    """
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(128, 128, generator=draw)
    rows = torch.randn(2, 2 * 103, 128, generator=draw)
    return torch.equal((rows @ weight)[0, :103], rows[0, :103] @ weight)


@pytest.mark.parametrize("kind", SMALL)
def test_standard_decoder_is_the_baseline_to_the_last_bit(kind):
    tracker, look = second_look(kind)
    queries, features = look.queries, look.features
    assert queries.count == queries.object_count + 7, "there must be tracks"
    with torch.no_grad():
        (alone,) = tracker.detector.decode(queries, features, STANDARD)
        parallel, cross = tracker.detector.decode(queries, features, PARALLEL)
    for name in ("logits", "codes", "embeddings", "references"):
        ours, theirs = getattr(parallel, name), getattr(alone, name)
        if products_stand_alone():
            assert torch.equal(ours, theirs), name
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=name)
    assert not torch.equal(parallel.logits, cross.logits)


@pytest.mark.parametrize("kind", SMALL)
def test_cross_only_outputs_do_not_depend_on_other_queries(kind):
    tracker, look = second_look(kind)
    queries, features = look.queries, look.features
    changed = dataclasses.replace(
        queries,
        embeddings=queries.embeddings.detach().clone(),
        positions=queries.positions.detach().clone(),
        codes=queries.codes.detach().clone(),
    )
    changed.embeddings[:, 10:] += 1.0
    changed.positions[:, 10:] -= 0.5
    changed.codes[:, 10:, :3] += 3.0
    with torch.no_grad():
        before = tracker.detector.decode(queries, features, PARALLEL)
        after = tracker.detector.decode(changed, features, PARALLEL)
    assert torch.allclose(before[1].logits[:, :, :10], after[1].logits[:, :, :10], atol=1e-5)
    assert not torch.allclose(before[0].logits[:, :, :10], after[0].logits[:, :, :10], atol=1e-3)


@pytest.mark.parametrize("kind", SMALL)
def test_tracks_hold_the_same_objects_under_both_strategies(kind):
    tracker, look = second_look(kind)
    assert look.state.count == 7
    baseline = BaselineConfig().build(tracker.detector.dim)
    syncl = SynclConfig().build(tracker.detector.dim)
    annotations = make_annotations(objects=9)
    plain = baseline(dataclasses.replace(look, predictions=look.predictions[:1]), annotations)
    both = syncl(look, annotations)
    assert torch.equal(plain.identities, both.identities)
    assert both.losses["class"] == plain.losses["class"]
    assert {"cross_class", "cross_box", "contrast"} <= both.losses.keys()
    assert all(torch.isfinite(value) for value in both.losses.values())


def test_pairs_respect_k_uniqueness_range_and_threshold():
    tracker, look = second_look("detr3d")
    syncl = SynclConfig(queries_per_object=3).build(tracker.detector.dim)
    _, cross = look.predictions
    annotations = make_annotations(objects=9)  # two of them are new-born
    persistent = torch.tensor([[True] * 7 + [False] * 2])
    pairs = syncl.reliable_pairs(cross, annotations, persistent)
    cost = matching_cost(cross, annotations, syncl.config.cost)
    assert pairs.valid.any()
    assert not pairs.valid[:, :, 7:].any(), "a new-born object was used as a persistent one"
    for layer in range(cost.shape[0]):
        rows = pairs.rows[layer, 0][pairs.valid[layer, 0]]
        assert len(rows) == len(set(rows.tolist())), "a query serves two objects"
        assert (pairs.valid[layer, 0].sum(-1) <= 3).all()
        everything = one_to_many(cost[:, :, : cross.object_count], persistent, 3)
        threshold = mixture_threshold(everything.costs.flatten(2), everything.valid.flatten(2))
        kept = pairs.costs[layer, 0][pairs.valid[layer, 0]]
        assert (kept <= threshold[layer, 0]).all()


def test_permuting_objects_permutes_pairs():
    torch.manual_seed(1)
    cost = torch.rand(2, 1, 30, 6)
    persistent = torch.tensor([[True, True, False, True, True, True]])
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    plain = one_to_many(cost, persistent, 4).targets(30)
    moved = one_to_many(cost[..., order], persistent[:, order], 4).targets(30)
    back = torch.where(moved >= 0, order[moved.clamp(min=0)], -1)
    assert torch.equal(plain, back)
    shuffled = torch.randperm(30)
    rows = one_to_many(cost[:, :, shuffled], persistent, 4).targets(30)
    assert torch.equal(plain[..., shuffled], rows)


def test_mixture_agrees_with_scikit_learn():
    mixture = pytest.importorskip("sklearn.mixture")
    rng = np.random.default_rng(0)
    sets = [np.concatenate([rng.normal(a, 0.2, 40), rng.normal(b, 0.4, 25)]) for a, b in ((0, 4), (-3, 2))]
    values = torch.tensor(np.stack(sets))
    weights, means, variances = fit_mixture(values, torch.ones_like(values, dtype=torch.bool), steps=60)
    for row, sample in enumerate(sets):
        expected = mixture.GaussianMixture(2, random_state=0, n_init=3, tol=1e-8).fit(sample[:, None])
        order = expected.means_[:, 0].argsort()
        assert np.allclose(means[row], expected.means_[order, 0], atol=5e-3)
        assert np.allclose(weights[row], expected.weights_[order], atol=5e-3)
        assert np.allclose(variances[row], expected.covariances_[order, 0, 0], atol=1e-2)


@pytest.mark.parametrize("costs", [[], [1.5], [1.0, 2.0], [0.7] * 6, [1e4, -1e4]])
def test_mixture_threshold_survives_degenerate_sets(costs):
    padded = torch.tensor([costs + [99.0] * 2])
    valid = torch.tensor([[True] * len(costs) + [False] * 2])
    threshold = mixture_threshold(padded, valid)
    if not costs:
        assert threshold.item() == -torch.inf
        return
    assert torch.isfinite(threshold).all()
    kept = (padded <= threshold)[0, : len(costs)]
    assert kept[costs.index(min(costs))]
    assert kept.all() if len(set(costs)) == 1 else not kept[costs.index(max(costs))]


def test_contrastive_loss_by_hand():
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    positives = torch.tensor([0, 2, 1])
    losses, usable = decoupled_loss(
        scores, positives, torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    )
    expected = [
        np.log(np.exp(2.0) + np.exp(0.5)) - 1.0,
        np.log(np.exp(0.0) + np.exp(-1.0)) - 3.0,
        np.log(2 * np.exp(2.0)) - 2.0,
    ]
    assert usable.all()
    assert np.allclose(losses.numpy(), expected)


def test_contrastive_gradient_by_finite_differences():
    torch.manual_seed(0)
    contrast = InstanceContrast(8, ContrastiveConfig()).double()
    objects = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    tracks = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    positives = torch.tensor([0, 1, 1, 2])
    pair_valid = torch.tensor([True, True, False, True])

    def loss(objects, tracks):
        return contrast(objects, tracks, positives, pair_valid, torch.ones(3, dtype=torch.bool))

    assert torch.autograd.gradcheck(loss, (objects, tracks))


@pytest.mark.parametrize("count", [0, 1])
def test_contrastive_loss_is_zero_and_finite_with_fewer_than_two_tracks(count):
    contrast = InstanceContrast(8, ContrastiveConfig())
    objects = torch.randn(2, 8, requires_grad=True)
    tracks = torch.randn(count, 8, requires_grad=True)
    loss = contrast(
        objects,
        tracks,
        torch.zeros(2, dtype=torch.int64),
        torch.ones(2, dtype=torch.bool),
        torch.ones(count, dtype=torch.bool),
    )
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() and (p.grad == 0).all() for p in contrast.parameters())
    assert torch.isfinite(objects.grad).all()


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        *((kind, 3) for kind in SMALL),
        *(pytest.param(kind, 1, marks=() if kind == "petr" else pytest.mark.slow) for kind in SMALL),
    ],
)
def test_clip_training_reaches_every_parameter(kind, length):
    tracker = build(kind)
    module = ClipTraining(tracker, SynclConfig().build(tracker.detector.dim), UnrollConfig())
    frames = tuple(make_frame(1 + 0.5 * t, streams=2) for t in range(length))
    losses = module(Clip(frames, tuple(make_annotations(2) for _ in frames)))
    losses["total"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    untouched = {name for name, p in module.named_parameters() if p.grad is None}
    if "petr" in kind:  # the pyramid's coarsest level is neither attended nor looked at for proposals
        coarsest = {name for name in untouched if ".image_encoder.neck.fpn_convs.2." in name}
        assert coarsest
        untouched -= coarsest
    if length == 1:
        training_only = ("tracker.query_interaction", "tracker.memory_bank", "strategy")
        assert all(name.startswith(training_only) for name in untouched)
    else:
        assert not untouched


def test_a_clip_without_annotations_trains():
    tracker = build("detr3d")
    module = ClipTraining(tracker, SynclConfig().build(tracker.detector.dim), UnrollConfig())
    empty = make_annotations(1, objects=0)
    losses = module(Clip((make_frame(1.0), make_frame(1.5)), (empty, empty)))
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert losses["box"] == 0 and losses["contrast"] == 0


def test_a_query_far_from_its_object_lets_go_of_it():
    tracker, look = second_look("detr3d")
    annotations = make_annotations(objects=9)
    keeping = BaselineConfig().build(tracker.detector.dim)(look, annotations)
    releasing = BaselineConfig(release_m=2.0).build(tracker.detector.dim)
    released = releasing(look, annotations)
    assert released.losses["class"] == keeping.losses["class"]
    assert sorted(keeping.identities[keeping.identities >= 0].tolist()) == list(range(9))
    centres = {int(i): box[:2] for i, box in zip(annotations.identities[0], annotations.boxes[0])}
    for row, identity in enumerate(keeping.identities[0].tolist()):
        if identity >= 0:
            distance = (look.standard.codes[-1, 0, row, :2] - centres[identity]).norm()
            assert released.identities[0, row] == (identity if distance <= 2.0 else -1)
