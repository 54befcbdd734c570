"""Training PF-Track: every detector and strategy, its own losses by hand, what they train."""

import dataclasses

import pytest
import torch

from grids import thinned
from rig import DETECTORS, DIM, make_frame
from syncl.data.nuscenes.index import open_nuscenes
from syncl.errors import SynclError
from syncl.runs.train.clips import check_frame_times
from syncl.runs.train.run import train_recipe
from syncl.structures import Annotations, Clip, Trajectories
from syncl.trackers import ClipNoise, Mutr3dConfig, PfTrackConfig
from syncl.trackers.pf_track import PfTrack
from syncl.training.objectives.reasoning import ReasoningLossConfig, future_of, trajectory_loss
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

FUTURE = 3
KINDS = DETECTORS | {"petr": dataclasses.replace(DETECTORS["petr"], learned_contents=True)}


STRATEGIES = {"baseline": BaselineConfig(), "syncl": SynclConfig()}


def build(kind: str = "petr", **options) -> PfTrack:
    torch.manual_seed(0)
    config = PfTrackConfig(heads=4, hidden=48, dropout=0.0, future=FUTURE, **options)
    return config.build(KINDS[kind].build())


def make_truth(identities: list[int], streams: int = 1, trajectories: bool = True) -> Annotations:
    """Objects whose place follows from their identity; they drive a metre ahead each frame."""
    count = len(identities)
    boxes = torch.zeros(streams, count, 9)
    boxes[..., 0] = torch.tensor([8.0 + 5 * identity for identity in identities])
    boxes[..., 3:6] = torch.tensor([4.0, 2.0, 1.5])
    steps = torch.arange(FUTURE + 1.0)
    centres = boxes[:, :, None, :3].repeat(1, 1, FUTURE + 1, 1)
    centres[..., 0] += steps
    known = torch.ones(streams, count, FUTURE + 1, dtype=torch.bool)
    return Annotations(
        boxes,
        torch.tensor(identities).remainder(3).repeat(streams, 1),
        torch.tensor(identities, dtype=torch.int64).repeat(streams, 1),
        torch.ones(streams, count, dtype=torch.bool),
        Trajectories(centres, known) if trajectories else None,
    )


def make_clip(*identities: list[int], streams: int = 1, trajectories: bool = True) -> Clip:
    return Clip(
        tuple(make_frame(0.5 * number, streams=streams, speed_m_s=2.0) for number in range(len(identities))),
        tuple(make_truth(row, streams, trajectories) for row in identities),
    )


CLIP = ([0, 1, 2, 3], [0, 1, 2, 4], [0, 2, 3, 4])


@pytest.mark.parametrize(("kind", "strategy"), thinned(KINDS, STRATEGIES))
def test_any_detector_and_strategy_take_a_step(kind, strategy):
    tracker = build(kind)
    training = ClipTraining(tracker, STRATEGIES[strategy].build(DIM), UnrollConfig())
    losses = training(make_clip(*CLIP, streams=2))
    assert {"class", "box", "refined_class", "refined_box", "trajectory"} <= losses.keys()
    assert ("cross_class" in losses) == (strategy == "syncl")
    assert all(torch.isfinite(value) for value in losses.values())
    losses["total"].backward()
    without = [
        name
        for name, parameter in tracker.named_parameters()
        if parameter.grad is None and name.startswith(("past.", "future.", "time_encoder."))
    ]
    assert not without
    # SynCL's own parameters are not the tracker's.
    assert not any("contrast" in name for name, _ in tracker.named_parameters())


@pytest.mark.parametrize("kind", ["petr", "detr3d"])
def test_the_reasoning_is_the_same_whatever_the_strategy(kind):
    """SynCL adds a decoder beside the standard one; reasoning looks at the standard one alone."""
    values = []
    for strategy in STRATEGIES.values():
        training = ClipTraining(build(kind), strategy.build(DIM), UnrollConfig()).eval()
        values.append(training(make_clip(*CLIP)))
    for name in ("class", "box", "refined_class", "refined_box", "trajectory"):
        assert torch.equal(values[0][name], values[1][name]), name


def test_frames_without_objects_train():
    training = ClipTraining(build(), STRATEGIES["baseline"].build(DIM), UnrollConfig())
    losses = training(make_clip([], [1, 2], []))
    assert all(torch.isfinite(value) for value in losses.values())
    losses["total"].backward()


