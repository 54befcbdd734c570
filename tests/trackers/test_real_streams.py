"""Life on a real stream, for every tracker.

What comes late, twice, backwards, half or not at all; many streams; stopping and going on.
"""

import dataclasses
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rig
from looks import same
from rig import SMALL, pose
from stub_detector import StubDetector, stub_frame
from syncl.checkpoints.state_file import load_state, save_state
from syncl.detectors import BevEncoderConfig, BevformerConfig
from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.recipes.synthetic import (
    CLASSES,
    small_mutr3d,
)
from syncl.structures import CameraRig, Frame, Objects
from syncl.trackers import GreedyConfig, Mutr3dConfig, PfTrackConfig, Tracker, TrackState

KINDS = [f"mutr3d on {name}" for name in SMALL]
# That streams of a batch are independent is tested on all detectors for PF-Track too, in test_pf_track.py.
KINDS += ["pf-track on detr3d", "pf-track on streampetr", "greedy on detr3d", "greedy on streampetr"]


def make_frame(time_s: float, scene: str = "a", seed: int | None = None) -> Frame:
    """A frame of one stream; the vehicle drives 4 m/s along a bend."""
    return rig.make_frame(time_s, scene, pose(4 * time_s, yaw_rad=0.05 * time_s), seed=seed)


def batch(frames: list[Frame]) -> Frame:
    def join(get: Callable[[Frame], Tensor]) -> Tensor:
        return torch.cat([get(frame) for frame in frames])

    return Frame(
        join(lambda f: f.images),
        CameraRig(
            frames[0].rig.names,
            join(lambda f: f.rig.image_from_camera),
            join(lambda f: f.rig.camera_from_vehicle),
        ),
        join(lambda f: f.camera_valid),
        join(lambda f: f.content_size),
        join(lambda f: f.global_from_vehicle),
        join(lambda f: f.timestamp_s),
        tuple(f.scenes[0] for f in frames),
        tuple(f.samples[0] for f in frames),
    )


def reported(objects: Objects, stream: int = 0) -> dict[int, Tensor]:
    """Boxes by identity."""
    valid = objects.valid[stream]
    return dict(zip(objects.identities[stream, valid].tolist(), objects.boxes[stream, valid]))


# Like its neighbours in what a stream could upset: refined references, a detector's own memory.
ALIKE = ("mutr3d on mutr3d_detr3d", "greedy on streampetr")


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.slow if kind in ALIKE else ()) for kind in KINDS],
)
def tracker(request: pytest.FixtureRequest) -> Tracker:
    """Untrained, with thresholds amid its scores, so that tracks are born, missed and end."""
    kind, _, name = request.param.split()
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL[name](), proposals=None, lifted_tracks=False, layers=2)
    if hasattr(config, "cameras"):
        config = dataclasses.replace(config, cameras=2)
    if isinstance(config, BevformerConfig):
        config = dataclasses.replace(config, bev=BevEncoderConfig((12, 16), layers=1))
    detector = config.build().eval()
    # Scores of fresh weights are all alike; spread them.
    for branch in detector.class_branches:
        torch.nn.init.normal_(branch[-1].weight, std=0.3)
    with torch.no_grad():
        features = detector.encode(make_frame(0.0), detector.initial_memory(1))
        (found,) = detector.decode(detector.initial_queries(features), features)
    best = found.logits[-1].sigmoid().amax(-1).flatten().sort(descending=True).values
    birth, keep = float(best[5:7].mean()), float(best[15:17].mean())
    if kind == "pf-track":
        return pf_track(detector)
    if kind == "greedy":
        return GreedyConfig(birth, gate_m=4.0, classes=CLASSES).build(detector).eval()
    life = dataclasses.replace(
        small_mutr3d(),
        birth_score=birth,
        keep_score=keep,
        output_score=keep,
        miss_tolerance=2,
        max_tracks=30,
        longest_gap_s=10.0,
    )
    return life.build(detector).eval()


