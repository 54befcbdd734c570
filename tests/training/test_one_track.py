"""OneTrack: who is positive for which task, what gradients reach the features, what the mask hides."""

import dataclasses

import pytest
import torch

import rig
from looks import same
from rig import DIM, make_clip, make_frame, make_objects
from syncl.checkpoints.model_file import initialise_from, save_model
from syncl.detectors.attention_maps import recorded_self_attention
from syncl.errors import SynclError
from syncl.geometry.boxes import encode_boxes
from syncl.recipes import resolve_recipe
from syncl.structures import Predictions
from syncl.trackers import ClipNoise, Mutr3dConfig, OneTrackConfig, SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.one_track import HeadsApart
from syncl.trackers.one_track.dynamic_mask import hide_conflicts
from syncl.training.losses import LossConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.one_track import TwoTasksConfig
from syncl.training.strategies.one_track.coordination import (
    Polarity,
    coordinated_losses,
    feature_gradients,
    projected,
)
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

from ..decoded import decoded_of

ONE_TRACK = OneTrackConfig(heads=4, hidden=48, noise=ClipNoise())
COORDINATIONS = ("none", "detach_negative", "detach_positive", "drop", "project")
# Table 8, by way of OneTrack's own code.
TABLE_8 = TwoTasksConfig(detects="object_queries", coordination="none", high_cost="none")
UNSUPPRESSED = TwoTasksConfig(high_cost="none")


def build(detector="petr", **changes):
    torch.manual_seed(0)
    return dataclasses.replace(ONE_TRACK, **changes).build(rig.DETECTORS[detector].build())


def train(detector, strategy, steps=(([0, 1, 2], [0, 2, 3], [2, 3])), progress=0.5, **changes):
    """A clip's losses and the module behind its backward pass."""
    denoising = DenoisingConfig(groups=2) if detector == "streampetr" else None
    module = ClipTraining(build(detector, **changes), strategy.build(DIM), UnrollConfig(denoising=denoising))
    module.strategy.progress = progress
    torch.manual_seed(5)
    losses = module(make_clip(*steps, streams=2))
    losses["total"].backward()
    return {name: value.detach() for name, value in losses.items()}, module


# A frame worked by hand

OBJECTS = make_objects([0, 1], classes=4)
SURE, UNSURE = 2.0, -2.0


def hand_worked(track_off_m: float = 1.0) -> Predictions:
    """Two objects, four queries of one layer.

    Query 0 lies on object 0, which track 2 holds and misses by a metre: (+, -) and (-, +). Track 3 lies on
    its object 1: (+, +). Query 1 is far from everything: (-, -).
    """
    boxes = OBJECTS.boxes[:, [0, 0, 0, 1]].clone()
    boxes[0, 1, 0] += 50.0
    boxes[0, 2, 0] += track_off_m
    codes = encode_boxes(boxes)[None]
    logits = torch.full((1, 1, 4, 4), UNSURE)
    for row, label in enumerate((0, 0, 0, 1)):
        logits[..., row, label] = SURE
    features = torch.randn(1, 1, 4, DIM, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 4, dtype=torch.bool)
    return Predictions(logits, codes, features, codes[..., :3], valid, 2, logits.clone())


def matched(predictions, config=UNSUPPRESSED, progress=0.5, identities=(0, 1)):
    strategy = BaselineConfig(two_tasks=config).build(DIM)
    strategy.progress = progress
    decoded = decoded_of((predictions,), torch.tensor([identities]))
    assignment, _ = strategy.assign(decoded, OBJECTS)
    return assignment, strategy.identities(decoded, assignment, OBJECTS)


