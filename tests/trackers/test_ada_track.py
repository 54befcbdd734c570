"""ADA-Track: association, pairing, life cycle, training, and what its settings refuse."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

import rig
from grids import thinned
from looks import look_with, same
from rig import CLASSES, DETECTORS, DIM, make_clip, make_frame, make_objects
from syncl.errors import SynclError
from syncl.structures import Predictions, Queries
from syncl.trackers import AdaTrackConfig, ClipNoise, Mutr3dConfig
from syncl.trackers.ada_track import AdaTrack, association
from syncl.trackers.ada_track.association import (
    Affinities,
    AssociationLayer,
    box_differences,
    compared_numbers,
)
from syncl.trackers.ada_track.pairing import pair_greedily, pair_optimally
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.one_track import TwoTasksConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

CONFIG = AdaTrackConfig(heads=4, hidden=48, dropout=0.0, noise=ClipNoise())


def build(detector: str = "petr", **changes: object) -> AdaTrack:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIG, **changes).build(DETECTORS[detector].build()).eval()


# Pairing


def take_turns(affinity: np.ndarray, allowed: np.ndarray, scores: np.ndarray) -> list[int]:
    detection_of = [-1] * affinity.shape[1]
    for detection in np.argsort(-scores, kind="stable"):
        free = [t for t, d in enumerate(detection_of) if d < 0 and allowed[detection, t]]
        if free:
            detection_of[max(free, key=lambda t: affinity[detection, t])] = int(detection)
    return detection_of


def test_all_turns_at_once_end_as_one_turn_after_the_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        detections, tracks = rng.integers(0, 9, 2)
        affinity, scores = rng.random((detections, tracks)), rng.random(detections)
        # Everybody wants the same few tracks.
        affinity[:, : tracks // 2] += 1
        allowed = rng.random((detections, tracks)) < 0.7
        found = pair_greedily(affinity, allowed, scores)
        assert found.detection_of.tolist() == take_turns(affinity, allowed, scores)
        assert found.unpaired.tolist() == [d for d in range(detections) if d not in found.detection_of]


def test_the_solver_gives_the_highest_sum_and_numbers_dissolved_pairs_last() -> None:
    affinity = np.array([[0.9, 0.8], [0.85, 0.1], [0.2, 0.2]])
    found = pair_optimally(affinity, affinity > 0.3, np.ones(3))
    # 0.8 + 0.85 is more than 0.9 + nothing.
    assert found.detection_of.tolist() == [1, 0] and found.unpaired.tolist() == [2]
    # Nobody may have anything: what the solver pairs all the same is numbered behind what it leaves.
    found = pair_optimally(affinity, affinity > 1, np.ones(3))
    assert found.detection_of.tolist() == [-1, -1]
    assert sorted(found.unpaired.tolist()) == [0, 1, 2]
    rows = pair_optimally(np.zeros((1, 4)), np.ones((1, 4), bool), np.ones(1))
    assert (rows.detection_of >= 0).sum() == 1 and rows.unpaired.tolist() == []


# Association


def layer_of(token: bool = False, gated: bool = False) -> AssociationLayer:
    torch.manual_seed(0)
    return AssociationLayer(DIM, 4, 48, 0.0, gated, token).eval()


def run(layer: AssociationLayer, detections: Tensor, tracks: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    valid = torch.ones(tracks.shape[:2], dtype=torch.bool)
    return layer(detections, *layer.attention.tracks(tracks), pairs, None, valid)


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("token", [False, True], ids=["tracks", "token"])
@torch.no_grad()
def test_other_order_of_tracks_changes_the_order_of_edges_alone(token: bool, gated: bool) -> None:
    layer = layer_of(token, gated)
    detections, tracks, pairs = torch.randn(2, 5, DIM), torch.randn(2, 4, DIM), torch.randn(2, 5, 4, 7)
    order = torch.tensor([2, 0, 3, 1])
    out, edges = run(layer, detections, tracks, pairs)
    other, turned = run(layer, detections, tracks[:, order], pairs[:, :, order])
    torch.testing.assert_close(out, other)
    torch.testing.assert_close(edges[:, :, order], turned)


@torch.no_grad()
def test_without_tracks_the_skip_connection_is_left_or_the_token_takes_all() -> None:
    detections, nothing = torch.randn(1, 3, DIM), torch.zeros(1, 0, DIM)
    for token in (False, True):
        layer = layer_of(token)
        attention, edges = layer.attention, torch.zeros(1, 3, 0, DIM)
        keys, values = attention.tracks(nothing)
        found, _ = attention(detections, keys, values, edges, torch.ones(1, 0, dtype=torch.bool))
        expected = attention.skip(detections)
        if attention.token is not None:
            expected = expected + attention.value(attention.token)
        torch.testing.assert_close(found, expected)
        assert run(layer, detections, nothing, torch.zeros(1, 3, 0, 7))[0].isfinite().all()


@torch.no_grad()
def test_the_token_takes_weight_from_tracks() -> None:
    attention = layer_of(token=True).attention
    tracks, edges = torch.randn(1, 2, DIM), torch.randn(1, 3, 2, DIM)
    valid = torch.ones(1, 2, dtype=torch.bool)
    attention.value.bias.zero_()
    attention.token.zero_()
    detections = torch.randn(1, 3, DIM)
    shares = []
    for bias in (-30.0, 30.0):
        attention.token_bias.fill_(bias)
        found, _ = attention(detections, *attention.tracks(tracks), edges, valid)
        shares.append((found - attention.skip(detections)).norm())
    assert shares[0] > 1e-2 and shares[1] < 1e-6


def test_headings_differ_by_a_whole_turn_unless_wrapped() -> None:
    codes = torch.zeros(1, 2, 10)
    # A little to both sides of the positive y axis, where the original's heading jumps.
    for row, yaw in enumerate((torch.pi / 2 - 0.1, torch.pi / 2 + 0.1)):
        codes[0, row, 6:8] = torch.tensor([np.sin(yaw), np.cos(yaw)])
    one, other = compared_numbers(codes).split(1, dim=1)
    assert box_differences(one, other, wrapped=False)[0, 0, 0, 6].abs() == pytest.approx(
        2 * np.pi - 0.2, abs=1e-5
    )
    assert box_differences(one, other, wrapped=True)[0, 0, 0, 6].abs() == pytest.approx(0.2, abs=1e-5)


def test_edges_made_in_parts_give_the_same_losses_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for numbers in (association._NUMBERS_AT_ONCE, 30 * DIM):
        monkeypatch.setattr(association, "_NUMBERS_AT_ONCE", numbers)
        training = ClipTraining(build(gated=True), BaselineConfig().build(DIM), UnrollConfig())
        losses = training(make_clip([0, 1, 2], [0, 2, 3], streams=2))
        losses["total"].backward()
        found.append((losses, {n: p.grad for n, p in training.tracker.named_parameters()}))
    (plain, gradients), (parts, others) = found
    torch.testing.assert_close(plain, parts)
    for name, gradient in gradients.items():
        if gradient is not None:
            torch.testing.assert_close(gradient, others[name], rtol=1e-3, atol=1e-5)


def test_tracking_asks_the_last_layer_alone_for_affinities() -> None:
    tracker = build()
    frames = make_clip([0, 1], [0, 2]).frames
    _, state = tracker.eval().step(frames[0], tracker.initial_state())
    every = tracker.look(frames[1], state).reasoned.logits
    with torch.no_grad():
        last = tracker.look(frames[1], state).reasoned.logits
    assert len(every) == len(tracker.detector.layers) and len(last) == 1
    torch.testing.assert_close(last[0], every[-1].detach())


# Life cycle


OBJECTS = 3


def predicting(scores: list[float], own: list[float] = ()) -> partial[Predictions]:  # type: ignore[assignment]
    """Object queries with these scores, then tracks with theirs; each row has a number of its own."""

    def predict(numbers: list[float], queries: Queries) -> Predictions:
        count = queries.count
        logits = torch.tensor(numbers[:count]).logit()[None, None, :, None].repeat(1, 1, 1, len(CLASSES))
        rows = torch.arange(1.0, count + 1)[None, None, :, None]
        codes = rows.expand(1, 1, count, 10)
        return Predictions(logits, codes, rows.repeat(1, 1, 1, DIM), codes[..., :3], queries.valid, OBJECTS)

    return partial(predict, [*scores, *own])


def follow(tracker: AdaTrack, *frames: tuple[list[float], list[float], list[list[float]]]):
    """States and objects after frames of (detection scores, track scores, affinities [D][N])."""
    state, found = tracker.initial_state(), []
    for index, (scores, own, affinity) in enumerate(frames):
        tracker.reason = lambda *_, a=affinity: Affinities(  # type: ignore[method-assign]
            torch.tensor(a).view(1, 1, OBJECTS, -1).logit()
        )
        decoded = look_with(tracker, make_frame(0.5 * index), state, predicting(scores, own), OBJECTS)
        objects, state = tracker.conclude(decoded)
        found.append((objects, state))
    return found


BIRTHS = ([0.9, 0.1, 0.5], [], [])
SEEN_AND_MISSED = ([0.3, 0.8, 0.1], [0.2, 0.6], [[0.9, 0.0], [0.0, 0.1], [0.0, 0.0]])


@torch.no_grad()
def test_births_pairs_misses_and_what_they_report() -> None:
    (first, born), (second, after) = follow(build(), BIRTHS, SEEN_AND_MISSED)
    assert born.identities.tolist() == [[0, 1]] and born.next_identity.tolist() == [2]
    assert first.identities[first.valid].tolist() == [0, 1]
    # Track 0 is the first detection and takes its score, too low to be reported; track 1 is missed and keeps
    # its own; the second detection is new.
    assert after.identities.tolist() == [[0, 1, 2]] and after.misses.tolist() == [[0, 1, 0]]
    assert sorted(second.identities[second.valid].tolist()) == [1, 2]
    by_identity = dict(zip(second.identities[second.valid].tolist(), second.scores[second.valid].tolist()))
    assert by_identity == pytest.approx({1: 0.6, 2: 0.8})
    # Rows 0 and 1 are detections, 3 and 4 were tracks; new ones start once more from their object query.
    assert after.track_queries.codes[0, :, 3].tolist() == [1, 5, 2]
    assert after.track_queries.embeddings[0, :, 0].tolist() == [1, 5, 0]


@torch.no_grad()
def test_merging_newborn_outputs_and_forgiven_misses_are_settings() -> None:
    both = follow(build(own_share=None, newborn_outputs=True), BIRTHS, SEEN_AND_MISSED)[-1][1]
    assert both.track_queries.embeddings[0, :, 0].tolist() == [1 + 4, 5, 2]
    share = follow(build(own_share=0.25), BIRTHS, SEEN_AND_MISSED)[-1][1]
    assert share.track_queries.embeddings[0, 0, 0] == pytest.approx(0.25 * 4 + 0.75)
    missed = ([0.1] * 3, [0.6, 0.6], [[0.0] * 2] * 3)
    seen = ([0.3, 0.3, 0.1], [0.6, 0.6], [[0.9, 0.0], [0.0, 0.9], [0.0, 0.0]])
    for forgiven, misses in ((False, [[2, 2]]), (True, [[1, 1]])):
        tracker = build(reset_misses=forgiven, miss_tolerance=3)
        assert follow(tracker, BIRTHS, missed, seen, missed)[-1][1].misses.tolist() == misses
    ended = follow(build(miss_tolerance=2), BIRTHS, missed, missed)[-1]
    assert ended[1].count == 0 and not ended[0].valid.any()


@torch.no_grad()
def test_pairs_need_a_sure_detection_where_they_are_asked_to() -> None:
    state = follow(build(pairing="hungarian", pair_score=0.35), BIRTHS, SEEN_AND_MISSED)[-1][1]
    assert state.misses.tolist() == [[1, 1, 0]]
    state = follow(build(max_tracks=2), BIRTHS, SEEN_AND_MISSED)[-1][1]
    assert state.identities.tolist() == [[1, 2]]


# Streams and scenes


@pytest.mark.parametrize("detector", DETECTORS)
@torch.no_grad()
def test_streams_of_a_batch_do_not_see_one_another(detector: str) -> None:
    tracker = build(detector, birth_score=0.0, output_score=0.0, auxiliary_token=True)
    frames = [make_frame(0.5 * number, ("a", "b"), speed_m_s=2.0) for number in range(3)]
    # The second stream changes its scene, where association is left out once.
    frames[2] = make_frame(1.0, ("a", "c"), speed_m_s=2.0)
    state = tracker.initial_state(2)
    alone = tracker.initial_state(1)
    for frame in frames:
        objects, state = tracker.step(frame, state)
        own, alone = tracker.step(make_frame(float(frame.timestamp_s[0]), "a", speed_m_s=2.0), alone)
    assert objects.valid.any()
    kept = objects.valid[0]
    assert objects.identities[0, kept].tolist() == own.identities[0, own.valid[0]].tolist()
    torch.testing.assert_close(objects.boxes[0, kept], own.boxes[0, own.valid[0]], rtol=1e-3, atol=1e-3)
    assert state.identities[1, state.alive[1]].min() == 0


@torch.no_grad()
def test_a_first_frame_is_plain_detection_but_where_the_token_is_wanted() -> None:
    frame = make_frame()
    tracker, first = build(auxiliary_token=True), build(auxiliary_token=True, associate_first=True)
    first.load_state_dict(tracker.state_dict())
    features = tracker.detector.encode(frame)
    (plain,) = tracker.detector.decode(tracker.detector.initial_queries(features), features)
    assert same(tracker.look(frame, tracker.initial_state()).standard, plain)
    assert not torch.allclose(first.look(frame, first.initial_state()).standard.logits, plain.logits)


# Training


STRATEGIES = {"baseline": BaselineConfig(), "syncl": SynclConfig()}


@pytest.mark.parametrize(("detector", "kind"), thinned(DETECTORS, STRATEGIES))
def test_a_clip_trains_and_tracks_on_every_detector(detector: str, kind: str) -> None:
    tracker = build(detector, noise=ClipNoise(0.1, 0.0, 0.5), gated=True)
    training = ClipTraining(tracker, STRATEGIES[kind].build(DIM), UnrollConfig())
    clip = make_clip([0, 1, 2], [0, 2, 3], [2, 3, 4], streams=2)
    losses = training(clip)
    losses["total"].backward()
    names = {"class", "box", "track_class", "track_box", "association"}
    assert names <= losses.keys() and all(value.isfinite() for value in losses.values())
    assert all(losses[name] > 0 for name in names)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tracker.association.parameters())
    tracker.eval()
    state = tracker.initial_state(2)
    for frame in clip.frames:
        _, state = tracker.step(frame, state)


def test_frames_without_objects_say_nothing_to_detections() -> None:
    training = ClipTraining(build(), BaselineConfig().build(DIM), UnrollConfig())
    empty = make_clip([], [])
    losses = training(empty)
    assert losses["total"].item() == 0
    losses["total"].backward()
    # Objects that go leave tracks behind, which are background.
    losses = training(make_clip([0, 1], []))
    first = training(make_clip([0, 1]))
    assert losses["class"] == first["class"] and losses["track_class"] > 0 == first["track_class"]


def test_a_detection_and_a_track_of_one_object_go_on_as_one_row() -> None:
    tracker = build()
    strategy = BaselineConfig().build(DIM)
    state = tracker.initial_state()
    for number, objects in enumerate(([0, 1], [1, 2], [0, 3])):
        decoded = tracker.look(make_frame(0.5 * number), state)
        outcome = strategy(decoded, make_objects(objects))
        state = tracker.carry(decoded, outcome)
    # Tracks whose object is gone keep their identity and may meet it again.
    assert sorted(state.identities[0].tolist()) == [0, 1, 2, 3]
    assert state.track_queries.codes.requires_grad


# Refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"associate_first": True}, "nothing to attend; set auxiliary_token=true"),
        ({"own_share": 1.0}, "must be from 0 to below 1"),
        ({"pair_score": 0.5}, "a second track of its own"),
        ({"heads": 5}, "cannot be split over so many heads"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes: dict, reason: str) -> None:
    with pytest.raises(SynclError, match=reason):
        build(**changes)


def test_two_tasks_are_refused_on_one_class_head() -> None:
    strategy = BaselineConfig(two_tasks=TwoTasksConfig()).build(DIM)
    with pytest.raises(SynclError, match="two_tasks needs a tracker with two class heads"):
        ClipTraining(build(), strategy, UnrollConfig())(make_clip([0, 1]))


def test_poses_ahead_move_tracks_as_the_vehicle_does_a_frame_later() -> None:
    places = [0.0, 1.0, 5.0]
    frames = tuple(make_frame(0.5 * n, poses=rig.pose(x)) for n, x in enumerate(places))
    clip = dataclasses.replace(make_clip([0], [0], [0]), frames=frames)
    tracker, moves = build(), []
    propagate = tracker.propagate
    tracker.propagate = lambda state, move: (moves.append(move), propagate(state, move))[1]  # type: ignore
    ClipTraining(tracker, BaselineConfig().build(DIM), UnrollConfig(poses_ahead=True))(clip)
    # Two frames have losses; between them the vehicle drove a metre, and four afterwards.
    assert len(moves) == 2 and moves[1].now_from_before[0, 0, 3] == -4
    remembering = Mutr3dConfig(heads=4, hidden=48).build(DETECTORS["streampetr"].build())
    with pytest.raises(SynclError, match="remembers frames and needs their own poses"):
        ClipTraining(remembering, BaselineConfig().build(DIM), UnrollConfig(poses_ahead=True))