def pf_track(detector: Detector) -> Tracker:
    """PF-Track with thresholds amid the scores that its untrained reasoning gives."""
    # Every class is tracked: all untrained queries like the same one best.
    life = PfTrackConfig(
        heads=4, hidden=32, layers=1, future=4, miss_tolerance=3, max_tracks=30, untracked=()
    )
    tracker = life.build(detector).eval()
    torch.nn.init.normal_(tracker.past.class_branch[-1].weight, std=0.3)
    with torch.no_grad():
        logits = tracker.look(make_frame(0.0), tracker.initial_state()).reasoned.logits
    best = logits.sigmoid().amax(-1).flatten().sort(descending=True).values
    birth, keep = float(best[5:7].mean()), float(best[15:17].mean())
    chosen = dataclasses.replace(life, birth_score=birth, record_score=keep, output_score=keep)
    sure = chosen.build(detector).eval()
    sure.load_state_dict(tracker.state_dict())
    return sure


@pytest.fixture(scope="module")
def under_way(tracker: Tracker) -> TrackState:
    """The state after two frames, a value that no test can change."""
    return drive(tracker, [make_frame(0.5), make_frame(1.0)])[1]


@pytest.fixture(scope="module")
def third(tracker: Tracker, under_way: TrackState) -> dict[int, Tensor]:
    """What is reported in the third frame when nothing goes wrong before."""
    return reported(tracker.step(make_frame(1.5), under_way)[0])


def drive(
    tracker: Tracker, frames: list[Frame], state: TrackState | None = None
) -> tuple[list[Objects], TrackState]:
    state = tracker.initial_state() if state is None else state
    found = []
    for frame in frames:
        objects, state = tracker.step(frame, state)
        found.append(objects)
    return found, state


def test_identities_are_unique_in_a_frame_and_never_come_back(tracker: Tracker) -> None:
    frames = [make_frame(0.5 * step) for step in range(8)]
    found, state = drive(tracker, frames)
    alive_until: dict[int, int] = {}
    for index, objects in enumerate(found):
        identities = objects.identities[objects.valid].tolist()
        assert len(identities) == len(set(identities)) and min(identities, default=0) >= 0
        for identity in identities:
            missed = index - alive_until.get(identity, index)
            assert missed <= tracker.config.miss_tolerance, "an identity of a track that had ended"
            alive_until[identity] = index
    assert len(alive_until) > 3, "nothing was born"
    assert len(alive_until) <= int(state.next_identity) and max(alive_until) < int(state.next_identity)


def test_a_new_scene_starts_as_if_there_had_been_no_other(tracker: Tracker) -> None:
    before = [make_frame(100 + 0.5 * step) for step in range(4)]
    after = [make_frame(0.5 * step, scene="b", seed=step) for step in range(3)]
    _, state = drive(tracker, before)
    changed, _ = drive(tracker, after, state)
    fresh, _ = drive(tracker, after)
    for ours, expected in zip(changed, fresh):
        assert reported(ours).keys() == reported(expected).keys()
        for identity, box in reported(expected).items():
            apart = (reported(ours)[identity] - box).abs()
            # The two numbers that a fresh heading is told by are small, so it feels rounding most.
            heading = apart[6].clone()
            apart[6] = 0
            assert apart.max() < 1e-4 and heading < 1e-3


def test_streams_in_a_batch_equal_streams_by_themselves(tracker: Tracker) -> None:
    """Different times, poses and scene changes; one stream is blind for a while and has no objects."""
    streams = []
    for stream in range(2):
        frames = [
            make_frame(10.0 * stream + 0.4 * step, "a" if step < 3 or stream else "b", 50 * stream + step)
            for step in range(5)
        ]
        streams.append(frames)
    for step in (0, 1):
        blind = torch.zeros_like(streams[1][step].camera_valid)
        streams[1][step] = dataclasses.replace(streams[1][step], camera_valid=blind)
    together, _ = drive(
        tracker, [batch(list(frames)) for frames in zip(*streams)], tracker.initial_state(len(streams))
    )
    for stream, frames in enumerate(streams):
        alone, _ = drive(tracker, frames)
        for step, (ours, expected) in enumerate(zip(together, alone)):
            found, wanted = reported(ours, stream), reported(expected)
            assert found.keys() == wanted.keys(), (stream, step)
            for identity, box in wanted.items():
                assert torch.allclose(found[identity], box, atol=2e-3), (stream, step, identity)