def test_a_frame_with_all_four_groups():
    assignment, identities = matched(hand_worked())
    assert assignment.detection.targets.tolist() == [[[0, -1, -1, 1]]]
    assert assignment.targets.tolist() == [[[-1, -1, 0, 1]]]
    groups = Polarity.of(assignment)
    assert groups.detected.tolist() == [[[True, False, False, False]]]
    assert groups.neither.tolist() == [[[False, True, False, False]]]
    assert groups.tracked.tolist() == [[[False, False, True, False]]]
    assert groups.both.tolist() == [[[False, False, False, True]]]
    # The fresh query's box is learned from what it detects, the track's from what it holds.
    assert assignment.boxes.tolist() == [[[0, -1, 0, 1]]]
    assert identities.tolist() == [[-1, -1, 0, 1]]


def test_a_track_without_identity_may_take_a_new_born_object_and_a_held_one_may_not():
    new_born = matched(hand_worked(), identities=(-1, 1))[0]
    assert new_born.targets.tolist() == [[[0, -1, -1, 1]]], "the nearer query is born"
    near = hand_worked()
    near.codes[0, 0, 0, 0] += 2.0
    assert matched(near, identities=(-1, 1))[0].targets.tolist() == [[[-1, -1, 0, 1]]]
    # Identity 9 is gone: its track keeps it, and takes nothing over.
    gone, identities = matched(near, identities=(9, 1))
    assert gone.targets.tolist() == [[[0, -1, -1, 1]]] and gone.vanished.tolist() == [[True, False]]
    assert identities.tolist() == [[0, -1, 9, 1]]
    assert gone.detection.targets.tolist() == [[[-1, -1, 0, 1]]], "it detects all the same"


@pytest.mark.parametrize("high_cost", ["centre", "relative"])
def test_suppression_flips_the_track_that_is_too_far_and_no_other(high_cost):
    config = TwoTasksConfig(high_cost=high_cost, high_cost_m=2.0, suppress_from=0.1)
    far = hand_worked(track_off_m=20.0)
    assignment, identities = matched(far, config)
    assert assignment.targets.tolist() == [[[0, -1, -1, 1]]], "the fresh query takes the object over"
    assert assignment.boxes.tolist() == [[[0, -1, 0, 1]]], "the track's box is still drawn there"
    assert identities.tolist() == [[0, -1, -1, 1]], "the identity changes hands"
    assert not assignment.vanished.any()
    early, kept = matched(far, config, progress=0.05)
    assert early.targets.tolist() == [[[-1, -1, 0, 1]]] and kept.tolist() == [[-1, -1, 0, 1]]
    if high_cost == "centre":
        assert matched(hand_worked(1.9), config)[0].targets.tolist() == [[[-1, -1, 0, 1]]]


def test_frames_without_objects_have_no_positives():
    empty = make_objects([])
    strategy = BaselineConfig(two_tasks=TwoTasksConfig()).build(DIM)
    strategy.progress = 0.5
    predictions = dataclasses.replace(hand_worked(), logits=hand_worked().logits.requires_grad_())
    assignment, _ = strategy.match(predictions, torch.tensor([[0, -1]]), empty)
    assert (assignment.targets < 0).all() and assignment.vanished.tolist() == [[True, False]]


# Gradients on the features


def two_heads(features):
    """Logits of two linear heads over features."""
    torch.manual_seed(1)
    return [torch.nn.Linear(DIM, 4) for _ in range(2)]


def gradients_of(coordination):
    """Gradients on the features, of both tasks alone and of what is coordinated, and the heads' own."""
    detecting, tracking = two_heads(None)
    predictions = hand_worked()
    assignment, _ = matched(predictions)
    features = predictions.embeddings.clone().requires_grad_()
    leaf = features.detach().clone().requires_grad_()
    apart = HeadsApart(leaf, detecting(leaf), tracking(leaf))
    attached = dataclasses.replace(
        predictions, embeddings=features, logits=tracking(features), detection_logits=detecting(features)
    )
    losses = coordinated_losses(attached, assignment, OBJECTS, LossConfig(), coordination, apart)
    total = losses["class"] + losses["detect_class"]
    detect, track = feature_gradients(apart, assignment, OBJECTS, LossConfig())
    (found,) = torch.autograd.grad(total, features, retain_graph=True)
    heads = torch.autograd.grad(total, [detecting.weight, tracking.weight])
    return detect[0, 0], track[0, 0], found[0, 0], heads, float(total.detach())


