"""PF-Track's life cycle, extension, motion and state, on hand-made predictions and on small models."""

import copy
import dataclasses
import io
import math
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from looks import entered, look_with, same
from rig import CLASSES, DETECTORS, DIM, make_frame, pose
from rig import OBJECT_QUERIES as OBJECTS
from syncl.detectors.reference_range import ReferenceRange
from syncl.errors import SynclError
from syncl.structures import Objects, Predictions, Queries
from syncl.trackers import Mutr3dConfig, PfTrackConfig
from syncl.trackers.look import Decoded
from syncl.trackers.pf_track import PfTrack
from syncl.trackers.pf_track.forecasts import History, Reasoned
from syncl.trackers.pf_track.reasoning import PastReasoning
from syncl.trackers.pf_track.track_extension import EXTENSION_SCORE
from syncl.trackers.pf_track.tracker import PastAndFuture
from syncl.trackers.state import TrackState

KINDS = DETECTORS | {"petr": dataclasses.replace(DETECTORS["petr"], learned_contents=True)}
TRACKER = PfTrackConfig(heads=4, hidden=48, dropout=0.0, future=4)


def build(kind: str = "petr", config: PfTrackConfig = TRACKER) -> PfTrack:
    torch.manual_seed(0)
    tracker = config.build(KINDS[kind].build()).eval()
    with torch.no_grad():
        # Fresh weights are seldom sure of anything, and tracks are to be born.
        tracker.past.class_branch[-1].bias.fill_(1)
        tracker.past.class_branch[-1].bias[CLASSES.index("barrier")] = -9
    return tracker


@pytest.fixture(scope="module")
def tracker() -> PfTrack:
    return build()


def advance(
    tracker: PfTrack,
    state: TrackState,
    time_s: float,
    scores: dict[int, float],
    *,
    x_m: float = 10.0,
    ahead_m: float = 0.0,
    label: int = 0,
    **frame,
) -> tuple[Objects, TrackState]:
    """A frame in which the named rows (object rows first) are refined to these scores, the others to none."""

    def predict(queries: Queries) -> Predictions:
        codes = torch.zeros(1, 1, queries.count, 10)
        codes[..., 0], codes[..., 7] = x_m, 1.0
        logits = torch.full((1, 1, queries.count, len(CLASSES)), -9.0)
        for row, score in scores.items():
            logits[0, 0, row, label] = torch.logit(torch.tensor(score))
        embeddings = torch.full((1, 1, queries.count, DIM), time_s)
        return Predictions(logits, codes, embeddings, codes[..., :3], queries.valid, OBJECTS)

    def reason(decoded: Decoded, _: object) -> Reasoned:
        queries, made = decoded.queries, decoded.standard
        displacements = torch.zeros(1, queries.count, tracker.config.future, 3)
        displacements[..., 0] = ahead_m
        memory = torch.zeros(1, queries.count, tracker.config.history, DIM)
        return Reasoned(
            made.embeddings[-1],
            queries.positions,
            made.logits[-1],
            made.codes[-1],
            History(memory, memory[..., 0] == 0),
            displacements,
        )

    with torch.no_grad(), patch.object(tracker, "reason", reason):
        return tracker.conclude(look_with(tracker, make_frame(time_s, **frame), state, predict, OBJECTS))


def own(state: TrackState) -> PastAndFuture:
    return state.owned(PastAndFuture)


def shown(objects: Objects) -> list[int]:
    return objects.identities[objects.valid].tolist()


def by_identity(objects: Objects, stream: int) -> Tensor:
    """Indices of a stream's valid rows in the order of their identities."""
    rows = objects.valid[stream].nonzero()[:, 0]
    return rows[objects.identities[stream, rows].argsort()]


# Births, misses and deaths


def test_objects_are_numbered_by_row_and_reported_best_first(tracker):
    objects, state = advance(tracker, tracker.initial_state(), 0.0, {5: 0.9, 2: 0.6, 6: 0.39, 7: 0.19})
    # As published, every query takes a number, seen or not.
    assert state.identities.tolist() == [[2, 5]] and int(state.next_identity) == OBJECTS
    assert shown(objects) == [5, 2]
    assert objects.scores[objects.valid].tolist() == pytest.approx([0.9, 0.6])
    objects, state = advance(tracker, state, 0.5, {OBJECTS: 0.5, OBJECTS + 1: 0.8, 0: 0.7})
    assert shown(objects) == [5, OBJECTS, 2]
    assert sorted(state.identities[0].tolist()) == [2, 5, OBJECTS]