def test_a_saved_state_goes_on_to_the_last_bit(tracker: Tracker, tmp_path) -> None:
    frames = [make_frame(0.5 * step) for step in range(5)]
    _, state = drive(tracker, frames[:3])
    save_state(tmp_path / "state.safetensors", state)
    restored = load_state(tmp_path / "state.safetensors")
    assert type(restored) is type(state)
    straight, end = drive(tracker, frames[3:], state)
    detour, other_end = drive(tracker, frames[3:], restored)
    for ours, expected in zip(detour, straight):
        assert torch.equal(ours.boxes, expected.boxes) and torch.equal(ours.scores, expected.scores)
        assert torch.equal(ours.identities, expected.identities)
    assert same(end, other_end), "the states differ behind them"
    untouched = tracker.initial_state(2)
    save_state(tmp_path / "empty.safetensors", untouched)
    assert load_state(tmp_path / "empty.safetensors").count == 0


def test_a_missing_camera_is_survived(tracker: Tracker) -> None:
    _, state = drive(tracker, [make_frame(0.5 * step) for step in range(3)])
    frame = make_frame(1.5)
    one = dataclasses.replace(frame, camera_valid=torch.tensor([[True, False]]))
    found, state = drive(tracker, [one, make_frame(2.0)], state)
    for objects in found:
        assert torch.isfinite(objects.boxes[objects.valid]).all()
        assert torch.isfinite(objects.scores[objects.valid]).all()


def test_a_wrong_time_is_refused_and_the_stream_goes_on(
    tracker: Tracker, under_way: TrackState, third: dict[int, Tensor]
) -> None:
    for time_s in (1.0, 0.3, 1.0005, 1e6, NAN, INF):
        wrong = dataclasses.replace(make_frame(1.5), timestamp_s=torch.tensor([time_s], dtype=torch.float64))
        with pytest.raises(
            SynclError, match=r"sample a-1\.5.*(not later than|not a finite number|in seconds)"
        ):
            tracker.step(wrong, under_way)
    assert third.keys() == reported(tracker.step(make_frame(1.5), under_way)[0]).keys()