def test_without_coordination_both_tasks_gradients_add_up():
    detect, track, found, _, _ = gradients_of("none")
    torch.testing.assert_close(found, detect + track)
    assert (detect[0] * track[0]).sum() != 0


@pytest.mark.parametrize("coordination", COORDINATIONS[1:])
def test_the_feature_of_a_contradicted_query_hears_what_is_allowed(coordination):
    detect, track, found, heads, total = gradients_of(coordination)
    # (-, -) and (+, +) are left alone.
    torch.testing.assert_close(found[[1, 3]], (detect + track)[[1, 3]])
    positive = torch.stack([detect[0], track[2]])
    negative = torch.stack([track[0], detect[2]])
    expected = {
        "detach_negative": positive,
        "drop": positive,
        "detach_positive": negative,
        "project": positive + projected(negative, positive),
    }
    torch.testing.assert_close(found[[0, 2]], expected[coordination])
    _, _, _, plain_heads, plain = gradients_of("none")
    for ours, plain_head in zip(heads, plain_heads, strict=True):
        assert torch.allclose(ours, plain_head, atol=1e-6) == (coordination != "drop")
    assert (total == pytest.approx(plain, rel=1e-6)) == (coordination != "drop")


def test_projected_gradients_do_not_point_against_the_others():
    gradient, other = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    assert projected(gradient, other).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert torch.isfinite(projected(gradient, torch.zeros(2, 2))).all()


@pytest.mark.parametrize("strategy", [BaselineConfig, SynclConfig])
def test_two_heads_and_nothing_else_are_table_8_to_the_last_bit(strategy):
    plain = Mutr3dConfig(
        **{field.name: getattr(ONE_TRACK, field.name) for field in dataclasses.fields(Mutr3dConfig)}
    )
    torch.manual_seed(0)
    module = ClipTraining(
        plain.build(rig.DETECTORS["streampetr"].build()), strategy().build(DIM), UnrollConfig()
    )
    theirs = module(make_clip([0, 1, 2], [0, 2, 3], [2, 3], streams=2))
    theirs["total"].backward()
    torch.manual_seed(0)
    ours = ClipTraining(
        build("streampetr", mask=False, memory_by="tracking"),
        strategy(two_tasks=TABLE_8).build(DIM),
        UnrollConfig(),
    )
    losses = ours(make_clip([0, 1, 2], [0, 2, 3], [2, 3], streams=2))
    losses["total"].backward()
    assert losses.keys() == theirs.keys() and "detect_class" in losses
    for name, value in losses.items():
        assert torch.equal(value, theirs[name]), name
    gradients = {name: parameter.grad for name, parameter in module.tracker.named_parameters()}
    for name, parameter in ours.tracker.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


# The mask


def test_contradicted_queries_do_not_see_each_other_and_all_see_themselves():
    detected = torch.tensor([[True, False, False, True, False]])
    tracked = torch.tensor([[False, False, True, True, True]])
    seen = hide_conflicts(detected, tracked, None, 6)[0]
    hidden = (~seen).nonzero().tolist()
    assert hidden == [[0, 2], [0, 4], [2, 0], [4, 0]]
    everywhere = torch.rand(40, generator=torch.Generator().manual_seed(0)) < 0.5
    others = torch.rand(40, generator=torch.Generator().manual_seed(1)) < 0.5
    valid = torch.ones(1, 40, dtype=torch.bool)
    valid[0, 33:] = False
    whole = hide_conflicts(everywhere[None] & valid, others[None] & valid, valid, 40)[0]
    assert whole[:33].diagonal().all() and whole.any(1).all() and not whole[:, 33:].any()