def test_between_record_and_birth_score_a_query_is_reported_but_no_track(tracker):
    config = dataclasses.replace(tracker.config, record_score=0.2)
    objects, state = advance(config.build(tracker.detector), tracker.initial_state(), 0.0, {3: 0.3})
    assert shown(objects) == [3] and state.count == 0


def test_a_missed_track_lives_up_to_its_tolerance_and_its_number_is_not_used_again(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9})
    for missed in range(1, tracker.config.miss_tolerance):
        objects, state = advance(tracker, state, 0.5 * missed, {})
        assert not objects.valid.any()
        assert state.identities.tolist() == [[0]] and state.misses.tolist() == [[missed]]
    objects, revived = advance(tracker, state, 5.0, {OBJECTS: 0.5})
    assert revived.misses.tolist() == [[0]] and shown(objects) == [0]
    _, state = advance(tracker, state, 5.0, {})
    assert state.count == 0
    before = int(state.next_identity)
    _, state = advance(tracker, state, 5.5, {0: 0.9})
    assert state.identities.tolist() == [[before]]


def test_untracked_classes_are_dropped_and_end_tracks(tracker):
    barrier = CLASSES.index("barrier")
    objects, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, label=barrier)
    assert state.count == 0 and not objects.valid.any()
    _, state = advance(tracker, state, 0.5, {0: 0.9})
    assert state.count == 1
    objects, state = advance(tracker, state, 1.0, {OBJECTS: 0.9}, label=barrier)
    assert state.count == 0 and not objects.valid.any()


def test_a_new_scene_ends_all_tracks_and_counts_from_zero(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9, 1: 0.9})
    objects, state = advance(tracker, state, -100.0, {0: 0.9}, scenes="b")
    assert state.identities.tolist() == [[0]] and shown(objects) == [0]


def test_more_objects_than_slots_keeps_the_best(tracker):
    few = dataclasses.replace(tracker.config, max_tracks=3, max_objects=2).build(tracker.detector).eval()
    scores = {row: 0.5 + 0.04 * row for row in range(OBJECTS)}
    objects, state = advance(few, few.initial_state(), 0.0, scores)
    assert state.identities.tolist() == [[OBJECTS - 3, OBJECTS - 2, OBJECTS - 1]]
    assert shown(objects) == [OBJECTS - 1, OBJECTS - 2]


def test_objects_out_of_range_are_not_reported(tracker):
    objects, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, x_m=61.3)
    assert not objects.valid.any() and state.count == 1


def test_nothing_seen_ever(tracker):
    state = tracker.initial_state()
    for t in range(3):
        objects, state = advance(tracker, state, 0.5 * t, {})
        assert not objects.valid.any() and state.count == 0


def test_many_frames_keep_the_state_bounded_and_identities_apart(tracker):
    state, seen = tracker.initial_state(), set()
    for t in range(150):
        objects, state = advance(tracker, state, 0.5 * t, {t % OBJECTS: 0.9})
        assert state.count <= tracker.config.miss_tolerance
        assert own(state).history.embeddings.shape[2] == tracker.config.history
        (identity,) = shown(objects)
        assert identity not in seen
        seen.add(identity)


# Extension and motion


def test_a_missed_track_follows_its_forecast(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, ahead_m=2.0)
    embeddings = state.queries.embeddings
    for missed in range(1, 4):
        _, state = advance(tracker, state, 0.5 * missed, {}, poses=pose(3.0 * missed))
        # Two metres further by itself, three metres nearer by our own motion, a frame.
        expected = pytest.approx([10.0 - missed, 0, 0], abs=1e-5)
        assert state.queries.references[0, 0].tolist() == expected
        assert torch.equal(state.queries.embeddings, embeddings), "an unseen query's content must stay"
    # Beyond the horizon of four frames it stands still.
    for missed in range(4, 7):
        _, state = advance(tracker, state, 0.5 * missed, {}, poses=pose(9.0))
    assert state.queries.references[0, 0].tolist() == pytest.approx([10 + 4 * 2.0 - 9, 0, 0], abs=1e-5)