def set_to(place: tuple[int, ...], value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone() if tensor.dtype == torch.float64 else tensor.float()
        changed[place] = value
        return changed

    return change


NAN, INF = float("nan"), float("inf")
DAMAGES: tuple[tuple[str, Callable[[Tensor], Tensor], str], ...] = (
    ("global_from_vehicle", set_to((0, 0, 3), NAN), "global_from_vehicle is no transform"),
    ("global_from_vehicle", lambda pose: 0 * pose, "global_from_vehicle is no transform"),
    ("global_from_vehicle", set_to((0, 0, 3), 1e200), "global_from_vehicle is no transform"),
    ("global_from_vehicle", Tensor.float, "global_from_vehicle is torch.float32"),
    ("image_from_camera", set_to((0, 1, 0, 0), INF), "CAM_1: rig.image_from_camera"),
    ("camera_from_vehicle", set_to((0, 1, 0, 3), NAN), "CAM_1: rig.camera_from"),
    ("images", set_to((0, 1, 2, 3, 4), NAN), "CAM_1: images has pixels that are nan"),
    ("timestamp_s", Tensor.float, "timestamp_s is torch.float32, and needs torch.float64"),
    ("images", lambda images: images[:, :1], "images has shape"),
)


def test_a_damaged_frame_is_refused_by_its_field_and_the_next_goes_on(
    tracker: Tracker, under_way: TrackState
) -> None:
    """StreamPETR's memory once stayed nan for good after a single pose."""
    frame = make_frame(1.5)
    for field, change, message in DAMAGES:
        owner = frame.rig if hasattr(frame.rig, field) else frame
        changed = dataclasses.replace(owner, **{field: change(getattr(owner, field))})
        bad = dataclasses.replace(frame, rig=changed) if isinstance(changed, CameraRig) else changed
        with pytest.raises(SynclError, match=rf"sample a-1\.5.*{re.escape(message)}"):
            tracker.step(bad, under_way)
        seen = dataclasses.replace(frame, past=bad)
        with pytest.raises(SynclError, match=re.escape(message)):
            tracker.step(seen, under_way)
    (objects,), _ = drive(tracker, [make_frame(2.0)], under_way)
    assert torch.isfinite(objects.boxes[objects.valid]).all()


def test_a_dropped_frame_is_only_a_longer_time(tracker: Tracker, under_way: TrackState) -> None:
    """Tracks enter the later frame where their velocities took them, whether or not one was dropped."""
    with torch.no_grad():
        late = tracker.look(make_frame(2.1), under_way).state
    assert late.count == under_way.count and bool((late.alive == under_way.alive).all())
    (objects,), _ = drive(tracker, [make_frame(2.1)], under_way)
    assert torch.isfinite(objects.boxes[objects.valid]).all()


def test_a_long_silence_ends_tracks_but_not_numbering() -> None:
    tracker = Mutr3dConfig(heads=2, hidden=8, longest_gap_s=10.0).build(StubDetector()).eval()
    (first,), state = drive(tracker, [stub_frame(0.0, [0.9, 0.9])])
    (same,), _ = drive(tracker, [stub_frame(9.0, [0.0, 0.0], tracks=0.9)], state)
    (later,), _ = drive(tracker, [stub_frame(11.0, [0.9, 0.0], tracks=0.9)], state)
    assert sorted(reported(first)) == [0, 1] == sorted(reported(same))
    assert sorted(reported(later)) == [2]


def test_a_state_of_other_streams_is_refused() -> None:
    tracker = Mutr3dConfig(heads=2, hidden=8).build(StubDetector()).eval()
    for streams in (2, 0):
        with pytest.raises(SynclError, match=rf"1 stream in the frame, {streams} in .*initial_state\(1\)"):
            tracker.step(stub_frame(0.0, [0.9]), tracker.initial_state(streams))


def test_a_scene_without_a_name_is_refused() -> None:
    """It was taken for the scene of a state that has seen nothing, whose time is 0."""
    tracker = Mutr3dConfig(heads=2, hidden=8).build(StubDetector()).eval()
    frame = dataclasses.replace(stub_frame(1.7e9, [0.9]), scenes=("",))
    with pytest.raises(SynclError, match="scenes: '' is no name"):
        tracker.step(frame, tracker.initial_state())


def test_no_objects_at_all() -> None:
    tracker = Mutr3dConfig(heads=2, hidden=8).build(StubDetector()).eval()
    found, state = drive(tracker, [stub_frame(float(t), []) for t in range(4)])
    assert not any(objects.valid.any() for objects in found)
    assert state.count == 0 and int(state.next_identity) == 0


def test_more_objects_than_slots_keeps_the_best_and_numbers_every_birth() -> None:
    tracker = Mutr3dConfig(heads=2, hidden=8, max_tracks=5, max_objects=4).build(StubDetector()).eval()
    scores = [0.5, 0.9, 0.6, 0.8, 0.95, 0.55, 0.7, 0.85]
    (first,), state = drive(tracker, [stub_frame(0.0, scores)])
    assert sorted(reported(first)) == [1, 3, 4, 7]
    assert state.identities.tolist() == [[1, 3, 4, 6, 7]]
    _, state = drive(tracker, [stub_frame(1.0, scores, tracks=0.99)], state)
    assert state.identities.tolist() == [[1, 3, 4, 6, 7]], "tracks outdo births"
    assert int(state.next_identity) == 16, "a number that got no slot is not given away again"
