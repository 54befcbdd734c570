"""BEVDepth: lift and splat, views of the past, candidates, and what trackers may do with it."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

import rig
from rig import CENTRE_HEAD, cars_at, make_frame, make_objects, pose, tiny_bevdepth
from syncl.detectors.bevdepth.bev_backbone import BevBackbone, shifted
from syncl.detectors.bevdepth.centre_head import codes_at
from syncl.detectors.bevdepth.suppression import greedy_survivors
from syncl.detectors.bevdepth.view_transform import (
    BevGrid,
    DepthPrediction,
    Splat,
    lift_points,
    pixel_grid,
    sort_points,
    splat,
)
from syncl.errors import SynclError
from syncl.layers.sampling import taps_of
from syncl.trackers import GreedyConfig, Mutr3dConfig, SingleFrameConfig
from syncl.trackers.serialisation import put_together, take_apart
from syncl.training.objectives import CentreLossConfig, DepthLossConfig
from syncl.training.objectives.depths import depth_loss, depths_of_boxes, within_bins
from syncl.training.strategies import RefinedCandidatesConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

GRID = BevGrid(-16.0, -8.0, 1.0, (16, 32), -5.0, 3.0)


def build(**changes):
    torch.manual_seed(0)
    return tiny_bevdepth(**changes).build().eval()


@torch.no_grad()
def predict(detector, frame, memory=None):
    features = detector.encode(frame, memory)
    return detector.decode(detector.initial_queries(features), features)[0]


# Lift and splat


def scattered(context, probabilities, points, grid):
    """The view by its definition: the whole volume, and each point added to its cell."""
    volume = context[:, :, None] * probabilities[:, :, :, None]
    low = points.new_tensor([grid.low_x, grid.low_y])
    cell = ((points[..., :2] - low) / grid.cell_m).trunc().long()
    layer = ((points[..., 2] - grid.low_z) / (grid.high_z - grid.low_z)).trunc()
    inside = (cell >= 0).all(-1) & (cell[..., 0] < grid.shape[1]) & (cell[..., 1] < grid.shape[0])
    inside &= layer == 0
    view = context.new_zeros(len(context), grid.cells, context.shape[2])
    for stream in range(len(context)):
        numbers = cell[stream, ..., 1] * grid.shape[1] + cell[stream, ..., 0]
        rows = volume[stream].movedim(2, -1)[inside[stream]]
        view[stream] = view[stream].index_add(0, numbers[inside[stream]], rows)
    return view.transpose(1, 2).unflatten(2, grid.shape)


def test_sorted_sums_are_those_of_the_volume_in_values_and_gradients():
    torch.manual_seed(0)
    context = torch.randn(2, 3, 4, 5, 6, dtype=torch.float32, requires_grad=True)
    logits = torch.randn(2, 3, 7, 5, 6, requires_grad=True)
    points = (torch.rand(2, 3, 7, 5, 6, 3, dtype=torch.float64) - 0.5) * torch.tensor([40.0, 24.0, 20.0])
    plan = sort_points(points, torch.ones(2, 3, dtype=torch.bool), GRID)
    ours = splat(context, logits.softmax(2), plan, GRID)
    theirs = scattered(context, logits.softmax(2), points, GRID)
    assert ours.shape == (2, 4, 16, 32)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), [context, logits]),
        torch.autograd.grad((theirs * weights).sum(), [context, logits]),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_offsets_say_where_in_a_cell_points_lie():
    places = torch.tensor([[2.75, -7.5, 0.0], [2.25, -7.1, 0.0], [-15.5, 0.2, 0.0]], dtype=torch.float64)
    points, valid = places.view(1, 1, 3, 1, 1, 3), torch.ones(1, 1, dtype=torch.bool)
    plan = sort_points(points, valid, GRID, cell_offsets=True)
    probabilities = torch.tensor([0.5, 0.25, 0.125]).view(1, 1, 3, 1, 1)
    context = torch.tensor([4.0, -8.0]).view(1, 1, 2, 1, 1)
    view = splat(context, probabilities, plan, GRID)
    assert view.shape == (1, 6, 16, 32)
    # Two points share a cell: 0.25 m ahead of its middle, and 0.25 m behind and 0.4 m left of it.
    x, y = 0.5 * 0.25 - 0.25 * 0.25, 0.25 * 0.4
    shares = torch.tensor([0.75, x, y])
    expected = (shares[:, None] * torch.tensor([4.0, -8.0])).flatten()
    torch.testing.assert_close(view[0, :, 0, 18], expected)
    torch.testing.assert_close(view[0, ::2, 8, 0], 4.0 * 0.125 * torch.tensor([1.0, 0.0, -0.3]))
    plain = splat(context, probabilities, sort_points(points, valid, GRID), GRID)
    assert torch.equal(view[:, :2], plain)


def test_rays_through_the_middles_of_cells_come_back_to_them():
    frame, depths = make_frame(size=(32, 64)), torch.tensor([7.0])
    matrices = frame.rig.image_from_vehicle
    points = lift_points(matrices, (32, 64), (2, 4), depths, pixel_centres=True)[0, 0, 0].view(1, 8, 3)
    only = torch.tensor([[True, False]])
    taps = taps_of(points.float(), matrices, only, (32, 64), ((2, 4),))
    looked = taps.rows[0][torch.arange(8), taps.shares[0].argmax(1)]
    assert looked.tolist() == list(range(8)) and taps.shares[0].amax(1).tolist() == pytest.approx([1.0] * 8)
    u, v = pixel_grid((32, 64), (2, 4), points)
    assert u.tolist() == [0, 21, 42, 63] and v.tolist() == [0, 31]


def test_the_finest_of_the_view_reaches_the_heads_where_that_is_asked_for():
    torch.manual_seed(0)
    view = torch.randn(1, 8, 16, 16)
    for full_resolution in (False, True):
        backbone = BevBackbone(8, 8, full_resolution).eval()
        for stage in backbone.stages:
            for parameter in stage.parameters():
                torch.nn.init.zeros_(parameter)
        changed = not torch.equal(backbone(view), backbone(view.flip(-1)))
        assert changed == full_resolution


def test_a_point_falls_into_the_cell_around_it():
    points = torch.tensor([[2.5, -7.5, 0.0], [-16.5, -8.9, 0.0], [40.0, 0.0, 0.0]], dtype=torch.float64)
    plan = sort_points(points.view(1, 1, 3, 1, 1, 3), torch.ones(1, 1, dtype=torch.bool), GRID)
    # The last one is out of the view; the one before, less than a cell below it, counts as published.
    assert isinstance(plan, Splat) and plan.points.tolist() == [1, 0]
    assert plan.starts.tolist() == [0] + [1] * 18 + [2] * (16 * 32 - 19)


def test_what_a_camera_does_not_see_falls_nowhere():
    detector, frame = build(), make_frame()
    valid = frame.camera_valid.clone()
    valid[0, 1] = False
    hole = dataclasses.replace(frame, camera_valid=valid)
    other = dataclasses.replace(hole, images=torch.where(valid[..., None, None, None], hole.images, 255))
    masked = predict(detector, hole)
    assert torch.allclose(masked.codes, predict(detector, other).codes, atol=1e-5)
    assert not torch.allclose(masked.codes, predict(detector, frame).codes, atol=1e-5)
    blind = dataclasses.replace(frame, camera_valid=torch.zeros_like(valid))
    assert torch.isfinite(predict(detector, blind).codes).all()


# Time


def test_a_view_moves_against_the_vehicle():
    view = torch.zeros(1, 1, *GRID.shape)
    view[0, 0, 8, 20] = 1
    past_from_now = pose(3.0, -2.0)[None]  # Since then the vehicle went 3 m ahead and 2 m to the right.
    seen = shifted(view, past_from_now, GRID)
    assert seen[0, 0, 10, 17] == pytest.approx(1) and seen.sum() == pytest.approx(1)


def test_frames_that_are_missing_are_the_present_one():
    detector = build()
    first, second = (make_frame(0.5 * number, "a", speed_m_s=4.0) for number in range(2))
    memory = detector.initial_memory(1)
    features = detector.encode(first, memory)
    queries = detector.initial_queries(features)
    memory = detector.remember(memory, first, features, detector.decode(queries, features)[0])
    fresh = predict(detector, second)
    ended = memory.keep(torch.tensor([False]))
    assert torch.equal(predict(detector, second, ended).codes, fresh.codes)
    assert not torch.equal(predict(detector, second, memory).codes, fresh.codes)


def test_cameras_may_come_and_go_within_a_scene():
    tracker = GreedyConfig().build(build())
    state = tracker.initial_state(1)
    for number, cameras in enumerate((2, 3, 1)):
        output, state = tracker.step(make_frame(0.5 * number, cameras=cameras), state)
        assert torch.isfinite(output.boxes).all()


def test_streams_of_a_batch_are_independent_over_time():
    detector = build()
    tracker = SingleFrameConfig().build(detector)
    both, alone = tracker.initial_state(2), tracker.initial_state(1)
    for number, (one, other) in enumerate([("a", "b"), ("a", "b"), ("a", "c"), ("a", "c")]):
        frame = make_frame(0.5 * number, (one, other), speed_m_s=4.0)
        mine, both = tracker.step(frame, both)
        single = make_frame(0.5 * number, one, speed_m_s=4.0)
        single = dataclasses.replace(single, images=frame.images[:1])
        theirs, alone = tracker.step(single, alone)
        torch.testing.assert_close(mine.scores[:1], theirs.scores)


# Candidates


def test_survivors_are_those_of_the_sequential_rule():
    torch.manual_seed(0)
    beats = (torch.rand(3, 40, 40) < 0.1).tril(-1)
    for matrix, stays in zip(beats, greedy_survivors(beats), strict=True):
        expected = []
        for row in range(40):
            expected.append(not any(matrix[row, other] and expected[other] for other in range(row)))
        assert stays.tolist() == expected


def test_candidates_that_surer_ones_cover_are_reported_in_training_only():
    detector = build()
    torch.nn.init.constant_(detector.head.outputs[2].bias, 2.0)  # Cars of 7 m, in cells of 4 m.
    everywhere = predict(detector, make_frame())
    assert (everywhere.logits[-1].amax(-1) > -1e3).sum() < CENTRE_HEAD.candidates
    detector.train()
    assert (predict(detector, make_frame()).logits[-1].amax(-1) > -1e3).all()


def test_only_the_hottest_of_neighbours_is_a_candidate_where_peaks_are_asked_for():
    detector = build(head=dataclasses.replace(CENTRE_HEAD, peaks_only=True))
    features = detector.encode(make_frame())
    maps = features.auxiliary[1]
    for heat, labels in zip(maps.heat, maps.labels, strict=True):
        highest = functional.max_pool2d(heat, 3, 1, 1)
        found = torch.isin(features.candidates.labels, torch.tensor(labels))
        assert set(features.candidates.logits[found].tolist()) - {-1e4} <= set(heat[heat == highest].tolist())


@pytest.mark.parametrize("peaks_only", [False, True])
def test_of_equal_cells_the_first_are_candidates_whatever_says_so(peaks_only):
    detector = build(head=dataclasses.replace(CENTRE_HEAD, peaks_only=peaks_only, task_candidates=5))
    maps = detector.encode(make_frame()).auxiliary[1]
    # Where no camera looks all cells are equal; then they are told in turn, one task behind the other.
    equal = dataclasses.replace(maps, heat=tuple(torch.zeros_like(heat) for heat in maps.heat))
    found = detector.head.candidates(equal)
    cells = torch.arange(5).repeat(len(maps.heat))[: found.logits.shape[1]]
    tasks = torch.arange(len(maps.heat)).repeat_interleave(5)[: found.logits.shape[1]]
    codes = [codes_at(equal, int(task), cell.view(1, 1))[0, 0] for task, cell in zip(tasks, cells)]
    assert torch.equal(found.tasks[0], tasks) and torch.equal(found.codes[0], torch.stack(codes))


def test_greedy_tracks_its_detections_and_goes_on_from_a_file():
    tracker = GreedyConfig(min_score=0.0).build(build())
    objects, state = tracker.step(make_frame(0.0, speed_m_s=2.0), tracker.initial_state(1))
    assert objects.valid.any() and objects.identities[objects.valid].unique().numel() == objects.valid.sum()
    restored = put_together(*take_apart(state), "a test")
    following = make_frame(0.5, speed_m_s=2.0)
    assert torch.equal(tracker.step(following, state)[0].boxes, tracker.step(following, restored)[0].boxes)


def test_tracks_as_queries_are_refused_with_the_way_on():
    tracker = Mutr3dConfig(heads=4, hidden=48, birth_score=0.0, keep_score=0.0).build(build())
    _, state = tracker.step(make_frame(), tracker.initial_state(1))
    with pytest.raises(SynclError, match=r"BevDepth has no queries that tracks could be among; .*greedy"):
        tracker.step(make_frame(0.5), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_m": 3.0}, r"cell_m=3\.0: the range .* has 21\.3333 x 21\.3333 cells"),
        ({"cell_m": 6.4}, r"10 x 10 cells; both must be whole numbers divisible by 8"),
        ({"depths_m": (5.0, 1.0, 1.0)}, r"depths_m=\(5\.0, 1\.0, 1\.0\): must be \(first, end, step\)"),
        ({"lifted_level": 3}, r"lifted_level=3: the neck has 3 levels"),
        ({"frames": 0}, r"frames=0: must be at least 1"),
        ({"classes": ("car", "bus")}, r"tasks have car, truck, .* must have each of car, bus once"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(SynclError, match=message):
        tiny_bevdepth(**changes).build()


# Supervision


def test_depths_of_boxes_are_where_rays_first_meet_one():
    frame = make_frame(size=(33, 65))
    found = DepthPrediction(
        torch.zeros(1, 2, 4, 33, 65),
        torch.arange(1.0, 5.0),
        frame.rig.image_from_vehicle,
        frame.camera_valid,
        (33, 65),
    )
    # One ahead with its rear 8 m away, one hidden behind it, and one behind the vehicle, in the other camera.
    depths = depths_of_boxes(found, cars_at((10.0, 0.0), (20.0, 0.0), (-7.0, 0.0)))
    assert depths[0, :, 16, 32].tolist() == pytest.approx([8.0, 5.0], abs=1e-4)
    assert depths[0, 0, 0, 0] == 0 and set(depths.unique().tolist()) != {0.0}
    assert depths_of_boxes(found, cars_at((0.0, 0.0)).map(lambda rows: rows[:, :0])).abs().sum() == 0
    logits = torch.full((1, 1, 4, 1, 1), -20.0)
    logits[0, 0, 2] = 20.0
    bins = torch.arange(1.0, 5.0)
    right, wrong = (depth_loss(logits, torch.tensor(depth).view(1, 1, 1, 1), bins) for depth in (3.5, 2.5))
    assert right < 1e-6 < wrong


def test_nothing_is_learned_of_depths_that_no_bin_has():
    bins = torch.arange(1.0, 5.0)
    kept = within_bins(torch.tensor([0.0, 0.9, 1.0, 4.9, 5.0, 80.0]), bins)
    assert kept.tolist() == pytest.approx([0, 0, 1, 4.9, 0, 0])
    found = build().train().encode(make_frame())
    decoded, nobody = SimpleNamespace(features=found), make_objects([1]).map(lambda rows: rows[:, :0])
    cells = torch.zeros_like(found.found(DepthPrediction).logits[:, :, 0])
    losses = [
        DepthLossConfig().build()(decoded, None, dataclasses.replace(nobody, depths=cells + depth_m))
        for depth_m in (2.0, 500.0)
    ]
    assert losses[0]["lifted_depth"] > 0 and losses[1]["lifted_depth"] == 0


def test_frames_without_lidar_and_boxes_have_no_loss_of_depth():
    found = build().train().encode(make_frame())
    decoded = SimpleNamespace(features=found)
    nothing = make_objects([1]).map(lambda rows: rows[:, :0])
    losses = DepthLossConfig().build()(decoded, None, nothing)
    assert losses["lifted_depth"] == 0
    losses["lifted_depth"].backward()


def test_training_lowers_the_loss_and_reaches_every_part():
    torch.manual_seed(0)
    tracker = SingleFrameConfig().build(tiny_bevdepth().build())
    unroll = UnrollConfig(objectives=(CentreLossConfig(), DepthLossConfig()))
    training = ClipTraining(tracker, RefinedCandidatesConfig().build(16), unroll)
    frame, objects = make_frame(), make_objects([0, 1, 3, 4])
    optimiser = torch.optim.AdamW(training.parameters(), 1e-2)
    seen = []
    for _ in range(10):
        losses, _ = training.unroll(rig.Clip((frame,), (objects,)), tracker.initial_state(1), carry_on=False)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        seen.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert set(seen[0]) == {
        "centre_heat", "centre_place", "centre_height", "centre_size", "centre_heading", "centre_velocity",
        "lifted_depth", "total",
    }  # fmt: skip
    still = {name for name, parameter in tracker.named_parameters() if parameter.grad is None}
    # The neck's other levels are not looked at.
    assert all(name.startswith("detector.image_encoder.neck.fpn_convs") for name in still)
    assert seen[-1]["total"] < seen[0]["total"] / 2
