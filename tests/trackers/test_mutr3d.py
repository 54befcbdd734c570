"""MUTR3D's life cycle, motion and state on hand-made predictions and on small models."""

import dataclasses
from functools import partial

import pytest
import torch

import rig
from looks import entered, look_with
from rig import pose
from syncl.errors import SynclError
from syncl.recipes.synthetic import small_detr3d, small_mutr3d
from syncl.structures import Frame, Outcome, Predictions, Queries
from syncl.trackers import ClipNoise, Mutr3dConfig, SingleFrameConfig
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.life_cycle import LifeCycleConfig, LivingByScore
from syncl.trackers.mutr3d.memory_bank import SAVE_PERIOD, MemoryBank
from syncl.trackers.state import TrackState

OBJECTS = 96
make_frame = partial(rig.make_frame, cameras=6, size=(64, 96))


@pytest.fixture(scope="module")
def tracker():
    torch.manual_seed(0)
    return small_mutr3d().build(small_detr3d().build()).eval()


def predict(
    tracker, queries: Queries, scores: dict[int, float], x_m: float = 5.0, speed: float = 0.0
) -> Predictions:
    """Last-layer predictions in which the named rows have a score for class 0 and all others next to none."""
    rows = queries.count
    logits = torch.full((1, 1, rows, 10), -9.0)
    for row, score in scores.items():
        logits[0, 0, row, 0] = torch.logit(torch.tensor(score))
    codes = torch.zeros(1, 1, rows, 10)
    codes[..., 0], codes[..., 7], codes[..., 8] = x_m, 1.0, speed
    embeddings = torch.randn(1, 1, rows, tracker.detector.dim, generator=torch.Generator().manual_seed(1))
    return Predictions(logits, codes, embeddings, codes[..., :3], queries.valid, queries.object_count)


def advance(tracker, state: TrackState, time_s: float, scores: dict[int, float], **options):
    frame = make_frame(time_s, options.pop("scene", "a"), pose(options.pop("forward_m", 0.0)))
    with torch.no_grad():
        return tracker.conclude(
            look_with(tracker, frame, state, lambda q: predict(tracker, q, scores, **options), OBJECTS)
        )


def test_births_are_numbered_in_row_order_and_keep_their_numbers(tracker):
    objects, state = advance(tracker, tracker.initial_state(), 0.0, {7: 0.9, 3: 0.6, 20: 0.39})
    assert state.identities.tolist() == [[0, 1]]
    assert objects.identities[objects.valid].tolist() == [0, 1]
    assert objects.scores[objects.valid].tolist() == pytest.approx([0.6, 0.9])
    objects, state = advance(tracker, state, 0.5, {OBJECTS + 1: 0.8, 50: 0.7})
    assert objects.identities[objects.valid].tolist() == [2, 1]
    assert sorted(state.identities[0].tolist()) == [0, 1, 2]
    assert int(state.next_identity) == 3


def test_a_track_survives_misses_up_to_its_tolerance_and_its_number_is_not_reused(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9})
    for missed in range(1, tracker.config.miss_tolerance):
        objects, state = advance(tracker, state, 0.5 * missed, {})
        assert not objects.valid.any()
        assert state.identities.tolist() == [[0]] and state.misses.tolist() == [[missed]]
    _, revived = advance(tracker, state, 5.0, {OBJECTS: 0.5})
    assert revived.misses.tolist() == [[0]]
    _, state = advance(tracker, state, 5.0, {})
    assert state.count == 0
    _, state = advance(tracker, state, 5.5, {0: 0.9})
    assert state.identities.tolist() == [[1]]


def test_between_the_two_scores_the_count_holds_and_the_track_is_reported(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9})
    _, state = advance(tracker, state, 0.5, {})
    objects, state = advance(tracker, state, 1.0, {OBJECTS: 0.37})
    assert state.misses.tolist() == [[1]]
    assert objects.identities[objects.valid].tolist() == [0]


