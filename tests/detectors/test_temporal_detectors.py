"""What PETRv2 and StreamPETR remember: alignment, scene changes, missing cameras, gradients."""

import dataclasses
from functools import partial

import pytest
import torch

import rig
from rig import HEIGHT, WIDTH, pose
from syncl.detectors.petr.past_frames import PastFrames
from syncl.detectors.streampetr.object_memory import ObjectMemory
from syncl.errors import SynclError
from syncl.geometry.transforms import transform_points
from syncl.recipes.synthetic import small_detr3d, small_petr, small_petrv2, small_streampetr
from syncl.structures import Frame
from syncl.structures.soundness import check_frame

TEMPORAL = {"petrv2": small_petrv2, "streampetr": small_streampetr}
KINDS = TEMPORAL | {"petr": small_petr}

# No two cameras alike.
make_frame = partial(rig.make_frame, scenes=("a", "b"), cameras=3, focal_px=torch.tensor([40.0, 50.0, 60.0]))


def build(kind: str, **changes):
    torch.manual_seed(0)
    return dataclasses.replace(KINDS[kind](), proposals=None, lifted_tracks=False, **changes).build().eval()


def run(detector, frames, keep=None):
    """Predictions of the last frame; `keep` [B] empties streams before it."""
    memory = detector.initial_memory(frames[0].batch_size)
    with torch.no_grad():
        for index, frame in enumerate(frames):
            if keep is not None and index + 1 == len(frames):
                memory = memory.keep(keep)
            features = detector.encode(frame, memory)
            (predictions,) = detector.decode(detector.initial_queries(features), features)
            memory = detector.remember(memory, frame, features, predictions)
    return predictions, memory


MOVING = (
    (pose(0), pose(5, 3, 0.2)),
    (pose(2, 0.3, 0.1), pose(6, 3.5, 0.3)),
    (pose(4, 1, 0.2), pose(7, 4, 0.4)),
)


def drive(times=(1.0, 1.5, 2.0), **changes):
    return [make_frame(time, poses=poses, **changes) for time, poses in zip(times, MOVING, strict=True)]


@pytest.mark.parametrize("detector", [small_detr3d, small_petr])
def test_detectors_without_memory_have_none(detector):
    assert detector().build().initial_memory(2) is None


@pytest.mark.parametrize("kind", TEMPORAL)
def test_memory_changes_what_is_seen(kind):
    detector, frames = build(kind), drive()
    remembered, _ = run(detector, frames)
    alone, _ = run(detector, frames[-1:])
    assert not torch.allclose(remembered.logits, alone.logits, atol=1e-3)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_an_emptied_stream_starts_anew_and_the_other_does_not_notice(kind):
    detector, frames = build(kind), drive()
    whole, _ = run(detector, frames)
    half, _ = run(detector, frames, keep=torch.tensor([True, False]))
    fresh, _ = run(detector, frames[-1:])
    assert torch.allclose(half.codes[:, 0], whole.codes[:, 0], atol=1e-4)
    assert torch.allclose(half.codes[:, 1], fresh.codes[:, 1], atol=1e-4)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_where_the_map_begins_does_not_matter(kind):
    detector, frames = build(kind), drive()
    elsewhere = pose(-1200, 3400, 2.0)
    moved = [
        dataclasses.replace(frame, global_from_vehicle=elsewhere @ frame.global_from_vehicle)
        for frame in frames
    ]
    first, _ = run(detector, frames)
    second, _ = run(detector, moved)
    assert torch.allclose(first.codes, second.codes, atol=1e-3)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_a_camera_missing_now_or_before_is_a_mask(kind):
    detector, frames = build(kind), drive()
    holes = []
    for colour in (0, 255):
        changed = []
        for index, frame in enumerate(frames):
            valid, images = frame.camera_valid.clone(), frame.images.clone()
            valid[:, index] = False
            images[:, index] = colour
            changed.append(dataclasses.replace(frame, images=images, camera_valid=valid))
        holes.append(run(detector, changed)[0])
    assert torch.allclose(holes[0].logits, holes[1].logits, atol=1e-4)
    assert not torch.allclose(holes[0].logits, run(detector, frames)[0].logits, atol=1e-3)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_memory_moves_like_any_structure(kind):
    detector, frames = build(kind), drive()
    _, memory = run(detector, frames[:2])
    moved = memory.map(lambda tensor: tensor.clone())
    with torch.no_grad():
        first, second = (
            detector.decode(detector.initial_queries(seen), seen)[0]
            for seen in (detector.encode(frames[2], memory), detector.encode(frames[2], moved))
        )
    assert torch.equal(first.logits, second.logits)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_the_wrong_kind_of_memory_is_refused(kind):
    other = next(name for name in TEMPORAL if name != kind)
    detector, frame = build(kind), make_frame(1.0)
    with pytest.raises(TypeError, match=r"takes \w+, got \w+"):
        detector.encode(frame, build(other).initial_memory(2))


