"""DORT's recurrence over objects: sampling along motion, turns, and their supervision."""

import dataclasses

import pytest
import torch

from rig import (
    DETECTORS,
    RECURRENCE,
    cars_at,
    dort_on,
    make_frame,
    make_objects,
    pose,
    tiny_bevdepth,
    unsettled,
)
from syncl.detectors.bevdepth.centre_head import Candidates
from syncl.detectors.bevdepth.past_views import FrameImages
from syncl.detectors.dort.local_volume import (
    FrameStack,
    Sampled,
    correspondence,
    local_grid,
    sample_along_motion,
    search,
)
from syncl.errors import SynclError
from syncl.geometry.boxes import encode_boxes
from syncl.structures import Clip, Predictions
from syncl.trackers import GreedyConfig, SingleFrameConfig
from syncl.trackers.serialisation import put_together, take_apart
from syncl.training.objectives import CentreLossConfig, ObjectCopiesConfig
from syncl.training.strategies import RefinedCandidatesConfig
from syncl.training.strategies.refined_candidates import TurnLossConfig, surest_candidates, turn_box_loss
from syncl.training.unroll import ClipTraining, UnrollConfig


def build(**changes):
    torch.manual_seed(0)
    return dort_on(tiny_bevdepth(), dataclasses.replace(RECURRENCE, **changes)).build().eval()


@torch.no_grad()
def predict(detector, frame, memory=None):
    features = detector.encode(frame, memory)
    return detector.decode(detector.initial_queries(features), features)[0]


# A wall across the road, painted at random, that a camera passes while the wall moves by itself


FOCAL_PX, DEPTH_M, WIDTH = 400.0, 20.0, 2048


def painted(centre_m: float, motion_m: float) -> torch.Tensor:
    """[1, 1, 8, 8, WIDTH] what a camera at y = `centre_m` sees of the wall after it moved by `motion_m`."""
    columns = torch.arange(WIDTH) + 0.5
    y = centre_m - (columns - WIDTH / 2) / FOCAL_PX * DEPTH_M - motion_m
    waves = torch.arange(1.0, 5.0)[:, None] * 0.35 * y
    paint = torch.cat([waves.sin(), waves.cos()])
    return paint.expand(1, 1, 8, 8, -1).transpose(2, 3).contiguous()


def stack(baseline_m: float, motion_m: float, dt_s: float = 0.5) -> FrameStack:
    """The present frame and one before, from which the camera went `baseline_m` to the left."""
    camera = make_frame(cameras=1, size=(8, WIDTH), focal_px=FOCAL_PX).rig.image_from_vehicle
    features = torch.cat([painted(0.0, 0.0), painted(-baseline_m, -motion_m)], dim=1)
    images = FrameImages(
        features[:, :, None], camera[:, None].expand(1, 2, 1, 4, 4), torch.ones(1, 2, 1, dtype=torch.bool)
    )
    past_from_now = torch.stack([pose(), pose(0.0, baseline_m)])[None]
    return FrameStack(
        images, past_from_now, torch.tensor([[0.0, dt_s]]), torch.ones(1, 2, dtype=torch.bool), (8, WIDTH)
    )


def best_depth(frames: FrameStack, velocity_m_s: float) -> float:
    """The depth straight ahead at which past and present look most alike."""
    depths = torch.linspace(10.0, 60.0, 501)
    points = torch.stack([depths, torch.zeros_like(depths), torch.full_like(depths, 1.5)], dim=-1)[None, None]
    sampled = sample_along_motion(points, torch.tensor([[[0.0, velocity_m_s]]]), frames)
    assert sampled.seen[0, 0].all()
    alike = correspondence(sampled, 1)[0, 0, 0, :, 0].masked_fill(~sampled.seen[0, 1, 0], -1)
    return float(depths[alike.argmax()])


def test_the_depth_of_what_moves_is_biased_unless_its_motion_is_allowed_for():
    # Disparity is f (b - m) / d: taken for that of something that stands, it gives d b / (b - m).
    baseline, motion = 2.0, 0.8
    frames = stack(baseline, motion)
    expected = DEPTH_M * baseline / (baseline - motion)
    assert best_depth(frames, 0.0) == pytest.approx(expected, rel=0.02)
    assert best_depth(frames, motion / 0.5) == pytest.approx(DEPTH_M, rel=0.02)


