"""The greedy tracker on hand-made detections."""

import dataclasses

import pytest
import torch

from rig import make_frame, pose
from syncl.errors import SynclError
from syncl.recipes.synthetic import CLASSES, small_detr3d
from syncl.structures import CameraRig, Frame, Objects
from syncl.trackers import GreedyConfig, TrackState
from syncl.trackers.greedy import Greedy
from syncl.trackers.greedy.pairing import pair_greedily, pair_optimally
from syncl.trackers.greedy.tracker import CentreTracks

CAR, PEDESTRIAN, BARRIER = (CLASSES.index(name) for name in ("car", "pedestrian", "barrier"))


def seen(*rows: tuple[int, float, float, float, float], score: float = 0.9) -> Objects:
    """Detections from (class, x, y, vx, vy)."""
    boxes = torch.ones(1, len(rows), 9)
    for index, (_, x, y, vx, vy) in enumerate(rows):
        boxes[0, index, [0, 1, 7, 8]] = torch.tensor([x, y, vx, vy], dtype=torch.float32)
    labels = torch.tensor([[row[0] for row in rows]], dtype=torch.int64).reshape(1, -1)
    scores = torch.full(labels.shape, score)
    return Objects(boxes, labels, scores, torch.full_like(labels, -1), torch.ones_like(labels).bool())


def tracks_of(state: TrackState) -> CentreTracks:
    return state.owned(CentreTracks)


@pytest.fixture(scope="module")
def detector():
    return small_detr3d().build()


@pytest.fixture
def run(detector):
    """A function that feeds frames to a tracker: (frame, detections), ... to reported identities."""

    def run(*frames: tuple[Frame, Objects], **changes):
        tracker = GreedyConfig(**changes).build(detector)
        state, reported = tracker.initial_state(), []
        for frame, detections in frames:
            objects, state = tracker.step_given(frame, state, detections)
            reported.append(objects.identities[objects.valid].tolist())
        return reported, objects, state

    return run


def test_a_detection_is_put_back_by_its_velocity(run) -> None:
    # 5 m in half a second would be beyond the gate of 2.5 m without its velocity.
    fast = (make_frame(0.0), seen((CAR, 0, 0, 10, 0))), (make_frame(0.5), seen((CAR, 5, 0, 10, 0)))
    assert run(*fast)[0] == [[0], [0]]
    still = (make_frame(0.0), seen((CAR, 0, 0, 0, 0))), (make_frame(0.5), seen((CAR, 5, 0, 0, 0)))
    assert run(*still)[0] == [[0], [1]]
    # Twice the time, twice the way.
    late = (make_frame(0.0), seen((CAR, 0, 0, 10, 0))), (make_frame(1.0), seen((CAR, 10, 0, 10, 0)))
    assert run(*late)[0] == [[0], [0]]


def test_the_vehicles_own_motion_is_taken_out(run) -> None:
    # The vehicle drives 20 m and turns left by a quarter; an object 25 m ahead is then 5 m to its right.
    frames = (
        (make_frame(0.0), seen((CAR, 25, 0, 0, 0))),
        (make_frame(0.5, poses=pose(20.0, yaw_rad=torch.pi / 2)), seen((CAR, 0, -5, 0, 0))),
    )
    reported, _, state = run(*frames)
    assert reported == [[0], [0]]
    assert tracks_of(state).centres[0, 0, :2].tolist() == pytest.approx([0, -5])


def test_classes_do_not_mix_and_untracked_ones_are_left_out(run) -> None:
    frames = (
        (make_frame(0.0), seen((CAR, 0, 0, 0, 0), (BARRIER, 3, 0, 0, 0))),
        (make_frame(0.5), seen((PEDESTRIAN, 0, 0, 0, 0), (BARRIER, 3, 0, 0, 0), (CAR, 1, 0, 0, 0))),
    )
    # The pair's row comes first, then births.
    assert run(*frames)[0] == [[0], [0, 1]]


def test_the_first_detection_chooses_first_and_hungarian_sees_the_whole() -> None:
    distance = torch.tensor([[1.0, 1.5], [1.1, 9.0]]).double().numpy()
    everything = distance < 10
    greedy, optimal = pair_greedily(distance, everything), pair_optimally(distance, everything)
    assert greedy.tracks.tolist() == [0, 1] and optimal.tracks.tolist() == [1, 0]
    near = distance < 2
    assert pair_greedily(distance, near).tracks.tolist() == [0]
    assert pair_greedily(distance, near).born.tolist() == [1]
    assert pair_greedily(distance, near).missed.tolist() == [1]


def test_hungarian_lets_tracks_of_forbidden_pairs_vanish_as_the_original_does() -> None:
    pairing = pair_optimally(torch.tensor([[9.0]]).double().numpy(), torch.tensor([[False]]).numpy())
    assert pairing.born.tolist() == [0] and not len(pairing.tracks) and not len(pairing.missed)
    greedy = pair_greedily(torch.tensor([[9.0]]).double().numpy(), torch.tensor([[False]]).numpy())
    assert greedy.missed.tolist() == [0]


