"""What every tracker promises, whatever its method."""

import dataclasses
from functools import cache

import pytest
import torch
from torch import Tensor

import rig
from looks import entered, same
from rig import make_frame, make_objects, pose
from syncl.checkpoints.state_file import load_state, save_state
from syncl.errors import SynclError
from syncl.recipes import find_recipe
from syncl.structures import Annotations, Clip, Frame, Objects, Outcome
from syncl.trackers import (
    AdaTrackConfig,
    ClipNoise,
    Decoded,
    DqTrackConfig,
    GreedyConfig,
    Move,
    Mutr3dConfig,
    PfTrackConfig,
    SingleFrameConfig,
    StarTrackConfig,
    Tracker,
    TrackState,
)
from syncl.trackers.cc_3dt import AssociationConfig, Cc3dtConfig
from syncl.trackers.greedy import Greedy
from syncl.trackers.greedy.tracker import CentreTracks
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.streaming import StreamTraining
from syncl.training.unroll import ClipTraining, UnrollConfig

CLASSES = ("car", "truck", "pedestrian")
DETECTORS = {
    kind: dataclasses.replace(rig.DETECTORS[kind], classes=CLASSES) for kind in ("detr3d", "streampetr")
}
# Fresh weights are seldom sure of anything, and tracks are to be born.
ALWAYS = {"birth_score": 0.0, "output_score": 0.0, "longest_gap_s": 10.0}
TRACKERS = {
    "mutr3d": Mutr3dConfig(heads=4, hidden=32, keep_score=0.0, noise=ClipNoise(), **ALWAYS),
    "pf_track": PfTrackConfig(heads=4, hidden=32, layers=1, record_score=0.0, dropout=0.0, **ALWAYS),
    "ada_track": AdaTrackConfig(heads=4, hidden=32, noise=ClipNoise(), **ALWAYS),
    "star_track": StarTrackConfig(keep_score=0.0, blocks=4, hidden=32, noise=ClipNoise(), **ALWAYS),
    "greedy": GreedyConfig(min_score=0.0, classes=CLASSES, longest_gap_s=10.0),
    "dqtrack": DqTrackConfig(0.0, 0.0, gates_m=(9.0,) * 3, classes=CLASSES, heads=4, longest_gap_s=10.0),
    "cc_3dt": Cc3dtConfig(AssociationConfig(0.0, 0.0), min_score=0.0, longest_gap_s=10.0),
    "single_frame": SingleFrameConfig(),
}
TRACKING = [name for name in TRACKERS if name != "single_frame"]


@cache
def shared(kind: str) -> tuple[Tracker, TrackState]:
    """A tracker that no test changes, and its state after two frames."""
    tracker = build(kind)
    return tracker, after(tracker)


def build(kind: str, detector: str = "detr3d") -> Tracker:
    torch.manual_seed(0)
    return TRACKERS[kind].build(DETECTORS[detector].build()).eval()


def after(tracker: Tracker, frames: int = 2) -> TrackState:
    state = tracker.initial_state()
    for number in range(frames):
        _, state = tracker.step(make_frame(0.5 * number, speed_m_s=2.0), state)
    return state


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("kind", TRACKERS)
def test_a_step_is_a_look_and_its_conclusion(kind: str, detector: str) -> None:
    tracker = build(kind, detector)
    state, frame = after(tracker), make_frame(1.0, speed_m_s=2.0)
    stepped = tracker.step(frame, state)
    with torch.no_grad():
        objects, concluded = tracker.conclude(tracker.look(frame, state))
    assert same(stepped, (dataclasses.replace(objects, classes=tracker.classes), concluded))
    assert stepped[0].valid.any()


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize("other", TRACKERS)
def test_a_state_of_another_tracker_is_refused_naming_both(kind: str, other: str) -> None:
    (tracker, _), (_, state) = shared(kind), shared(other)
    if kind == other:
        assert tracker.step(make_frame(1.0), state)[1].timestamp_s.item() == 1
        return
    held = "nothing of its own" if state.own is None else type(state.own).__name__
    kept = "nothing of its own" if tracker.keeps is None else tracker.keeps.__name__
    for attempt in (tracker.step, tracker.look, tracker.watch):
        with pytest.raises(SynclError, match=rf"holds {held}, {type(tracker).__name__} keeps {kept}"):
            attempt(make_frame(1.0), state)


def test_what_a_state_holds_is_given_to_its_own_tracker_alone() -> None:
    state = after(build("greedy"))
    with pytest.raises(SynclError, match="no track queries"):
        _ = state.track_queries
    with pytest.raises(SynclError, match="CentreTracks where Objects is needed"):
        state.owned(Objects)