def test_what_stands_looks_the_same_in_all_frames():
    points = torch.stack(
        [torch.full((9,), DEPTH_M), torch.linspace(-4, 4, 9), torch.full((9,), 1.5)], dim=-1
    )[None, None]
    still = torch.zeros(1, 1, 2)
    sampled = sample_along_motion(points, still, stack(2.0, 0.0))
    torch.testing.assert_close(sampled.features[:, 1], sampled.features[:, 0], atol=0.05, rtol=0)
    moving = sample_along_motion(points, still, stack(2.0, 1.5))
    right = sample_along_motion(points, torch.tensor([[[0.0, 3.0]]]), stack(2.0, 1.5))
    alike = [correspondence(found, 2).mean() for found in (moving, right)]
    assert alike[1] > alike[0] + 0.2
    torch.testing.assert_close(right.features[:, 1], right.features[:, 0], atol=0.05, rtol=0)


def test_the_neighbour_that_looks_alike_says_where_the_past_was():
    features = torch.randn(1, 2, 1, 24, 8, generator=torch.Generator().manual_seed(0))
    # What was seen at a point is now a step farther along and a step back across.
    then = features[:, :1].unflatten(3, (3, 4, 2)).roll((-1, 1), (3, 4)).flatten(3, 5)
    sampled = Sampled(torch.cat([features[:, :1], then], dim=1), torch.ones(1, 2, 1, 24, dtype=torch.bool))
    alike = search(sampled, (3, 4, 2)).unflatten(3, (3, 4, 2))[0, 0, 0]
    inner = alike[1:, :3]
    assert (inner.argmax(-1) == 0 * 3 + 2).all() and torch.allclose(inner[..., 2], torch.tensor(1.0))
    assert (alike[0, :, :, :3] == 0).all()


def test_a_grid_turns_with_its_box():
    box = cars_at((10.0, 5.0)).boxes
    box[..., 6] = torch.pi / 2
    points = local_grid(encode_boxes(box), (3, 2, 2), 1.5, (1.0, 4.0, 1.0))[0, 0]
    assert points[:, 1].amax() == pytest.approx(5 + 3.0) and points[:, 0].amax() == pytest.approx(10 + 2.0)
    assert points[0].tolist() == pytest.approx([12.0, 2.0, 1.5 - 2.25], abs=1e-5)


# Turns


def test_fresh_turns_change_nothing():
    predictions = predict(build(), make_frame())
    assert len(predictions.codes) == 3
    assert torch.equal(predictions.codes[0], predictions.codes[-1])
    kept = predictions.logits[-1] > -1e3
    assert torch.equal(predictions.logits[0][kept], predictions.logits[-1][kept])


def test_a_candidate_that_no_camera_sees_stays_as_it_is():
    detector, frame = unsettled(build()), make_frame()
    frame.camera_valid[0, 1] = False  # Nobody looks back.
    codes = encode_boxes(cars_at((10.0, 0.0), (-10.0, 0.0)).boxes)
    nothing = torch.zeros(1, 2, dtype=torch.int64)
    candidates = Candidates(codes, nothing, nothing, torch.zeros(1, 2), nothing == 0)
    with torch.no_grad():
        features = dataclasses.replace(detector.encode(frame), candidates=candidates)
        predictions = detector.decode(detector.initial_queries(features), features)[0]
    assert torch.equal(codes[0, 1], predictions.codes[-1, 0, 1])
    assert not torch.isclose(codes[0, 0], predictions.codes[-1, 0, 0]).any()


def test_streams_and_candidates_do_not_see_each_other():
    detector = unsettled(build())
    frames = [make_frame(0.5 * n, ("a", "b"), speed_m_s=3.0) for n in range(3)]
    alone = [frame.map(lambda t: t[1:]) for frame in frames]
    alone = [dataclasses.replace(frame, scenes=("b",), samples=frame.samples[1:]) for frame in alone]
    tracker = SingleFrameConfig().build(detector)
    both, one = tracker.initial_state(2), tracker.initial_state(1)
    for frame, single in zip(frames, alone, strict=True):
        mine, both = tracker.step(frame, both)
        theirs, one = tracker.step(single, one)
        valid = theirs.valid[0]
        torch.testing.assert_close(mine.boxes[1, valid], theirs.boxes[0, valid], atol=1e-4, rtol=1e-4)
    features = detector.encode(frames[0], None)
    queries = detector.initial_queries(features)
    with torch.no_grad():
        whole = detector.decode(queries, features)[0]
        few = dataclasses.replace(features, candidates=features.candidates.map(lambda rows: rows[:, 3:]))
        part = detector.decode(detector.initial_queries(few), few)[0]
    torch.testing.assert_close(part.codes, whole.codes[:, :, 3:], atol=1e-4, rtol=1e-4)