# PETRv2


def test_petrv2_repeats_a_frame_without_past():
    detector = build("petrv2")
    with torch.no_grad():
        seen = detector.encode(make_frame(1.0), None)
    now, past = seen.values.chunk(2, dim=1)
    assert torch.equal(now, past)
    assert seen.interval_s.tolist() == [detector.config.repeat_interval_s] * 2


def test_petrv2_points_of_the_past_land_where_they_were_seen():
    before, now = make_frame(1.0, poses=MOVING[0]), make_frame(1.5, poses=MOVING[1])
    detector = build("petrv2")
    with torch.no_grad():
        memory = detector.initial_memory(2)
        memory = detector.remember(memory, before, detector.encode(before, memory), None)
        view = detector.encode(now, memory).view
    past, interval_s = memory.aligned(now, view, 1.25, 1.245)
    assert torch.allclose(interval_s, torch.full((2,), 0.5).double())
    points = torch.tensor([[[5.0, 1, 0], [-3, 8, 1], [20, -4, -1]]], dtype=torch.float64).repeat(2, 1, 1)
    still = transform_points(torch.linalg.inv(before.global_from_vehicle) @ now.global_from_vehicle, points)

    def project(matrices, points):
        homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
        return torch.einsum("bcij,bnj->bcni", matrices, homogeneous)

    there = project(before.rig.image_from_vehicle, still)
    assert torch.allclose(project(past.image_from_vehicle, points), there, atol=1e-9)


def test_petrv2_velocities_are_displacements_over_the_interval():
    detector = build("petrv2")
    still = [make_frame(1.0), make_frame(1.5)]
    later = [dataclasses.replace(still[0], timestamp_s=still[0].timestamp_s - 1.0), still[1]]
    half, _ = run(detector, still)
    long, _ = run(detector, later)
    assert torch.allclose(half.codes[..., :8], long.codes[..., :8], atol=1e-5)
    assert torch.allclose(half.codes[..., 8:] * 0.5, long.codes[..., 8:] * 1.5, atol=1e-5)


def test_petrv2_attends_the_frame_nearest_to_the_wanted_age():
    detector = build("petrv2", history=3)
    memory = detector.initial_memory(2)
    with torch.no_grad():
        for time in (1.0, 1.5, 2.0, 2.5):
            frame = make_frame(time)
            memory = detector.remember(memory, frame, detector.encode(frame, memory), None)
        seen = detector.encode(make_frame(2.8), memory.keep(torch.tensor([True, False])))
    assert memory.timestamps_s.tolist() == [[2.5, 2.0, 1.5]] * 2
    assert torch.allclose(seen.interval_s, torch.tensor([1.3, 1.245]).double())


def with_past(now: Frame, then: Frame) -> Frame:
    """A frame that brings an earlier one as its past, calibrated to its own vehicle frame."""
    moved = then.global_from_vehicle.inverse() @ now.global_from_vehicle
    rig = dataclasses.replace(
        then.rig, camera_from_vehicle=then.rig.camera_from_vehicle @ moved[:, None].expand(-1, 3, -1, -1)
    )
    past = dataclasses.replace(then, rig=rig, global_from_vehicle=now.global_from_vehicle)
    return dataclasses.replace(now, past=past)


def test_petrv2_sees_a_past_that_comes_with_the_frame_as_one_it_remembers():
    detector, (then, _, now) = build("petrv2"), drive()
    _, memory = run(detector, [then])
    other = make_frame(9.0, poses=MOVING[1])
    with torch.no_grad():
        remembered = detector.encode(now, memory)
        brought = detector.encode(with_past(now, then))
        ignored = detector.encode(with_past(now, then), run(detector, [other])[1])
    torch.testing.assert_close(brought.keys, remembered.keys, rtol=0, atol=1e-4)
    assert torch.equal(brought.interval_s, remembered.interval_s)
    assert torch.equal(brought.keys, ignored.keys), "what comes with the frame is the past, not the memory"
    torch.testing.assert_close(brought.view.features, remembered.view.features, rtol=0, atol=1e-5)