def test_an_unpunctual_frame_is_as_good_as_a_punctual_one(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, ahead_m=2.0)
    on_time, late = (entered(tracker, make_frame(time_s), state) for time_s in (0.5, 0.59))
    for name in ("references", "codes"):
        assert torch.equal(getattr(late.queries, name), getattr(on_time.queries, name))
    for name in ("centres", "displacements"):
        assert torch.equal(getattr(own(late).forecasts, name), getattr(own(on_time).forecasts, name))
    assert torch.equal(own(on_time).forecasts.displacements, own(state).forecasts.displacements)


@pytest.mark.parametrize(("elapsed_s", "steps"), [(0.2, 0.4), (0.75, 1.5), (1.0, 2), (1.58, 3), (9.0, 18)])
def test_tracks_follow_their_forecasts_for_the_time_that_passed(tracker, elapsed_s, steps):
    """Displacements of 1, 2, 3 and 4 metres, then nothing."""
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9})
    displacements = torch.tensor([1.0, 2, 3, 4])[None, None, :, None] * torch.tensor([1.0, 0, 0])
    forecasts = dataclasses.replace(
        own(state).forecasts,
        displacements=displacements,
        centres=state.queries.references[:, :, None] + displacements.cumsum(2),
    )
    state = dataclasses.replace(state, own=dataclasses.replace(own(state), forecasts=forecasts))

    def place(frames: float) -> float:
        way = [0, 1, 3, 6, 10, 10]
        whole = min(int(frames), 4)
        return 10 + way[whole] + (min(frames, 4) - whole) * (way[whole + 1] - way[whole])

    there = entered(tracker, make_frame(elapsed_s, poses=pose(5.0)), state)
    assert there.queries.references[0, 0].tolist() == pytest.approx([place(steps) - 5, 0, 0], abs=1e-5)
    _, missed = advance(tracker, state, elapsed_s, {}, poses=pose(5.0))
    assert missed.queries.references[0, 0, 0].item() == pytest.approx(place(steps) - 5, abs=1e-5)
    expected = [place(steps + ahead) - 5 for ahead in (1, 2, 3)]
    assert own(missed).forecasts.centres[0, 0, :3, 0].tolist() == pytest.approx(expected, abs=1e-5)
    # Half a second later it is on its way still.
    _, missed = advance(tracker, missed, elapsed_s + 0.5, {}, poses=pose(5.0))
    assert missed.queries.references[0, 0, 0].item() == pytest.approx(place(steps + 1) - 5, abs=1e-5)


def test_a_long_silence_ends_tracks_but_not_numbering(tracker):
    patient = dataclasses.replace(tracker.config, longest_gap_s=10.0).build(tracker.detector).eval()
    _, state = advance(patient, tracker.initial_state(), 0.0, {0: 0.9, 1: 0.9})
    _, same = advance(patient, state, 9.0, {OBJECTS: 0.9, OBJECTS + 1: 0.9})
    assert same.identities.tolist() == [[0, 1]]
    objects, later = advance(patient, state, 11.0, {0: 0.9, OBJECTS: 0.9})
    assert later.identities.tolist() == [[OBJECTS]] and shown(objects) == [OBJECTS]
    _, forever = advance(tracker, state, 1000.0, {OBJECTS: 0.9})
    assert forever.identities.tolist() == [[0, 1]]


def test_forecasts_turn_with_the_vehicle(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, ahead_m=2.0)
    state = entered(tracker, make_frame(0.5, poses=pose(yaw_rad=math.pi / 2)), state)
    # What was ahead is to the right of a vehicle that has turned left.
    assert state.queries.references[0, 0].tolist() == pytest.approx([0, -12, 0], abs=1e-5)
    centres = own(state).forecasts.centres
    assert centres[0, 0, :, 1].tolist() == pytest.approx([-12, -14, -16, -18], abs=1e-5)
    assert torch.equal(state.queries.codes[..., :3], state.queries.references)


def test_forecasts_are_reported_as_places(tracker):
    objects, _ = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, ahead_m=1.5)
    places = objects.forecasts[objects.valid]
    assert places.shape == (1, 4, 2)
    assert places[0, :, 0].tolist() == pytest.approx([11.5, 13, 14.5, 16])


def test_extensions_can_be_reported_with_their_class_and_a_score_of_their_own(tracker):
    truck = CLASSES.index("truck")
    config = dataclasses.replace(tracker.config, output_score=EXTENSION_SCORE / 2)
    open_minded = config.build(tracker.detector)
    _, state = advance(open_minded, tracker.initial_state(), 0.0, {1: 0.9}, ahead_m=2.0, label=truck)
    objects, _ = advance(open_minded, state, 0.5, {}, label=truck)
    assert shown(objects) == [1] and objects.labels[objects.valid].tolist() == [truck]
    assert objects.scores[objects.valid].tolist() == pytest.approx([EXTENSION_SCORE])
    assert objects.boxes[objects.valid][0, 0].item() == pytest.approx(12.0)