def test_references_follow_velocity_and_ego_motion(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9}, x_m=10.0, speed=4.0)
    moved = entered(tracker, make_frame(0.5, poses=pose(3.0)), state)
    # 10 m ahead, 2 m further by its own motion, 3 m nearer by ours.
    assert torch.allclose(moved.queries.references[0, 0], torch.tensor([9.0, 0.0, 0.0]), atol=1e-5)
    dropped = entered(tracker, make_frame(1.5, poses=pose(3.0)), state)
    assert dropped.queries.references[0, 0, 0].item() == pytest.approx(13.0)


def test_a_new_scene_ends_all_tracks_and_counts_from_zero(tracker):
    _, state = advance(tracker, tracker.initial_state(), 0.0, {0: 0.9, 1: 0.9})
    objects, state = advance(tracker, state, -100.0, {0: 0.9}, scene="b")
    assert state.identities.tolist() == [[0]]
    assert objects.identities[objects.valid].tolist() == [0]


@pytest.mark.parametrize("time_s", [1.0, 0.5])
def test_a_repeated_or_earlier_frame_is_refused(tracker, time_s):
    _, state = advance(tracker, tracker.initial_state(), 1.0, {0: 0.9})
    with pytest.raises(SynclError, match=r"sample a-.* of scene a is not later"):
        tracker.look(make_frame(time_s), state)


def test_more_objects_than_slots_keeps_the_best(tracker):
    few = dataclasses.replace(tracker.config, max_tracks=3, max_objects=2)
    small = few.build(tracker.detector).eval()
    scores = {row: 0.5 + 0.04 * row for row in range(8)}
    objects, state = advance(small, small.initial_state(), 0.0, scores)
    assert state.identities.tolist() == [[5, 6, 7]]
    assert objects.identities[objects.valid].tolist() == [6, 7]


def test_stepping_is_deterministic_and_the_state_can_be_copied(tracker):
    state = tracker.initial_state()
    frames = [make_frame(0.5 * t, seed=t) for t in range(3)]
    eager = dataclasses.replace(tracker.config, birth_score=0.005, keep_score=0.004, output_score=0.004)
    small = eager.build(tracker.detector).eval()
    small.load_state_dict(tracker.state_dict())
    for frame in frames[:2]:
        _, state = small.step(frame, state)
    assert state.count > 0
    saved = state.map(torch.clone)
    first, _ = small.step(frames[2], state)
    second, _ = small.step(frames[2], saved)
    assert torch.equal(first.boxes, second.boxes) and torch.equal(first.identities, second.identities)
    identities = first.identities[first.valid].tolist()
    assert len(identities) == len(set(identities))


def test_streams_in_a_batch_do_not_see_each_other(tracker):
    eager = dataclasses.replace(tracker.config, birth_score=0.0102, keep_score=0.005, output_score=0.005)
    small = eager.build(tracker.detector).eval()
    small.load_state_dict(tracker.state_dict())
    both, alone = small.initial_state(2), small.initial_state(1)
    for t in range(3):
        left, right = make_frame(0.5 * t, seed=t), make_frame(0.5 * t, seed=t + 50)
        joined = dataclasses.replace(
            make_frame(0.5 * t, streams=2), images=torch.cat([left.images, right.images])
        )
        pair, both = small.step(joined, both)
        single, alone = small.step(left, alone)
        valid = single.valid[0]
        assert torch.equal(pair.identities[0][pair.valid[0]], single.identities[0][valid])
        assert torch.allclose(pair.boxes[0][pair.valid[0]], single.boxes[0][valid], atol=1e-4)


def test_many_frames_keep_the_state_bounded(tracker):
    state = tracker.initial_state()
    for t in range(120):
        _, state = advance(tracker, state, 0.5 * t, {t % OBJECTS: 0.9})
        assert state.count <= tracker.config.miss_tolerance + 1
    assert int(state.next_identity) == 120


