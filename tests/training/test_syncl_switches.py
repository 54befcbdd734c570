"""Every switch of the paper's tables: what it changes, what it leaves, what is refused."""

import dataclasses

import pytest
import torch

from syncl.errors import SynclError
from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Predictions
from syncl.training.losses import LossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig
from syncl.training.strategies.syncl.hybrid_matching import Candidates, one_to_one
from syncl.training.strategies.syncl.other_filters import atss, candidate_overlaps, fixed_cost, simota
from syncl.training.strategies.syncl.strategy import SynclConfig

from ..decoded import decoded_of

OBJECT_QUERIES, TRACKS, OBJECTS, LAYERS, DIM = 20, 3, 6, 2, 8
SILENT = ContrastiveConfig(weight=0.0)


@pytest.fixture
def annotations() -> Annotations:
    """Six objects; tracks will hold the first three."""
    boxes = torch.zeros(1, OBJECTS, 9)
    boxes[0, :, 0] = torch.arange(OBJECTS) * 10.0 - 25
    boxes[..., 3:6] = torch.tensor([4.0, 2.0, 1.5])
    labels = torch.arange(OBJECTS)[None] % 4
    return Annotations(boxes, labels, torch.arange(OBJECTS)[None], torch.ones(1, OBJECTS, dtype=torch.bool))


IDENTITIES = torch.tensor([[0, 1, 2]])


def predictions(seed: int) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    queries = OBJECT_QUERIES + TRACKS

    def noise(*shape):
        return torch.randn(LAYERS, 1, queries, *shape, generator=generator).requires_grad_()

    codes = noise(10).detach()
    codes[..., :2] = codes[..., :2] * 15
    return Predictions(
        noise(4),
        codes.requires_grad_(),
        noise(DIM),
        codes[..., :3].detach(),
        torch.ones(1, queries, dtype=torch.bool),
        OBJECT_QUERIES,
    )


def outcome(annotations, identities=IDENTITIES, **switches):
    torch.manual_seed(0)
    strategy = SynclConfig(**switches).build(DIM)
    pair = predictions(1), predictions(2)
    return strategy, pair, strategy(decoded_of(pair[: len(strategy.groups)], identities), annotations)


def rows_with_gradient(tensor):
    (gradient,) = torch.autograd.grad(tensor[0].sum(), tensor[1], allow_unused=True)
    return (gradient != 0).any(-1)[:, 0]


def test_without_detection_matching_object_queries_carry_no_loss(annotations):
    _, (_, cross), found = outcome(annotations, objects="none", filter="none", contrastive=SILENT)
    for name, said in (("class", cross.logits), ("box", cross.codes)):
        rows = rows_with_gradient((found.losses[f"cross_{name}"], said))
        assert not rows[:, :OBJECT_QUERIES].any() and rows[:, OBJECT_QUERIES:].all(), name


def test_without_tracking_matching_track_queries_carry_no_loss(annotations):
    _, (_, cross), found = outcome(annotations, tracks=False, contrastive=SILENT)
    for name, said in (("class", cross.logits), ("box", cross.codes)):
        rows = rows_with_gradient((found.losses[f"cross_{name}"], said))
        assert rows[:, :OBJECT_QUERIES].any() and not rows[:, OBJECT_QUERIES:].any(), name


def test_without_contrast_there_is_neither_loss_nor_parameter(annotations):
    strategy, _, found = outcome(annotations, contrastive=SILENT)
    assert "contrast" not in found.losses
    assert not list(strategy.parameters())


@pytest.mark.parametrize(
    ("objects", "expected"), [("persistent", {0, 1, 2}), ("new_born", {3, 4, 5}), ("all", set(range(6)))]
)
@pytest.mark.parametrize("one_to_many", [True, False])
def test_the_range_decides_which_objects_object_queries_get(annotations, objects, expected, one_to_many):
    contrastive = SILENT if objects == "new_born" else ContrastiveConfig()
    strategy, (_, cross), _ = outcome(
        annotations, objects=objects, one_to_many=one_to_many, filter="none", contrastive=contrastive
    )
    wanted = torch.tensor([[number in expected for number in range(OBJECTS)]])
    pairs = strategy.reliable_pairs(cross, annotations, wanted)
    targets = pairs.targets(OBJECT_QUERIES)
    assert set(targets[targets >= 0].tolist()) == expected
    counts = torch.stack([(targets == number).sum(-1) for number in sorted(expected)])
    assert (counts == 1).all() if not one_to_many else (counts > 1).any()
    assert (counts <= 5).all()


def test_the_standard_decoder_alone_can_have_one_to_many(annotations):
    strategy, (standard, _), found = outcome(
        annotations, decoder="standard", objects="new_born", filter="none", contrastive=SILENT
    )
    assert strategy.groups == ("standard",)
    baseline = BaselineConfig().build(DIM)(decoded_of((standard,), IDENTITIES), annotations)
    assert torch.equal(found.identities, baseline.identities), "an object must live on in one query"
    assert found.losses.keys() == baseline.losses.keys()
    assert found.losses["class"] != baseline.losses["class"]