def test_petrv2_names_the_past_camera_that_cannot_be_used():
    then, _, now = drive()
    frame = with_past(now, then)
    frame.past.rig.camera_from_vehicle[1, 2] = torch.nan
    with pytest.raises(SynclError, match=r"sample b-.*, camera CAM_2: rig\.camera_from_vehicle is no tran"):
        check_frame(frame)


def test_petrv2_refuses_other_images_within_a_scene_only():
    detector = build("petrv2")
    first = make_frame(1.0)
    with torch.no_grad():
        memory = detector.initial_memory(2)
        memory = detector.remember(memory, first, detector.encode(first, memory), None)
        wider = make_frame(1.5, size=(HEIGHT, WIDTH + 32))
        with pytest.raises(SynclError, match=r"number of cameras or image size changed within a scene"):
            detector.encode(wider, memory)
        fresh = detector.encode(wider, memory.keep(torch.zeros(2, dtype=torch.bool)))
    assert torch.isfinite(fresh.keys).all()


def test_petrv2_gradients_reach_the_past_frame():
    detector = build("petrv2")
    before, now = drive()[:2]
    memory = detector.remember(None, before, detector.encode(before, None), None)
    assert isinstance(memory, PastFrames)
    memory.views.features.retain_grad()
    seen = detector.encode(now, memory)
    detector.decode(detector.initial_queries(seen), seen)[0].logits.sum().backward()
    assert memory.views.features.grad.abs().sum() > 0


# StreamPETR


def test_streampetr_memory_is_newest_first_and_detached():
    detector, frames = build("streampetr"), drive()
    detector.train()
    memory = None
    for frame in frames:
        seen = detector.encode(frame, memory)
        (predictions,) = detector.decode(detector.initial_queries(seen), seen)
        memory = detector.remember(memory, frame, seen, predictions)
    assert isinstance(memory, ObjectMemory)
    count, slots = detector.config.objects_a_frame, detector.config.memory_slots
    times = memory.timestamps_s[0].tolist()
    assert times == [2.0] * count + [1.5] * count + [1.0] * (slots - 2 * count)
    assert not any(tensor.requires_grad for tensor in vars(memory).values())
    scores = predictions.logits[-1].sigmoid().amax(-1)
    best = scores.topk(count, dim=1).indices
    places = predictions.codes[-1, ..., :3].gather(1, best[..., None].expand(-1, -1, 3))
    expected = transform_points(frames[-1].global_from_vehicle, places.double())
    assert torch.allclose(memory.references[:, :count], expected)
    assert torch.equal(memory.global_from_vehicle[1, 0], frames[-1].global_from_vehicle[1])


def test_streampetr_first_frame_has_starting_points_and_unwritten_slots():
    detector = build("streampetr")
    frame = make_frame(1.0, poses=MOVING[1])
    with torch.no_grad():
        seen = detector.encode(frame, None)
    points = detector.config.propagated
    poses = seen.memory.global_from_vehicle
    assert torch.equal(poses[:, 0], frame.global_from_vehicle)
    assert (poses[:, points:] == 0).all()
    expected = detector.point_range.to_metres(detector.starting_points)
    assert torch.allclose(seen.propagated.references, expected.expand(2, -1, -1), atol=1e-4)


def test_recalled_objects_by_hand():
    memory = ObjectMemory.empty(1, 2, torch.zeros(4))
    before = make_frame(1.0, scenes="a", poses=pose(10, 0, torch.pi / 2))
    now = make_frame(1.5, scenes="a", poses=pose(12, 1, torch.pi / 2))
    memory = memory.entered(before, torch.zeros(0, 3))
    memory = memory.pushed(
        before, torch.ones(1, 1, 4), torch.tensor([[[5.0, 1, 0]]]), torch.tensor([[[2.0, -1]]])
    )
    # 5 m ahead and 1 m left of a vehicle that faces north at (10, 0): at (9, 5) on the map.
    assert torch.allclose(memory.references[0, 0], torch.tensor([9.0, 5, 0]).double())
    recalled = memory.recalled(now)
    # Seen from (12, 1), facing north: 4 m ahead, 3 m left. Not advanced by its velocity.
    assert torch.allclose(recalled.references[0, 0], torch.tensor([4.0, 3, 0]), atol=1e-5)
    assert recalled.age_s.tolist() == [[0.5, 0.5]]
    # The pose then, seen from now: one metre behind and two metres to the left.
    wanted = torch.tensor([2.0, -1, 0.5, 1, 0, 0, -1, 0, 1, 0, 2, 0, 0, 1, 0])
    assert torch.allclose(recalled.motion[0, 0], wanted, atol=1e-6)
    assert torch.allclose(recalled.motion[0, 1], torch.tensor([0.0, 0, 0.5] + [0.0] * 12), atol=1e-6)