@pytest.mark.parametrize("kind", TRACKING)
def test_watching_leaves_tracks_alone_and_updates_the_detectors_memory(kind: str) -> None:
    tracker = build(kind, "streampetr")
    state, frame = after(tracker), make_frame(1.0, speed_m_s=2.0)
    with torch.no_grad():
        watched, looked = tracker.watch(frame, state), tracker.look(frame, state)
    assert state.count > 0
    assert torch.equal(watched.identities, state.identities) and torch.equal(watched.misses, state.misses)
    assert watched.alive.all() and torch.equal(watched.next_identity, state.next_identity)
    assert watched.scenes == frame.scenes and torch.equal(watched.timestamp_s, frame.timestamp_s)
    # Tracks are where they are expected at the frame.
    there = entered(tracker, frame, state)
    assert same(watched.queries, there.queries) and same(watched.own, there.own)
    assert same(watched.detector_memory, looked.state.detector_memory)
    assert not same(watched.detector_memory, state.detector_memory)


def test_watching_begins_no_tracks() -> None:
    tracker = build("mutr3d", "streampetr")
    with torch.no_grad():
        watched = tracker.watch(make_frame(0.0), tracker.initial_state())
    assert watched.count == 0 and watched.next_identity.tolist() == [0]
    assert not same(watched.detector_memory, tracker.detector.initial_memory(1))


# How far streams went


def move_to(tracker: Tracker, frame: Frame, state: TrackState) -> Move:
    return tracker.admit(frame, state)


def test_a_move_is_from_the_frame_before_to_this_one() -> None:
    tracker = build("mutr3d")
    move = move_to(tracker, make_frame(1.25, poses=pose(4.0)), after(tracker))
    # The vehicle was at 1 m and is at 4 m: what was at the origin is 3 m behind it.
    assert move.now_from_before[0, :3, 3].tolist() == [-3, 0, 0]
    assert move.now_from_before.dtype == torch.float64
    assert move.elapsed_s.tolist() == [0.75]
    assert move.same_scene.tolist() == [True] == move.continued.tolist()


def test_a_new_scene_takes_no_time_and_a_long_gap_ends_streams_but_not_scenes() -> None:
    tracker = build("mutr3d")
    before = make_frame(0.5, streams=3)
    state = tracker.step(before, tracker.initial_state(3))[1]
    times = torch.tensor([1.0, -7.0, 10.6], dtype=torch.float64)
    now = dataclasses.replace(make_frame(1.0, streams=3), timestamp_s=times, scenes=("a", "b", "a"))
    move = move_to(tracker, now, state)
    assert move.elapsed_s.tolist() == [0.5, 0, 0]
    assert move.same_scene.tolist() == [True, False, True]
    assert move.continued.tolist() == [True, False, False]
    there = entered(tracker, now, state)
    assert there.alive.any(1).tolist() == [True, False, False]
    count = int(state.next_identity[0])
    assert there.next_identity.tolist() == [count, 0, count]


# Restarts


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("kind", TRACKERS)
def test_states_survive_a_file_with_all_that_trackers_keep(kind: str, detector: str, tmp_path) -> None:
    tracker = build(kind, detector)
    state = after(tracker)
    assert state.count > 0 or kind == "single_frame"
    save_state(tmp_path / "state.safetensors", state)
    restored = load_state(tmp_path / "state.safetensors")
    assert type(restored.own) is (tracker.keeps or type(None))
    assert same(restored, state)
    frame = make_frame(1.0, speed_m_s=2.0)
    assert same(tracker.step(frame, restored), tracker.step(frame, state))


# Training


def make_clip(frames: int) -> Clip:
    boxes = torch.tensor([[[5.0, 1, 0, 4, 2, 1.5, 0, 0, 0], [-8, 0, 0, 4, 2, 1.5, 0, 0, 0]]])
    truth = Annotations(
        boxes, torch.tensor([[0, 2]]), torch.tensor([[3, 4]]), torch.ones(1, 2, dtype=torch.bool)
    )
    return Clip(tuple(make_frame(0.5 * number) for number in range(frames)), (truth,) * frames)


class CentresInTraining(Greedy):
    """Greedy association whose tracks are, in training, the centres of the objects that queries hold."""

    def __init__(self) -> None:
        super().__init__(DETECTORS["detr3d"].build(), TRACKERS["greedy"])
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.carried: list[TrackState] = []

    def carry(self, decoded: Decoded, outcome: Outcome, /) -> TrackState:
        state = decoded.state
        held = outcome.identities[0] >= 0
        centres = decoded.standard.codes[-1][:, held, :3] * self.weight
        count = centres.shape[1]
        identities = outcome.identities[:, held]
        tracks = CentreTracks(
            centres=centres,
            velocities=centres.new_zeros(1, count, 2),
            labels=torch.zeros_like(identities),
            sightings=torch.ones_like(identities),
            strides=centres.new_zeros(1, count, 2),
            elapsed_s=state.owned(CentreTracks).elapsed_s,
        )
        self.carried.append(
            dataclasses.replace(
                state,
                identities=identities,
                misses=torch.zeros_like(identities),
                alive=identities >= 0,
                own=tracks,
            )
        )
        return self.carried[-1]