def test_one_to_one_is_the_cheapest_assignment():
    cost = torch.tensor([[[[1.0, 2.0], [1.5, 9.0], [4.0, 4.0]]]])
    pairs = one_to_one(cost, torch.tensor([[True, True]]))
    assert pairs.rows[0, 0, :, 0].tolist() == [1, 0]
    assert pairs.costs[0, 0, :, 0].tolist() == [1.5, 2.0]
    alone = one_to_one(cost, torch.tensor([[False, True]]))
    assert alone.valid[0, 0, :, 0].tolist() == [False, True]
    assert alone.targets(3).tolist() == [[[1, -1, -1]]]
    nothing = one_to_one(torch.zeros(2, 1, 4, 0), torch.zeros(1, 0, dtype=torch.bool))
    assert (nothing.targets(4) == -1).all()


def candidates(costs, valid=None) -> Candidates:
    costs = torch.tensor([[costs]])
    valid = torch.ones_like(costs, dtype=torch.bool) if valid is None else torch.tensor([[valid]])
    return Candidates(torch.arange(costs.numel()).view(costs.shape), costs, valid)


def test_fixed_cost_keeps_what_does_not_exceed_it():
    kept = fixed_cost(candidates([[0.5, 1.0, 1.5], [2.0, 3.0, 4.0]]), 1.0)
    assert kept.valid[0, 0].tolist() == [[True, True, False], [False, False, False]]


def test_simota_keeps_as_many_as_the_overlaps_add_up_to():
    pairs = candidates(
        [[0.3, 0.1, 0.2], [0.3, 0.1, 0.2], [0.3, 0.1, 0.2]],
        [[True, True, True], [True, True, True], [True, False, True]],
    )
    overlaps = torch.tensor([[[[0.9, 0.8, 0.7], [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]]]])
    kept = simota(pairs, overlaps)
    assert kept.valid[0, 0].tolist() == [[False, True, True], [False, True, False], [False, False, True]]


def test_atss_keeps_what_reaches_mean_plus_deviation():
    pairs = candidates([[0.1, 0.2, 0.3, 0.4]] * 2)
    overlaps = torch.tensor([[[[0.0, 0.1, 0.2, 0.9], [0.0, 0.1, 0.2, 0.9]]]])
    inside = torch.ones(1, 1, 2, 4, dtype=torch.bool)
    inside[0, 0, 1, 3] = False
    kept = atss(pairs, overlaps, inside)
    assert kept.valid[0, 0].tolist() == [[False, False, False, True], [False] * 4]


def test_overlaps_are_those_of_the_predicted_boxes(annotations):
    found = predictions(1)
    codes = found.codes.detach().clone()
    boxes = annotations.boxes.clone()
    boxes[..., 0] += 1  # a quarter of the length
    codes[:, :, :OBJECTS] = encode_boxes(boxes)
    found = dataclasses.replace(found, codes=codes)
    rows = torch.arange(OBJECTS).expand(LAYERS, 1, -1)[..., None]
    pairs = Candidates(rows, torch.zeros(rows.shape), torch.ones(rows.shape, dtype=torch.bool))
    overlaps, inside = candidate_overlaps(pairs, found, annotations)
    assert torch.allclose(overlaps, torch.tensor(3 / 5), atol=1e-4)
    assert inside.all()


@pytest.mark.parametrize("kind", ["mixture", "fixed_cost", "simota", "atss", "none"])
def test_every_filter_trains(annotations, kind):
    strategy, (_, cross), found = outcome(annotations, filter=kind)
    total = sum(found.losses.values())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(cross.logits.grad).all()
    persistent = torch.tensor([[True] * 3 + [False] * 3])
    pairs = strategy.reliable_pairs(cross, annotations, persistent)
    everything = outcome(annotations, filter="none")[0].reliable_pairs(cross, annotations, persistent)
    assert not (pairs.valid & ~everything.valid).any()
    if kind in ("mixture", "atss", "simota"):
        assert pairs.valid.sum() < everything.valid.sum()