@pytest.mark.parametrize(("motion", "expected"), [("velocity", (3, 1)), ("published_velocity", (0.5, 3))])
def test_motion_by_velocity(tracker, motion, expected):
    config = dataclasses.replace(tracker.config, motion=motion, future_reasoning=False)
    plain = config.build(tracker.detector).eval()

    def predict(queries: Queries) -> Predictions:
        codes = torch.zeros(1, 1, 1, 10)
        # Heading to the right at (6, 2) m/s; the original reads (-sin yaw, vx) = (1, 6) instead.
        codes[..., 6:] = torch.tensor([-1.0, 0.0, 6.0, 2.0])
        logits, embeddings = torch.full((1, 1, 1, 4), 3.0), torch.zeros(1, 1, 1, DIM)
        return Predictions(logits, codes, embeddings, codes[..., :3], queries.valid, 1)

    def reason(decoded: Decoded, _: object) -> Reasoned:
        made, history = decoded.standard, History(torch.zeros(1, 1, 3, DIM), torch.ones(1, 1, 3).bool())
        embeddings = made.embeddings[-1]
        return Reasoned(embeddings, embeddings, made.logits[-1], made.codes[-1], history)

    with torch.no_grad(), patch.object(plain, "reason", reason):
        decoded = look_with(plain, make_frame(0.0), plain.initial_state(), predict, 1)
        objects, state = plain.conclude(decoded)
    assert objects.forecasts is None
    step = entered(plain, make_frame(0.5), state).queries.references - state.queries.references
    assert step[0, 0, :2].tolist() == pytest.approx(expected)


# Whole steps on small models


def eager(kind: str) -> PfTrack:
    config = dataclasses.replace(TRACKER, birth_score=0.5, record_score=0.4, output_score=0.3)
    return build(kind, config)