class TowardsTracks:
    """An objective of a tracker whose tracks are no queries: its centres are to stay where they were."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def build(self) -> "TowardsTracks":
        return self

    def further_queries(self, _detector: object, _annotations: Annotations, /) -> None:
        return None

    def __call__(
        self, decoded: Decoded, _outcome: Outcome, _annotations: Annotations, /
    ) -> dict[str, Tensor]:
        centres = decoded.state.owned(CentreTracks).centres
        self.seen.append(centres)
        return {"centres": (centres - 1).square().sum()}


@pytest.mark.parametrize("strategy", [BaselineConfig(), SynclConfig()], ids=["baseline", "syncl"])
def test_a_tracker_whose_tracks_are_no_queries_trains_on_clips(strategy: object) -> None:
    torch.manual_seed(0)
    tracker, objective = CentresInTraining(), TowardsTracks()
    training = ClipTraining(tracker, strategy.build(32), UnrollConfig(objectives=(objective,)))
    losses = training(make_clip(3))
    assert torch.isfinite(losses["total"])
    # Both objects are held from the first frame on, and the state that was carried is that of the next look.
    assert [state.identities.sort().values.tolist() for state in tracker.carried] == [[[3, 4]]] * 2
    assert [centres.shape[1] for centres in objective.seen] == [0, 2, 2]
    assert all(state.queries is None for state in tracker.carried)
    losses["total"].backward()
    assert tracker.weight.grad is not None and tracker.weight.grad.abs().min() > 0


def held(decoded: Decoded, identities: list[int]) -> Outcome:
    """An outcome by which the first queries hold these objects, all of which are there."""
    rows = torch.full_like(decoded.queries.identities, -1)
    rows[0, : len(identities)] = torch.tensor(identities)
    return Outcome({}, rows, rows[None])


@pytest.mark.parametrize("kind", ["mutr3d", "pf_track", "ada_track", "star_track"])
def test_an_undisturbed_tracker_carries_all_that_hold_an_object(kind: str) -> None:
    noise = ClipNoise(drop_probability=1.0, carry_score=0.9, false_positive_ratio=1.0)
    config = dataclasses.replace(TRACKERS[kind], noise=noise)
    tracker = config.build(DETECTORS["detr3d"].build())
    calm = tracker.undisturbed()
    for one, expected in ((tracker, []), (calm, [3, 4])):
        decoded = one.look(make_frame(0.0), one.initial_state())
        carried = one.carry(decoded, held(decoded, [3, 4]))
        assert carried.identities[carried.alive].tolist() == expected
    assert tracker.noise == noise and calm.training == tracker.training


@torch.no_grad()
def test_pf_track_carries_the_same_forecasts_whoever_asked_for_them() -> None:
    """Training foresees all queries in a look; a tracker in inference mode, when it is made to carry."""
    tracker = build("pf_track")
    # Fresh forecasts stand still.
    torch.nn.init.normal_(tracker.future.motion_branch[-1].weight)
    state, frame = after(tracker), make_frame(1.0)
    decoded = tracker.look(frame, state)
    tracker.training = True
    foreseen = tracker.look(frame, state)
    assert decoded.reasoned.displacements is None and foreseen.reasoned.displacements is not None
    late, early = (tracker.carry(one, held(one, [3, 4])) for one in (decoded, foreseen))
    assert late.count == early.count == 2
    assert late.own.forecasts.displacements.norm(dim=-1).min() > 0.01
    for name in ("labels", "centres", "displacements"):
        ours, theirs = (getattr(state.own.forecasts, name) for state in (late, early))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["greedy", "cc_3dt", "single_frame"])
def test_trackers_without_tracks_in_training_train_their_detector(kind: str) -> None:
    tracker = build(kind)
    losses = ClipTraining(tracker, BaselineConfig().build(32), UnrollConfig())(make_clip(2))
    losses["total"].backward()
    assert {"class", "box"} <= losses.keys()
    assert all(p.grad is not None for p in tracker.detector.class_branches.parameters())


LEARNING = ("mutr3d", "pf-track", "ada-track", "star-track", "onetrack", "dqtrack")


@pytest.mark.parametrize("kind", LEARNING)
def test_every_tracker_learns_from_streams_whose_tracks_last(kind: str) -> None:
    recipe = find_recipe(f"{kind}_detr3d_synthetic")
    torch.manual_seed(0)
    tracker = recipe.model.tracker.build(rig.DETECTORS["detr3d"].build())
    tracker.noise = ClipNoise(birth_score=0.2)
    strategy = dataclasses.replace(recipe.training.strategy, release_m=0.0).build(rig.DIM)
    streams = StreamTraining(ClipTraining(tracker, strategy, recipe.training.unroll))
    looked, look = [], tracker.look
    tracker.look = lambda *given: looked.append(found := look(*given)) or found  # type: ignore
    state = tracker.initial_state(2)
    for step in range(2):
        frames = tuple(make_frame(step + 0.5 * number, streams=2) for number in range(2))
        truth = make_objects([0, 1], 2, future=tracker.future_frames or None)
        losses, state = streams(Clip(frames, (truth, truth)), state)
    # Those of the first step are there when the second one looks at its first frame.
    known = looked[2].state
    assert {0, 1} <= set(known.identities[1][known.alive[1]].tolist())
    losses["total"].backward()
    learned = [name for name, value in tracker.named_parameters() if value.grad is not None]
    assert any(not name.startswith("detector.") for name in learned)