@pytest.mark.parametrize(
    ("switches", "reason"),
    [
        ({"decoder": "standard"}, "persistent objects belong to their track queries"),
        ({"decoder": "standard", "objects": "new_born"}, "no cross-attention decoder"),
        (
            {
                "decoder": "standard",
                "objects": "new_born",
                "contrastive": SILENT,
                "one_to_many": False,
                "filter": "none",
            },
            "is the baseline",
        ),
        *(
            (
                {"decoder": "standard", "objects": "new_born", "contrastive": SILENT, name: "ignored"},
                "carry no loss",
            )
            for name in ("dropped", "false_tracks")
        ),
        (
            {"decoder": "standard", "objects": "new_born", "contrastive": SILENT, "cross_parts": "class"},
            "leave it at both",
        ),
        ({"objects": "none", "tracks": False, "contrastive": SILENT, "filter": "none"}, "leave nothing"),
        ({"objects": "none", "filter": "none"}, "no pairs"),
        ({"objects": "new_born"}, "no pairs"),
        ({"one_to_many": False}, "no one-to-many candidates"),
        ({"objects": "none", "contrastive": SILENT}, "no one-to-many candidates"),
        ({"queries_per_object": 0}, "at least 1"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_the_reason(switches, reason):
    with pytest.raises(SynclError, match=reason):
        SynclConfig(**switches).build(DIM)


@pytest.mark.parametrize(
    ("parts", "left"), [("both", {"class", "box"}), ("class", {"class"}), ("box", {"box"})]
)
def test_parts_of_the_cross_attention_decoders_losses(annotations, parts, left):
    _, (_, cross), found = outcome(annotations, cross_parts=parts, contrastive=SILENT)
    assert set(found.losses) == {"class", "box"} | {f"cross_{name}" for name in left}
    sum(found.losses.values()).backward()
    taught = {"class": cross.logits.grad, "box": cross.codes.grad}
    assert {name for name, gradient in taught.items() if gradient is not None} == left


@pytest.mark.parametrize("dropped", ["background", "ignored"])
def test_what_becomes_of_dropped_candidates(annotations, dropped):
    strategy, (_, cross), found = outcome(annotations, dropped=dropped, contrastive=SILENT)
    sum(found.losses.values()).backward()
    persistent = torch.tensor([[True] * 3 + [False] * 3])
    pairs = strategy.reliable_pairs(cross, annotations, persistent)
    taken_out = pairs.dropped_queries(OBJECT_QUERIES)
    assert taken_out.any() and not (taken_out & (pairs.targets(OBJECT_QUERIES) >= 0)).any()
    with_loss = cross.logits.grad[:, :, :OBJECT_QUERIES].abs().sum(-1) > 0
    assert (with_loss & taken_out).any() == (dropped == "background")
    assert (with_loss & ~taken_out).any()


@pytest.mark.parametrize("false_tracks", ["background", "ignored"])
def test_what_becomes_of_false_tracks(annotations, false_tracks):
    # The first two hold objects, the third is false. A fourth object was there and is gone.
    for identities, third in (([[0, 1, -1]], false_tracks == "background"), ([[0, 1, 99]], True)):
        _, (standard, cross), found = outcome(
            annotations, torch.tensor(identities), false_tracks=false_tracks, filter="none"
        )
        sum(found.losses.values()).backward()
        rows = cross.logits.grad[:, 0, OBJECT_QUERIES:].abs().sum(-1) > 0
        assert rows[:, :2].all() and rows[:, 2].tolist() == [third] * LAYERS
        pushed = cross.embeddings.grad[-1, 0, OBJECT_QUERIES:].abs().sum(-1) > 0
        assert pushed.tolist() == [True, True, third]
        assert (standard.logits.grad[:, 0, OBJECT_QUERIES:].abs().sum(-1) > 0).all()


def test_a_false_track_that_takes_a_new_born_object_is_not_called_background(annotations):
    # The third track, which holds nothing, stands on the fourth object in the first layer alone.
    strategy = SynclConfig(contrastive=SILENT, filter="none").build(DIM)
    pair = predictions(1), predictions(2)
    with torch.no_grad():
        pair[0].codes[0, 0, -1] = encode_boxes(annotations.boxes)[0, 3]
        pair[0].logits[0, 0, -1, 3] = 9.0
        pair[0].codes[1, 0, -1, :2] = 500.0
    found = strategy(decoded_of(pair, torch.tensor([[0, 1, -1]])), annotations)
    assert found.layer_targets[:, 0, -1].tolist() == [3, -1]
    sum(found.losses.values()).backward()
    standard, cross = (part.logits.grad[:, 0, -1].abs().sum(-1) > 0 for part in pair)
    assert standard.all() and cross.tolist() == [False, True]
    assert (pair[1].codes.grad[:, 0, -1] == 0).all()


@pytest.mark.parametrize(("third", "more"), [(99, 1), (-1, 0)])
def test_vanished_tracks_count_in_the_normaliser_of_either_decoder(annotations, third, more):
    # Of two layers that are alike; the third track's object is gone, or it never had one.
    cross = predictions(2).map(lambda rows: rows[:1].expand_as(rows) if rows.dim() > 2 else rows)
    pair, identities = (predictions(1), cross), torch.tensor([[0, 1, third]])
    losses = {}
    for counts in (False, True):
        strategy = SynclConfig(
            loss=LossConfig(count_vanished=counts), filter="none", contrastive=SILENT
        ).build(DIM)
        losses[counts] = strategy(decoded_of(pair, identities), annotations).losses["cross_class"]
    persistent = torch.tensor([[True, True] + [False] * 4])
    positive = 2 + int((strategy.reliable_pairs(cross, annotations, persistent).valid[0]).sum())
    torch.testing.assert_close(losses[True], losses[False] * positive / (positive + more))