def test_streampetr_remembers_valid_rows_only():
    detector, frame = build("streampetr"), make_frame(1.0)
    with torch.no_grad():
        seen = detector.encode(frame, None)
        (predictions,) = detector.decode(detector.initial_queries(seen), seen)
    valid = predictions.valid.clone()
    hidden = predictions.logits[-1].amax(-1).argmax(1)
    valid[torch.arange(2), hidden] = False
    logits = predictions.logits.clone()
    logits[:, torch.arange(2), hidden] = 50.0
    masked = dataclasses.replace(predictions, valid=valid, logits=logits)
    memory = detector.remember(None, frame, seen, masked)
    place = transform_points(frame.global_from_vehicle, predictions.codes[-1, :, :, :3].double())
    for stream in range(2):
        distance = (memory.references[stream, :32] - place[stream, hidden[stream]]).norm(dim=-1)
        assert distance.min() > 0


def test_focal_lengths_are_tiled_over_tokens_as_published_weights_expect():
    detector, frame = build("streampetr"), make_frame(1.0)
    captured = {}
    detector.tokens.camera_norm.register_forward_pre_hook(lambda _, args: captured.update(cone=args[1]))
    with torch.no_grad():
        detector.encode(frame, None)
    focal = torch.tensor([0.04, 0.05, 0.06])
    tokens = captured["cone"].shape[1]
    assert torch.allclose(captured["cone"][0, :, 0], focal.repeat(tokens // 3))


def groups_at(detector, places):
    """Queries at places [B, G, N, 3] that see no other group."""
    streams, groups, count = places.shape[:3]
    codes = torch.nn.functional.pad(places.flatten(1, 2), (0, 7))
    group = torch.arange(groups * count) // count
    attention = (group[:, None] == group).expand(streams, -1, -1)
    return dataclasses.replace(detector.queries_at(codes), attention=attention)


@pytest.mark.parametrize("kind", ["streampetr", "petrv2", "petr"])
def test_further_queries_are_seen_by_their_own_group_alone(kind):
    detector, frames = build(kind), drive()
    with torch.no_grad():
        memory = run(detector, frames[:2])[1]
        seen = detector.encode(frames[2], memory)
        queries = detector.initial_queries(seen)
        (plain,) = detector.decode(queries, seen)
        places = torch.rand(2, 3, 4, 3) * 20 - 10
        (beside,) = detector.decode(queries.followed_by(groups_at(detector, places)), seen)
        places[:, 1] += 5
        (changed,) = detector.decode(queries.followed_by(groups_at(detector, places)), seen)
    assert torch.allclose(plain.logits, beside.rows(slice(queries.count)).logits, atol=1e-4)
    assert torch.allclose(plain.logits, changed.rows(slice(queries.count)).logits, atol=1e-4)
    further = slice(queries.count, None)
    groups, moved = (found.rows(further).logits.unflatten(2, (3, 4)) for found in (beside, changed))
    assert torch.allclose(groups[:, :, [0, 2]], moved[:, :, [0, 2]], atol=1e-4)
    assert not torch.allclose(groups[:, :, 1], moved[:, :, 1], atol=1e-3)


def test_queries_that_are_learned_one_by_one_cannot_be_put_anywhere():
    torch.manual_seed(0)
    detector = small_detr3d().build()
    with pytest.raises(SynclError, match="Detr3d cannot be trained with denoising queries"):
        detector.queries_at(torch.zeros(2, 1, 10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propagated": 200}, "propagated=200 must be between 0 and memory_slots=128"),
        ({"objects_a_frame": 129}, "objects_a_frame=129 must be between 1 and the number of queries, 128"),
    ],
)
def test_impossible_memories_are_refused(changes, message):
    with pytest.raises(SynclError, match=message):
        build("streampetr", **changes)