def test_a_track_whose_object_is_gone_ends():
    tracker = build()
    training = ClipTraining(tracker, STRATEGIES["baseline"].build(DIM), UnrollConfig())
    carried: list[list[int]] = []
    carry = tracker.carry

    def watching(*given):
        state = carry(*given)
        carried.append(sorted(state.identities[state.alive].tolist()))
        return state

    tracker.carry = watching
    training(make_clip([0, 1, 2, 3], [0, 2, 4], [0, 1], [0]))
    assert carried == [[0, 1, 2, 3], [0, 2, 4], [0, 1]]


# Object 1 leaves after the first frame and is back in the fourth; object 5 comes in between.
LEAVING = ([0, 1, 2], [0, 2], [0, 2, 5], [0, 1, 5], [0, 1, 2, 5])


@pytest.mark.parametrize(
    ("kind", "length", "strategy"), thinned(["pf-track", "mutr3d"], [5, 2, 1], STRATEGIES)
)
def test_objects_that_leave_and_return_in_clips_of_any_length(kind, length, strategy):
    tracker = build()
    if kind == "mutr3d":
        life = Mutr3dConfig(heads=4, hidden=32, noise=ClipNoise())
        tracker = life.build(tracker.detector)
    training = ClipTraining(tracker, STRATEGIES[strategy].build(DIM), UnrollConfig())
    held: list[tuple[dict[int, bool], set[int]]] = []

    def watch(_module, given, outcome):
        """Which annotated objects tracks hold (else object queries), and identities tied to any query."""
        targets, identities = outcome.targets[0], outcome.identities[0]
        names = given[1].identities[0]
        first = given[0].queries.object_count
        rows = (targets >= 0).nonzero()[:, 0].tolist()
        found = {int(names[targets[row]]): row >= first for row in rows}
        assert len(found) == len(rows), "two queries hold one object"
        held.append((found, set(identities[identities >= 0].tolist())))

    training.strategy.register_forward_hook(watch)
    losses = training(make_clip(*LEAVING[:length]))
    assert all(torch.isfinite(value) for value in losses.values())
    losses["total"].backward()
    remembers = kind == "mutr3d"
    expected = (
        ({0: False, 1: False, 2: False}, {0, 1, 2}),
        ({0: True, 2: True}, {0, 1, 2}),
        ({0: True, 2: True, 5: False}, {0, 1, 2, 5} if remembers else {0, 2, 5}),
        # MUTR3D's track meets its object again; PF-Track's ended, so the object is new-born.
        ({0: True, 1: remembers, 5: True}, {0, 1, 2, 5}),
        ({0: True, 1: True, 2: remembers, 5: True}, {0, 1, 2, 5}),
    )
    assert held == list(expected[:length])


def test_trajectory_loss_by_hand():
    predicted = torch.zeros(1, 4, 2, 3)
    predicted[0, 0] = torch.tensor([[1.0, 0, 9], [1, 2, 9]])  # the height does not count
    predicted[0, 1] = 0.5
    centres = torch.zeros(1, 2, 3, 3)
    centres[0, 0, :, 0] = torch.tensor([10.0, 11.0, 13.0])
    centres[0, 1, :, 1] = torch.tensor([5.0, 6.0, 99.0])
    valid = torch.tensor([[[True, True, True], [True, True, False]]])
    truth = Trajectories(centres, valid)
    # Rows: object 0; object 1, whose last step is unknown; a track without its object; no track at all.
    targets = torch.tensor([[0, 1, -1, -1]])
    tied = torch.tensor([[True, True, True, False]])
    loss = trajectory_loss(predicted, targets, tied, truth)
    # Row 0: (1 - 1, 0), (1 - 2, 2 - 0); row 1: (0.5, 0.5 - 1); over three rows of two steps of two numbers.
    assert loss.item() == pytest.approx((1 + 2 + 0.5 + 0.5) / 12)


def test_nobody_tied_loses_nothing():
    predicted = torch.ones(1, 4, 2, 3, requires_grad=True)
    nothing = Trajectories(torch.zeros(1, 0, 3, 3), torch.zeros(1, 0, 3, dtype=torch.bool))
    free, no = torch.full((1, 4), -1), torch.zeros(1, 4, dtype=torch.bool)
    some = Trajectories(torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, dtype=torch.bool))
    for truth in (nothing, some):
        loss = trajectory_loss(predicted, free, no, truth)
        assert loss.item() == 0
        loss.backward()
        assert not predicted.grad.any()