def test_missed_tracks_coast_and_end(run) -> None:
    car, nothing = seen((CAR, 0, 0, 4, 0)), seen()
    start = (make_frame(0.0), car), (make_frame(0.5), seen((CAR, 2, 0, 4, 0)))
    reported, objects, state = run(*start, (make_frame(1.0), nothing))
    assert reported[-1] == [] and not objects.valid.any()
    assert state.misses.tolist() == [[1]]
    assert tracks_of(state).centres[0, 0, 0].item() == pytest.approx(4.0)
    back = (make_frame(1.5), seen((CAR, 6, 0, 4, 0)))
    assert run(*start, (make_frame(1.0), nothing), back)[0][-1] == [0]
    gone = [(make_frame(1.0 + 0.5 * miss), nothing) for miss in range(3)]
    assert run(*start, *gone)[2].count == 0
    again = (make_frame(3.0), seen((CAR, 2, 0, 4, 0)))
    assert run(*start, *gone, again)[0][-1] == [1], "a number is used once in a scene"


@pytest.mark.parametrize(("coasting", "expected_m"), [("last_interval", 4.0), ("elapsed", 8.0)])
def test_coasting_over_a_dropped_frame(run, coasting: str, expected_m: float) -> None:
    frames = (
        (make_frame(0.0), seen((CAR, 0, 0, 4, 0))),
        (make_frame(0.5), seen((CAR, 2, 0, 4, 0))),
        (make_frame(2.0), seen()),
    )
    assert tracks_of(run(*frames, coasting=coasting)[2]).centres[0, 0, 0].item() == pytest.approx(expected_m)


def test_without_velocities_they_are_observed(run) -> None:
    nan = float("nan")
    xs = [0.0, 4.0, 8.0, None, 16.0]
    frames = [
        (make_frame(0.5 * step), seen() if x is None else seen((CAR, x, 0, nan, nan)))
        for step, x in enumerate(xs)
    ]
    reported, objects, state = run(*frames, motion="observed", coasting="elapsed")
    assert reported == [[0], [0], [0], [], [0]]
    assert objects.boxes[0, 0, 7:9].tolist() == pytest.approx([8.0, 0.0], abs=1e-4)
    assert torch.isfinite(tracks_of(state).velocities).all()
    # The first gate is wider, because nobody knows yet how fast it is.
    assert run(*frames[:2], motion="observed", first_gate_m=3.0)[0] == [[0], [1]]
    # Trusted velocities that are not numbers count as none.
    assert run(*frames[:1])[0] == [[0]]


def test_low_scores_are_not_looked_at(run) -> None:
    assert run((make_frame(0.0), seen((CAR, 0, 0, 0, 0), score=0.24)))[0] == [[]]


def test_a_new_scene_and_a_long_silence_end_tracks(run) -> None:
    car = seen((CAR, 0, 0, 0, 0))
    assert run((make_frame(0.0), car), (make_frame(-50.0, scenes="b"), car))[0] == [[0], [0]]
    silent = (make_frame(0.0), car), (make_frame(11.0), car)
    assert run(*silent)[0] == [[0], [0]]
    reported, _, state = run(*silent, longest_gap_s=10.0)
    assert reported == [[0], [1]] and tracks_of(state).elapsed_s.item() == 0


def test_a_detector_without_tracked_classes_is_refused() -> None:
    detector = dataclasses.replace(small_detr3d(), classes=("cone",)).build()
    with pytest.raises(SynclError, match=r"none of the classes to track \(car, .*detector's \(cone\)"):
        GreedyConfig().build(detector)


def test_whole_steps_give_tracks_of_the_detectors_boxes(detector) -> None:
    tracker = GreedyConfig(min_score=0.0, classes=CLASSES, max_detections=20).build(detector).eval()
    assert isinstance(tracker, Greedy)
    six = torch.eye(4).double().expand(1, 6, 4, 4)
    frame = dataclasses.replace(
        make_frame(0.0),
        images=torch.zeros(1, 6, 3, 64, 96, dtype=torch.uint8),
        rig=CameraRig(tuple("abcdef"), six[..., :3, :3], six),
        camera_valid=torch.ones(1, 6, dtype=torch.bool),
        content_size=torch.tensor([64, 96]).expand(1, 6, 2),
    )
    first, state = tracker.step(frame, tracker.initial_state())
    second, state = tracker.step(dataclasses.replace(frame, timestamp_s=frame.timestamp_s + 0.5), state)
    assert first.valid.sum() == 20 and state.alive.sum() >= 20
    # The same pictures: what has a small velocity is found where it was.
    slow = first.boxes[0, :, 7:9].norm(dim=-1) < 1
    again = set(first.identities[0, slow].tolist()) & set(second.identities[0].tolist())
    assert len(again) > 0