@pytest.mark.parametrize("kind", KINDS)
def test_any_detector_tracks_and_its_state_can_be_saved(kind):
    small = eager(kind)
    state = small.initial_state()
    frames = [make_frame(0.5 * t, seed=t, poses=pose(2.0 * t)) for t in range(4)]
    for frame in frames[:3]:
        objects, state = small.step(frame, state)
        identities = shown(objects)
        assert len(identities) == len(set(identities))
        assert torch.isfinite(objects.boxes).all()
    assert state.count > 0 and own(state).history.valid.any(-1).all()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    first, _ = small.step(frames[3], state)
    second, _ = small.step(frames[3], saved.to("cpu"))
    assert same(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_in_a_batch_do_not_see_each_other(kind):
    small = eager(kind)
    both, alone = small.initial_state(2), [small.initial_state(), small.initial_state()]
    counts = []
    for t in range(3):
        # The second stream changes its scene, so that it has fewer tracks and padding beside them.
        scenes = ("a", f"b{t}")
        single = [
            dataclasses.replace(make_frame(0.5 * t, seed=t + 50 * row), scenes=(scene,))
            for row, scene in enumerate(scenes)
        ]
        joined = dataclasses.replace(
            make_frame(0.5 * t, streams=2),
            images=torch.cat([frame.images for frame in single]),
            scenes=scenes,
        )
        pair, both = small.step(joined, both)
        counts.append(both.alive.sum(1).tolist())
        for row, frame in enumerate(single):
            lone, alone[row] = small.step(frame, alone[row])
            mine, own = by_identity(pair, row), by_identity(lone, 0)
            assert torch.equal(pair.identities[row, mine], lone.identities[0, own])
            assert torch.allclose(pair.boxes[row, mine], lone.boxes[0, own], atol=1e-4)
            assert torch.allclose(pair.forecasts[row, mine], lone.forecasts[0, own], atol=1e-4)
    assert any(first > second for first, second in counts), "padding was never needed"


def foreseeing_all(tracker: PfTrack) -> PfTrack:
    """The tracker as in training, where all queries' displacements are wanted, but for its layers."""
    twin = copy.deepcopy(tracker)
    twin.training = True
    return twin


def test_reasoning_treats_all_rows_alike(tracker):
    tracker = foreseeing_all(tracker)
    order = torch.randperm(OBJECTS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        decoded = tracker.look(make_frame(0.0), tracker.initial_state())
        straight, made = decoded.reasoned, decoded.standard
        turned = tracker.reason(
            dataclasses.replace(
                decoded,
                queries=dataclasses.replace(decoded.queries, positions=decoded.queries.positions[:, order]),
                predictions=(
                    dataclasses.replace(
                        made,
                        logits=made.logits[:, :, order],
                        codes=made.codes[:, :, order],
                        embeddings=made.embeddings[:, :, order],
                    ),
                ),
            ),
            None,
        )
    assert torch.allclose(turned.codes, straight.codes[:, order], atol=1e-5)
    assert torch.allclose(turned.displacements, straight.displacements[:, order], atol=1e-5)
    assert straight.history.valid[0, 0].tolist() == [False, False, True]


def test_foreseeing_only_what_is_seen_changes_nothing(tracker):
    """A step asks for the forecasts of seen rows alone; training for everybody's."""
    few = eager("petr")
    state = few.initial_state()
    for t in range(2):
        _, state = few.step(make_frame(0.5 * t, seed=t), state)
    with torch.no_grad():
        frame = make_frame(1.0, seed=2)
        everybody, seen = foreseeing_all(few).look(frame, state), few.look(frame, state)
        assert everybody.reasoned.displacements.shape[2] == few.config.future
        assert seen.reasoned.displacements is None
        whole, after = few.conclude(everybody)
        part, other = few.conclude(seen)
    assert int(whole.valid.sum()) > 0 and torch.equal(whole.identities, part.identities)
    assert torch.allclose(whole.forecasts, part.forecasts, atol=1e-5)
    assert torch.allclose(own(after).forecasts.centres, own(other).forecasts.centres, atol=1e-5)
    assert torch.equal(after.queries.codes, other.queries.codes)


@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize("future", [True, False])
def test_both_reasonings_can_be_left_out(past, future):
    motion = "forecast" if future else "velocity"
    config = dataclasses.replace(
        TRACKER, past_reasoning=past, future_reasoning=future, motion=motion, record_score=0.0,
        birth_score=0.005, output_score=0.0, untracked=(),
    )  # fmt: skip
    torch.manual_seed(0)
    small = config.build(KINDS["petr"].build()).eval()
    names = {name.split(".")[0] for name, _ in small.named_parameters()} - {"detector"}
    parts = {"past": past, "future": future, "time_encoder": past or future}
    assert names == {name for name, there in parts.items() if there}
    state = small.initial_state()
    for t in range(3):
        objects, state = small.step(make_frame(0.5 * t, seed=t), state)
    assert state.count > 0 and (objects.forecasts is None) == (not future)


def test_impossible_settings_are_refused(tracker):
    with pytest.raises(SynclError, match="future_reasoning=true"):
        dataclasses.replace(TRACKER, future_reasoning=False).build(tracker.detector)
    with pytest.raises(SynclError, match="history=0"):
        dataclasses.replace(TRACKER, history=0).build(tracker.detector)
    with pytest.raises(SynclError, match=r"frame_s=0\.0"):
        dataclasses.replace(TRACKER, frame_s=0.0).build(tracker.detector)


def test_the_state_of_another_tracker_is_refused(tracker):
    other = Mutr3dConfig(heads=4, hidden=32).build(tracker.detector).initial_state()
    with pytest.raises(SynclError, match="another tracker"):
        tracker.step(make_frame(0.0), other)


def test_past_reasoning_starts_with_the_detectors_embeddings_and_centres():
    torch.manual_seed(0)
    past = PastReasoning(32, 3, 4, 64, 2, 0.0).eval()
    embeddings = torch.nn.functional.layer_norm(torch.randn(1, 5, 32), (32,))
    memory = torch.randn(1, 5, 3, 32)
    seen = torch.ones(1, 5, 3, dtype=torch.bool)
    refined = past(embeddings, torch.randn(1, 5, 32), torch.randn(3, 32), memory, seen, None)
    torch.testing.assert_close(refined, embeddings, atol=1e-4, rtol=1e-4)
    centres = torch.rand(1, 5, 3)
    _, codes = past.predict(refined, centres, ReferenceRange((0, 0, 0, 1, 1, 1)))
    torch.testing.assert_close(codes[..., :3], centres)
