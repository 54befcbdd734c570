"""BEVFormer's own promises: what it is told of motion, what it remembers, and where it looks."""

import dataclasses
import math

import pytest
import torch

from rig import DETECTORS, make_frame, pose
from syncl.detectors import BevEncoderConfig
from syncl.detectors.bevformer.bev_memory import BevMemory, turned
from syncl.detectors.bevformer.vehicle_motion import VehicleMotion
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_rigid, quaternion_from_rotation, transform_points
from syncl.structures import Odometry
from syncl.trackers import Cc3dtConfig, DqTrackConfig, Mutr3dConfig, SingleFrameConfig

# The lidar of published weights: x to the right, y ahead, a metre in front of the vehicle's origin.
LIDAR = torch.tensor([[0.0, 1, 0, 1], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]], dtype=torch.float64)
TURN = math.radians(12)
DRIVE = (pose(10, -3, TURN), pose(12, -2, 2.5 * TURN), pose(15, 1, 3 * TURN))


def build(**changes):
    torch.manual_seed(0)
    detector = dataclasses.replace(DETECTORS["bevformer"], **changes).build().eval()
    for layer in detector.bev_encoder.layers:
        for attention in (layer.temporal_attention, layer.spatial_attention):
            torch.nn.init.normal_(attention.attention.sampling_offsets.weight, std=0.2)
    return detector


def odometry(ego_poses, readings=None, sign=1.0, mounted=LIDAR):
    streams = len(ego_poses)
    quaternions = sign * quaternion_from_rotation(torch.stack(tuple(ego_poses))[:, :3, :3])
    readings = torch.zeros(streams, 9, dtype=torch.float64) if readings is None else readings
    return Odometry(mounted.expand(streams, 4, 4), quaternions, readings)


def told(frame, before=None):
    motion = VehicleMotion.of(frame)
    place = torch.zeros(1, 4, dtype=torch.float64) if before is None else VehicleMotion.of(before).place
    return motion, motion.since(place, torch.tensor([before is not None]))


def run(detector, frames):
    """Views of all frames, and the memory behind the last."""
    memory, views = detector.initial_memory(frames[0].batch_size), []
    with torch.no_grad():
        for frame in frames:
            features = detector.encode(frame, memory)
            (predictions,) = detector.decode(detector.initial_queries(features), features)
            memory = detector.remember(memory, frame, features, predictions)
            views.append(features.bev)
    return views, memory


def test_the_numbers_say_place_rotation_readings_and_heading():
    readings = torch.arange(1.0, 10, dtype=torch.float64)[None]
    ego = pose(10, -3, math.radians(-30))
    frame = make_frame(0, poses=ego @ LIDAR)
    frame = dataclasses.replace(frame, odometry=odometry([ego], readings, sign=-1.0))
    motion, first = told(frame)
    numbers = motion.numbers[0]
    assert torch.allclose(numbers[:3], torch.tensor([10.0, -3, 0], dtype=torch.float64))
    half = math.radians(-15)
    # With the sign that the data have.
    expected = -torch.tensor([math.cos(half), 0, 0, math.sin(half)], dtype=torch.float64)
    assert torch.allclose(numbers[3:7], expected)
    assert torch.equal(numbers[7:16], readings[0])
    assert numbers[17] == pytest.approx(330) and numbers[16] == pytest.approx(math.radians(330))
    assert torch.equal(first[0, [0, 1, 2, 17]], torch.zeros(4, dtype=torch.float64))
    assert torch.equal(first[0, 3:17], numbers[3:17])


def test_without_odometry_the_pose_is_the_vehicles_and_nothing_was_measured():
    motion, _ = told(make_frame(0, poses=pose(1, 2, 0.3)))
    assert torch.allclose(motion.numbers[0, :3], torch.tensor([1.0, 2, 0], dtype=torch.float64))
    assert not motion.numbers[0, 7:16].any() and motion.mounting_rad.item() == 0
    assert motion.numbers[0, 16].item() == pytest.approx(0.3)


def test_a_heading_that_passes_north_changes_by_nearly_360_degrees_as_published():
    before, now = (make_frame(t, poses=pose(yaw_rad=math.radians(a))) for t, a in ((0, -2), (0.5, 3)))
    _, numbers = told(now, before)
    assert numbers[0, 17].item() == pytest.approx(-355)