def test_without_motion_turns_do_not_look_along_it():
    frames = [make_frame(0.5 * n, speed_m_s=3.0) for n in range(2)]
    ends = {}
    for follow in (True, False):
        detector = unsettled(build(follow_motion=follow))
        features = detector.encode(frames[0])
        memory = detector.remember(None, frames[0], features, None)
        ends[follow] = predict(detector, frames[1], memory)
    assert torch.equal(ends[True].codes[0], ends[False].codes[0])
    assert not torch.allclose(ends[True].codes[1], ends[False].codes[1])


def test_images_of_another_form_within_a_scene_are_refused():
    tracker = GreedyConfig().build(build())
    _, state = tracker.step(make_frame(), tracker.initial_state(1))
    with pytest.raises(SynclError, match=r"sample a-0\.5: number of cameras or image size changed"):
        tracker.step(make_frame(0.5, cameras=3), state)
    tracker.step(make_frame(0.5, "b", cameras=3), state)


def test_a_camera_without_an_image_is_looked_past():
    detector = unsettled(build())
    first, second = (make_frame(0.5 * number, cameras=2) for number in range(2))
    blind = dataclasses.replace(second, camera_valid=torch.tensor([[True, False]]))
    dark = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
    black = dataclasses.replace(blind, images=blind.images * dark)
    features = detector.encode(first)
    memory = detector.remember(None, first, features, None)
    seen = [predict(detector, frame, memory).codes for frame in (second, blind, black)]
    assert torch.equal(seen[1], seen[2]) and not torch.equal(seen[0], seen[1])


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(SynclError, match=r"channels=9 a multiple of groups=2"):
        build(channels=9)
    with pytest.raises(SynclError, match=r"recurrence\.level=4: the neck has 3 levels"):
        build(level=4)


# On a detector of queries


def on_detr3d(**changes):
    torch.manual_seed(0)
    detector = dort_on(DETECTORS["detr3d"], **changes).build().eval()
    torch.nn.init.normal_(detector.reference_points.weight, std=0.2)  # All round, and so in sight.
    return detector


def test_detr3d_files_fit_and_its_boxes_are_where_turns_begin():
    detector, plain = on_detr3d(), DETECTORS["detr3d"].build().eval()
    missing, left = detector.load_state_dict(plain.state_dict(), strict=False)
    assert not left and {name.split(".")[0] for name in missing} == {
        "look",
        "class_embedding",
        "state_of_query",
        "recurrence",
    }
    found, its_own = predict(detector, make_frame()), predict(plain, make_frame())
    assert len(found.codes) == 3
    for layer in range(3):
        assert torch.equal(found.codes[layer], its_own.codes[-1])
        assert torch.equal(found.logits[layer], its_own.logits[-1])


def test_only_the_surest_queries_are_refined():
    predictions = predict(unsettled(on_detr3d()), make_frame())
    changed = (predictions.codes[-1] != predictions.codes[0]).any(-1)[0]
    surest = predictions.logits[0, 0].amax(-1).topk(5).indices
    assert changed.sum() > 0 and set(changed.nonzero()[:, 0].tolist()) <= set(surest.tolist())
    raised = (predictions.logits[-1] != predictions.logits[0])[0]
    assert (raised.sum(-1) <= 1).all() and torch.equal(raised.any(-1), changed)
    none = predict(unsettled(on_detr3d(min_score=1.0)), make_frame())
    assert torch.equal(none.codes[0], none.codes[-1])


def test_a_frozen_detector_learns_motion_from_frames_it_remembers():
    tracker = GreedyConfig(min_score=0.0).build(on_detr3d())
    unroll = UnrollConfig(frozen=("detector.image_encoder", "detector.layers"))
    training = ClipTraining(tracker, RefinedCandidatesConfig(gate_m=100.0).build(16), unroll)
    frames = tuple(make_frame(0.5 * number, speed_m_s=3.0) for number in range(2))
    losses = training(Clip(frames, (make_objects([0, 1]),) * 2))
    assert set(losses) == {"turn_box", "turn_class", "total"} and losses["turn_box"] > 0
    losses["total"].backward()
    assert tracker.detector.recurrence.said.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in tracker.detector.layers.parameters())
    _, state = tracker.eval().step(frames[0], tracker.initial_state(1))
    assert state.detector_memory.count == 1
    assert put_together(*take_apart(state), "a test").detector_memory.images is not None