@pytest.mark.parametrize("detector", ["detr3d", "petr", "streampetr"])
def test_without_contradictions_the_mask_changes_nothing_to_the_last_bit(detector):
    class Agreed:
        def polarity(self, predictions, queries):
            nobody = torch.zeros_like(queries.valid)
            return nobody, nobody

    masked = build(detector, birth_score=0.0, keep_score=0.0).eval()
    plain = build(detector, birth_score=0.0, keep_score=0.0, mask=False).eval()
    state = other = masked.initial_state()
    with torch.no_grad():
        for number in range(3):
            frame = make_frame(0.5 * number)
            decoded, bare = masked.look(frame, state, guide=Agreed()), plain.look(frame, other)
            assert same(decoded.predictions, bare.predictions)
            _, state = masked.conclude(decoded)
            _, other = plain.conclude(bare)
    assert state.count > 0


def test_the_mask_is_that_of_the_layer_before():
    """A guide that names a pair of queries after the first layer; the second layer hides them."""

    class Pair:
        layers = 0

        def polarity(self, predictions, queries):
            self.layers += 1
            assert predictions.logits.shape[0] == 1 and predictions.detection_logits is not None
            detected, tracked = torch.zeros_like(queries.valid), torch.zeros_like(queries.valid)
            detected[:, 2] = tracked[:, queries.object_count] = True
            return detected, tracked

    tracker = build("petr", birth_score=0.0, keep_score=0.0).eval()
    _, state = tracker.step(make_frame(0.0), tracker.initial_state())
    guide = Pair()
    with torch.no_grad(), recorded_self_attention(tracker.detector) as recorded:
        decoded = tracker.look(make_frame(0.5), state, guide=guide)
    first, second = (layer[0].mean(0) for layer in recorded)
    track = decoded.queries.object_count
    assert guide.layers == len(tracker.detector.layers) - 1
    assert first[2, track] > 0 and first[track, 2] > 0
    assert second[2, track] == 0 == second[track, 2] and second[2, 2] > 0 and second[track, track] > 0


@pytest.mark.parametrize("detector", ["detr3d", "petr", "streampetr"])
def test_predicted_groups_are_what_the_heads_say_in_the_layers_own_predictions(detector):
    tracker = build(detector, birth_score=0.0, keep_score=0.0, mask_score=0.0101).eval()
    _, state = tracker.step(make_frame(0.0), tracker.initial_state())
    with torch.no_grad():
        plain = build(detector, birth_score=0.0, keep_score=0.0, mask=False).eval()
        first = plain.look(make_frame(0.5), state).standard

        class Watching:
            seen = None

            def polarity(self, predictions, queries):
                self.seen = self.seen or predictions
                nobody = torch.zeros_like(queries.valid)
                return nobody, nobody

        guide = Watching()
        tracker.look(make_frame(0.5), state, guide=guide)
    for name in ("logits", "detection_logits", "codes", "embeddings"):
        # Heads of a layer alone round as heads of all do, or nearly.
        torch.testing.assert_close(
            getattr(guide.seen, name)[0], getattr(first, name)[0], rtol=1e-4, atol=1e-5
        )


def test_supervision_guides_the_mask_until_scores_do():
    for polarity, progress, guided in (
        ("assigned", 0.9, True),
        ("predicted", 0.0, False),
        ("scheduled", 0.3, True),
        ("scheduled", 0.4, False),
    ):
        strategy = BaselineConfig(two_tasks=TwoTasksConfig(polarity=polarity)).build(DIM)
        strategy.progress = progress
        assert (strategy.guide(OBJECTS) is not None) == guided
    assert BaselineConfig().build(DIM).guide(OBJECTS) is None
    strategy = BaselineConfig(two_tasks=UNSUPPRESSED).build(DIM)
    predictions = hand_worked()
    queries = decoded_of((predictions,), torch.tensor([[0, 1]])).queries
    detected, tracked = strategy.guide(OBJECTS).polarity(predictions, queries)
    assert detected.tolist() == [[True, False, False, True]]
    assert tracked.tolist() == [[False, False, True, True]]