def test_memory_bank_saves_every_fourth_frame_at_inference_and_always_in_training():
    bank = MemoryBank(8, 2, 16, slots=3).eval()
    remembered = bank.empty(torch.zeros(1, 1, 8))
    saved = []
    for _ in range(6):
        before = remembered
        remembered = bank.update(torch.randn(1, 1, 8), torch.ones(1, 1), remembered)
        saved.append(not torch.equal(before.embeddings, remembered.embeddings))
    assert saved == [True, False, False, False, True, False] and SAVE_PERIOD == 3
    assert remembered.valid.sum() == 2
    bank.train()
    remembered = bank.update(torch.randn(1, 1, 8), torch.ones(1, 1), remembered)
    assert remembered.valid.sum() == 3


def test_detection_only_reports_without_identities(tracker):
    single = SingleFrameConfig(max_objects=10).build(tracker.detector).eval()
    objects, state = single.step(make_frame(0.0), single.initial_state())
    assert objects.boxes.shape == (1, 10, 9) and (objects.identities == -1).all()
    assert (objects.scores[0].diff() <= 0).all() and state.count == 0


def carry(tracker, frame: Frame, scores: dict[int, float], held: list[int], objects: int) -> TrackState:
    """A training frame after which the first rows hold these objects."""
    decoded = look_with(
        tracker, frame, tracker.initial_state(), lambda q: predict(tracker, q, scores), objects
    )
    identities = torch.full((1, objects), -1)
    identities[0, : len(held)] = torch.tensor(held)
    return tracker.carry(decoded, Outcome({}, identities, identities[None]))


def test_training_drops_tracks_and_adds_false_positives(tracker):
    noise = ClipNoise(drop_probability=0.5, false_positive_ratio=1.0)
    noisy = Mutr3dConfig(heads=4, hidden=128, noise=noise).build(tracker.detector)
    torch.manual_seed(0)
    carried = carry(noisy, make_frame(0.0), {50: 0.9, 51: 0.8}, list(range(40)), 64)
    kept = carried.identities[carried.alive]
    assert 5 < (kept >= 0).sum() < 35
    assert (kept < 0).sum() == (kept >= 0).sum().clamp(max=24)


@pytest.mark.parametrize(("carry_score", "carried"), [(0.0, [7, 8, 9]), (0.2, [7, 9]), (0.9, [])])
def test_in_training_queries_below_the_carry_score_are_forgotten(tracker, carry_score, carried):
    """As at inference: their objects are new-born again in the next frame."""
    config = dataclasses.replace(small_mutr3d(), noise=ClipNoise(carry_score=carry_score))
    trained = config.build(tracker.detector)
    after = carry(trained, make_frame(0.0), {0: 0.5, 1: 0.1, 2: 0.3}, [7, 8, 9], OBJECTS)
    assert after.identities[after.alive].tolist() == carried


def test_an_undisturbed_tracker_forgets_nothing_and_makes_nothing_up(tracker):
    noise = ClipNoise(drop_probability=1.0, carry_score=0.5, false_positive_ratio=1.0)
    noisy = dataclasses.replace(tracker.config, noise=noise).build(tracker.detector)
    calm = noisy.undisturbed()
    scores = {0: 0.9, 1: 0.1, 50: 0.9}
    assert carry(noisy, make_frame(0.0), scores, [7, 8], OBJECTS).count == 0
    after = carry(calm, make_frame(0.0), scores, [7, 8], OBJECTS)
    assert after.identities[after.alive].tolist() == [7, 8]
    # It is a copy: the model in training goes on as it was.
    assert noisy.noise == noise and calm.noise == ClipNoise()
    pairs = zip(noisy.parameters(), calm.parameters(), strict=True)
    assert all(torch.equal(own, copy) and own is not copy for own, copy in pairs)


def test_a_tracker_of_ones_own_that_lives_by_score_is_disturbed_and_ends_as_its_configuration_says():
    class Plain(LivingByScore):
        def renewed(self, decoded, rows, kept, scores):
            raise AssertionError("not stepped here")

    config = LifeCycleConfig(noise=ClipNoise(drop_probability=0.5), longest_gap_s=3.0)
    tracker = Plain(NoDetector(("car",)), config)
    assert (tracker.noise, tracker.longest_gap_s, tracker.config) == (config.noise, 3.0, config)