@pytest.mark.parametrize("mounted", [None, LIDAR])
def test_turn_and_shift_find_what_the_last_view_had_at_the_same_place(mounted):
    """Each cell's place, painted into the last view, is read where the cell was then."""
    mounting = torch.eye(4, dtype=torch.float64) if mounted is None else mounted
    # Shifts leave the lever arm out.
    mounting = mounting.clone()
    mounting[:3, 3] = 0
    frames = [
        dataclasses.replace(
            make_frame(time, poses=ego @ mounting),
            odometry=None if mounted is None else odometry([ego], mounted=mounting),
        )
        for time, ego in ((0.0, DRIVE[0]), (0.5, DRIVE[1]))
    ]
    rows, columns, extent = 40, 50, (50.0, 40.0)
    y = (torch.arange(rows) + 0.5 - rows / 2) * extent[1] / rows
    x = (torch.arange(columns) + 0.5 - columns / 2) * extent[0] / columns
    places = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1).reshape(1, -1, 2).double()
    motion, numbers = told(frames[1], frames[0])
    seen = turned(places, (rows, columns), numbers[:, -1], None)
    shift = motion.shift(numbers, extent) * torch.tensor(extent)
    before_from_now = invert_rigid(frames[0].global_from_vehicle) @ frames[1].global_from_vehicle
    at = torch.tensor([[3.0, 4.0, 0], [-6, 2, 0], [0, 0, 0]], dtype=torch.float64)[None]
    wanted = transform_points(before_from_now, at)[0, :, :2]
    for point, old in zip(at[0, :, :2] + shift, wanted):
        cell = int((point[1] + extent[1] / 2) // 1) * columns + int((point[0] + extent[0] / 2) // 1)
        assert (seen[0, cell] - old).norm() < 1.5


def test_readings_that_are_no_numbers_are_refused_by_name_before_anything_remembers_them():
    tracker = SingleFrameConfig().build(build()).eval()
    frame = dataclasses.replace(make_frame(), odometry=odometry([pose()]))
    frame.odometry.readings[0, 4] = float("nan")
    with pytest.raises(SynclError, match=r"sample a-0\.0: odometry\.readings has numbers that are nan"):
        tracker.step(frame, tracker.initial_state())
    short = dataclasses.replace(frame.odometry, readings=torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(SynclError, match=r"odometry\.readings has shape \(1, 3\), expected \(1, 9\)"):
        tracker.step(dataclasses.replace(frame, odometry=short), tracker.initial_state())


@pytest.mark.parametrize("tracks", [SingleFrameConfig, Mutr3dConfig, DqTrackConfig, Cc3dtConfig])
def test_whatever_tracks_a_rig_of_another_size_than_the_weights_know_is_refused_with_the_remedy(tracks):
    tracker = tracks().build(build()).eval()
    refused = r"weights for 2 cameras, the frame has 3 \(CAM_0, .*; take .*any-rig, mask .*detector\.cameras"
    with pytest.raises(SynclError, match=refused):
        tracker.step(make_frame(cameras=3), tracker.initial_state())


def test_turning_by_nothing_changes_nothing_and_by_a_quarter_moves_rows_to_columns():
    view = torch.arange(16.0).view(1, 16, 1)
    angle = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(turned(view, (4, 4), angle, None), view)
    quarter = turned(view, (4, 4), angle + 90, None).view(4, 4)
    # The vehicle turned to the left: what was to its left is ahead of it.
    assert torch.equal(quarter, view.view(4, 4).rot90(1, (0, 1)))
    elsewhere = turned(view, (4, 4), angle + 90, (100.0, 100.0))
    assert not elsewhere.any()


def test_the_last_view_changes_the_next_and_a_new_scene_does_not_know_it():
    detector = build()
    frames = [make_frame(0.5 * n, poses=p) for n, p in enumerate(DRIVE)]
    views, memory = run(detector, frames)
    (alone,), _ = run(detector, frames[-1:])
    assert not torch.allclose(views[-1], alone, atol=1e-3)
    tracker = SingleFrameConfig().build(detector).eval()
    state = tracker.initial_state()
    for frame in (frames[0], frames[1], dataclasses.replace(frames[2], scenes=("another",))):
        _, state = tracker.step(frame, state)
    assert isinstance(state.detector_memory, BevMemory)
    assert torch.allclose(state.detector_memory.bev, alone, atol=1e-5)
    assert torch.equal(memory.bev, views[-1]) and not memory.bev.requires_grad


def test_streams_of_a_batch_are_as_alone_also_where_one_starts_anew():
    detector = build()

    def drives(scenes):
        return [
            make_frame(0.5 * n, scenes, poses=(p, p @ pose(2, 1, 0.3)), seed=n) for n, p in enumerate(DRIVE)
        ]

    both = drives(("a", "b"))
    views, _ = run(detector, both)
    for stream in (0, 1):
        single = [
            dataclasses.replace(
                frame.map(lambda tensor, s=stream: tensor[s : s + 1]),
                scenes=frame.scenes[stream : stream + 1],
                samples=frame.samples[stream : stream + 1],
            )
            for frame in both
        ]
        own, _ = run(detector, single)
        for whole, part in zip(views, own, strict=True):
            assert torch.allclose(whole[stream], part[0], atol=1e-4)
    memory = run(detector, both[:2])[1].keep(torch.tensor([True, False]))
    with torch.no_grad():
        mixed = detector.encode(both[2], memory).bev
        fresh = detector.encode(both[2]).bev
    assert torch.allclose(mixed[0], views[2][0], atol=1e-4)
    assert torch.allclose(mixed[1], fresh[1], atol=1e-4)


def test_cells_that_no_camera_sees_are_not_sampled():
    detector = build()
    frame = make_frame()
    encoder = detector.bev_encoder
    blind = torch.tensor([[True, False]])
    sight = encoder.look_up(frame.rig.image_from_vehicle, blind, frame.image_size)
    first, second = sight.views
    assert len(first.cells) and not len(second.cells)
    assert torch.equal(sight.cameras[0].nonzero()[:, 0], first.cells)
    # The only camera looks along x, in which columns count.
    columns = encoder.config.shape[1]
    assert (first.cells % columns >= columns // 2 - 1).all()


def test_checkpointed_layers_give_the_same_gradients():
    plain, saving = build(), build(bev=BevEncoderConfig((8, 10), layers=2, checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    norms = []
    for detector in (plain, saving):
        detector.bev_encoder.train()
        detector.encode(make_frame()).bev.square().sum().backward()
        norms.append(torch.stack([p.grad.norm() for p in detector.bev_encoder.layers.parameters()]))
    assert torch.allclose(norms[0], norms[1], rtol=1e-4)


@pytest.mark.parametrize("changes", [{"points": 6}, {"heights": 0}, {"shape": (0, 4)}])
def test_a_grid_that_makes_no_sense_is_refused(changes):
    with pytest.raises(SynclError, match=r"must be positive, points=\d+ a multiple of"):
        BevEncoderConfig(**changes)