def test_the_detection_head_fills_streampetrs_memory():
    tracker = build("streampetr").eval()
    with torch.no_grad():
        decoded = tracker.look(make_frame(0.0), tracker.initial_state())
    best = decoded.standard.as_detected.logits[-1, 0].amax(-1).topk(4).indices
    kept = decoded.state.detector_memory.embeddings[0, :4]
    assert torch.equal(kept, decoded.standard.embeddings[-1, 0, best])


# Whole clips


@pytest.mark.parametrize("detector", ["petr", "streampetr"])
@pytest.mark.parametrize("strategy", [BaselineConfig, SynclConfig])
def test_a_clip_trains_every_part(detector, strategy):
    losses, module = train(detector, strategy(two_tasks=TwoTasksConfig()))
    assert all(torch.isfinite(value) for value in losses.values())
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert losses["detect_class"] > 0


@pytest.mark.parametrize("coordination", COORDINATIONS)
def test_every_coordination_trains(coordination):
    tasks = TwoTasksConfig(coordination=coordination, high_cost="relative", polarity="assigned")
    losses, _ = train("petr", BaselineConfig(two_tasks=tasks))
    assert torch.isfinite(losses["total"])


def test_a_tracking_head_that_starts_from_a_detector_begins_as_the_detection_head(tmp_path):
    def saved(name, tracker, config):
        seen = InputConfig((rig.HEIGHT, rig.WIDTH))
        save_model(tmp_path / name, tracker.state_dict(), ModelConfig(seen, rig.DETECTORS["detr3d"], config))
        return tmp_path / name

    def heads(tracker):
        parts = (tracker.tracking_head.branches, tracker.detector.class_branches)
        return [torch.cat([value.flatten() for value in part.parameters()]) for part in parts]

    torch.manual_seed(3)
    detector = SingleFrameConfig().build(rig.DETECTORS["detr3d"].build())
    tracker = build("detr3d")
    assert not torch.equal(*heads(tracker))
    initialise_from(tracker, saved("detector.safetensors", detector, SingleFrameConfig()))
    assert torch.equal(*heads(tracker))
    # A file that has a tracking head gives that.
    other = build("detr3d")
    initialise_from(tracker, saved("one_track.safetensors", other, ONE_TRACK))
    assert torch.equal(heads(tracker)[0], heads(other)[0]) and not torch.equal(*heads(tracker))


# Bad settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.strategy.two_tasks.predicted_from=1.5"], r"two_tasks\.predicted_from=1\.5"),
        (["training.strategy.two_tasks.high_cost_m=0"], r"two_tasks\.high_cost_m=0.*high_cost=none"),
        (
            ["training.strategy.two_tasks.detects=object_queries"],
            r"detects=object_queries with high_cost=centre",
        ),
        (["model.tracker.tracking_head=false"], "OneTrack is two class heads"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes, message):
    with pytest.raises(SynclError, match=message):
        resolve_recipe("onetrack_petr_synthetic", changes=tuple(changes)).model.build()


def test_onetracks_supervision_needs_two_heads_and_its_coordination_needs_onetrack():
    strategy = BaselineConfig(two_tasks=TwoTasksConfig()).build(DIM)
    one_head = dataclasses.replace(hand_worked(), detection_logits=None)
    with pytest.raises(SynclError, match="two_tasks needs a tracker with two class heads"):
        strategy(decoded_of((one_head,), torch.tensor([[0, 1]])), OBJECTS)
    with pytest.raises(SynclError, match="coordination=detach_negative needs OneTrack"):
        strategy(decoded_of((hand_worked(),), torch.tensor([[0, 1]])), OBJECTS)
    silent = ContrastiveConfig(weight=0.0)
    with pytest.raises(SynclError, match="decoder=standard gives objects further queries"):
        SynclConfig(
            decoder="standard", objects="new_born", contrastive=silent, two_tasks=TwoTasksConfig()
        ).build(DIM)