def test_the_trajectory_loss_trains_future_reasoning_alone():
    tracker = build()
    # Forecasts start from weights of zero, through which no gradient passes.
    torch.nn.init.normal_(tracker.future.motion_branch[-1].weight)
    training = ClipTraining(tracker, STRATEGIES["baseline"].build(DIM), UnrollConfig())
    training(make_clip(*CLIP))["trajectory"].backward()
    touched = {
        name.split(".")[0]
        for name, parameter in tracker.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert touched == {"future", "time_encoder"}


def test_gradients_of_a_later_frame_reach_the_first():
    tracker = build()
    training = ClipTraining(tracker, STRATEGIES["baseline"].build(DIM), UnrollConfig())
    states = []
    carry = tracker.carry

    def watching(*given):
        state = carry(*given)
        for tensor in (state.queries.embeddings, state.queries.codes):
            tensor.retain_grad()
        states.append(state)
        return state

    tracker.carry = watching
    training(make_clip(*CLIP))["total"].backward()
    for state in states:
        tracks = state.queries
        assert tracks.embeddings.grad.abs().sum() > 0 and tracks.codes.grad[..., :3].abs().sum() > 0
        assert not tracks.codes.grad[..., 3:].any(), "sizes, headings and velocities carry none"


def test_missing_trajectories_are_asked_for():
    clip = make_clip([0, 1], [0, 1], trajectories=False)
    strategy = STRATEGIES["baseline"].build(DIM)
    with pytest.raises(SynclError, match="foresees 3 frames, the annotations hold 0"):
        ClipTraining(build(), strategy, UnrollConfig())(clip)
    without = UnrollConfig(reasoning=ReasoningLossConfig(trajectory=0.0))
    assert "trajectory" not in ClipTraining(build(), strategy, without)(clip)
    unforeseeing = build(future_reasoning=False, motion="velocity")
    assert "trajectory" not in ClipTraining(unforeseeing, strategy, UnrollConfig())(clip)


def test_longer_trajectories_are_cut_and_shorter_ones_refused():
    truth = make_truth([0, 1])
    assert future_of(truth, 2).centres.shape == (1, 2, 3, 3)
    with pytest.raises(SynclError, match="foresees 4 frames, the annotations hold 3"):
        future_of(truth, FUTURE + 1)


def test_a_tiny_overfit_refines_boxes_and_foresees_motion():
    tracker = build()
    config = UnrollConfig(frozen=("detector.image_encoder",))
    training = ClipTraining(tracker, STRATEGIES["baseline"].build(DIM), config)
    optimiser = torch.optim.AdamW([p for p in training.parameters() if p.requires_grad], lr=4e-3)
    clip = make_clip([0, 1], [0, 1])
    history: list[dict[str, float]] = []
    for _ in range(24):
        losses = training(clip)
        optimiser.zero_grad()
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(training.parameters(), 35.0)
        optimiser.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in ("refined_class", "refined_box", "trajectory"):
        assert history[-1][name] < 0.5 * history[0][name], (name, history[0][name], history[-1][name])


def test_the_reasoning_runs_in_bfloat16():
    training = ClipTraining(build(), SynclConfig().build(DIM), UnrollConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = training(make_clip(*CLIP))
    losses["total"].backward()
    assert torch.isfinite(losses["total"])


def test_configurations_of_the_loss_weigh():
    strategy = STRATEGIES["baseline"].build(DIM)
    plain = ClipTraining(build(), strategy, UnrollConfig()).eval()(make_clip([0, 1], [0, 1]))
    base = ReasoningLossConfig()
    heavier = ReasoningLossConfig(
        dataclasses.replace(base.refined, classification=4.0, box=0.5), trajectory=1.5
    )
    other = ClipTraining(build(), strategy, UnrollConfig(reasoning=heavier)).eval()
    weighed = other(make_clip([0, 1], [0, 1]))
    assert weighed["refined_class"].item() == pytest.approx(2 * plain["refined_class"].item(), rel=1e-5)
    assert weighed["refined_box"].item() == pytest.approx(2 * plain["refined_box"].item(), rel=1e-5)
    assert weighed["trajectory"].item() == pytest.approx(3 * plain["trajectory"].item(), rel=1e-5)


def test_frames_must_be_as_far_apart_as_forecasts_take_them_for(small_world, tmp_path):
    index = open_nuscenes(small_world, "v1.0-mini", cache=False)
    for step_s in (0.5, 0.45, 0.6, None):
        check_frame_times(index, index.scene_names, step_s)
    for step_s in (0.1, 0.4, 1.0):
        with pytest.raises(SynclError, match=r"frames lie 0\.5 s apart \(median\)"):
            check_frame_times(index, index.scene_names, step_s)
    with pytest.raises(SynclError, match=r"take a frame for 0\.1 s; set model\.tracker\.frame_s=0\.5"):
        train_recipe(
            "pf-track_petr_synthetic",
            data=small_world,
            output=tmp_path / "run",
            changes=("model.tracker.frame_s=0.1",),
        )