# Supervision


def said(codes, logits):
    valid = torch.ones(codes.shape[:2], dtype=torch.bool)
    return Predictions(logits[None], codes[None], codes[None], codes[None, ..., :3], valid, codes.shape[1])


def test_an_object_goes_to_the_surest_candidate_of_its_class_within_the_gate():
    objects = cars_at((10.0, 0.0), (12.0, 0.0), (30.0, 0.0))
    codes = encode_boxes(cars_at((10.5, 0.0), (11.2, 0.0), (9.9, 0.0), (40.0, 0.0), (12.5, 0.0)).boxes)
    logits = torch.full((1, 5, 2), -1e4)
    # Sure of the wrong class, surest of both objects, near one, far from all, near the other.
    for row, (label, logit) in enumerate([(1, 4.0), (0, 3.0), (0, 2.0), (0, 5.0), (0, 1.0)]):
        logits[0, row, label] = logit
    found = surest_candidates(said(codes, logits), objects, 2.0)
    assert found.tolist() == [[-1, 1, -1, -1, -1]]
    logits[0, 4, 0] = 3.5
    assert surest_candidates(said(codes, logits), objects, 2.0).tolist() == [[-1, 0, -1, -1, 1]]


def test_later_turns_count_more_and_velocity_most():
    objects = cars_at((10.0, 0.0))
    goal = encode_boxes(objects.boxes)
    off = goal.clone()
    off[..., 0] += 1
    config, nobody = TurnLossConfig(), torch.tensor([[0]])
    early = turn_box_loss(torch.stack([goal, off, goal]), nobody, objects, config)
    late = turn_box_loss(torch.stack([off, goal, off]), nobody, objects, config)
    assert early == pytest.approx(0.25 * 0.8) and late == pytest.approx(0.25)
    fast = goal.clone()
    fast[..., 8] += 1
    assert turn_box_loss(torch.stack([goal, goal, fast]), nobody, objects, config) == pytest.approx(1.0)


def test_training_reaches_the_recurrence_also_in_frames_without_objects():
    torch.manual_seed(0)
    tracker = SingleFrameConfig().build(build())
    unroll = UnrollConfig(objectives=(CentreLossConfig(), ObjectCopiesConfig(copies=2)), context_frames=1)
    training = ClipTraining(tracker, RefinedCandidatesConfig(gate_m=30.0).build(16), unroll)
    frames = tuple(make_frame(0.5 * number, speed_m_s=3.0) for number in range(3))
    objects = make_objects([0, 1, 3, 4])
    losses = training(Clip(frames, (objects, objects, objects.map(lambda rows: rows[:, :0]))))
    assert {"turn_box", "turn_class", "copies_box"} < set(losses) and losses["turn_box"] > 0
    losses["total"].backward()
    reached = {
        name for name, p in tracker.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert "detector.recurrence.said.weight" in reached
    assert all(torch.isfinite(p.grad).all() for p in tracker.parameters() if p.grad is not None)


def test_copies_need_a_recurrence():
    with pytest.raises(SynclError, match=r"BevDepth has no recurrence over objects; leave Obj"):
        ObjectCopiesConfig().build().further_queries(tiny_bevdepth().build(), make_objects([1]))


def test_turns_learn_to_bring_disturbed_copies_back():
    torch.manual_seed(0)
    tracker = SingleFrameConfig().build(build())
    unroll = UnrollConfig(objectives=(CentreLossConfig(), ObjectCopiesConfig()))
    training = ClipTraining(tracker, RefinedCandidatesConfig().build(16), unroll)
    optimiser = torch.optim.AdamW(training.parameters(), 1e-2)
    frame, objects = make_frame(), make_objects([0, 1, 3, 4])
    seen = []
    for _ in range(10):
        torch.manual_seed(1)  # The same copies each time.
        losses = training(Clip((frame,), (objects,)))
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        seen.append(float(losses["copies_box"].detach()))
    assert seen[-1] < 0.95 * seen[0]
