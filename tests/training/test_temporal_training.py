"""Training temporal detectors: denoising, the auxiliary image head, context frames, memory in trackers."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch

import rig
from rig import HEIGHT, WIDTH
from syncl.detectors import FocalHeadConfig
from syncl.detectors.reference_range import ReferenceRange
from syncl.detectors.streampetr.focal_head import FocalHead, ImagePredictions, cell_centres
from syncl.errors import SynclError
from syncl.layers.numerics import inverse_sigmoid
from syncl.recipes.synthetic import small_detr3d, small_mutr3d, small_petrv2, small_streampetr
from syncl.structures import Annotations, Clip, Frame, Predictions
from syncl.trackers import ClipNoise, SingleFrameConfig
from syncl.training.losses import LossConfig
from syncl.training.objectives.denoising import (
    DenoisingConfig,
    denoising_losses,
    noise_objects,
    noised_queries,
)
from syncl.training.objectives.image import (
    ImageLossConfig,
    ImageTargets,
    heat_maps,
    image_losses,
    overlaps,
    project_annotations,
    uncovered,
)
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

make_frame = partial(rig.make_frame, speed_m_s=2.0)
RANGE = ReferenceRange((-50.0, -50.0, -5.0, 50.0, 50.0, 3.0))


def make_annotations(*boxes: list[float], padding: int = 0) -> Annotations:
    rows = [*boxes, *([[0.0, 0, 0, 1, 1, 1, 0, 0, 0]] * padding)]
    table = torch.tensor(rows).reshape(1, len(rows), 9)
    valid = torch.arange(len(rows)) < len(boxes)
    identities = torch.arange(len(rows)).masked_fill(~valid, -1)
    return Annotations(table, torch.arange(len(rows))[None] % 10, identities[None], valid[None])


CAR = [12.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.3, 1.0, 0.0]
BUS = [-20.0, 3.0, 0.5, 10.0, 3.0, 3.5, 0.0, 0.0, 0.0]
FAR = [30.0, 2.4, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
CALM = ClipNoise(false_positive_ratio=small_mutr3d().noise.false_positive_ratio)


# Denoising


def test_noise_by_hand():
    annotations = make_annotations(CAR, padding=1)
    uniform = torch.zeros(1, 2, 2, 3)
    uniform[0, 0, 0] = torch.tensor([0.5, 0.75, 0.25])  # half the width to the left, half the height down
    uniform[0, 1, 0] = torch.tensor([1.0, 0.5, 0.5])  # as far ahead as possible: background
    noised = noise_objects(annotations, RANGE, DenoisingConfig(groups=2), uniform)
    assert torch.allclose(noised.references[0, 0, 0], torch.tensor([12.0, 1.5, -0.375]), atol=1e-5)
    assert torch.allclose(noised.references[0, 1, 0], torch.tensor([14.0, 1.0, 0.0]), atol=1e-5)
    assert torch.equal(noised.references[0, :, 1], RANGE.low.expand(2, -1))
    assert noised.identities[0].tolist() == [[0, -1], [-1, -1]]
    assert noised.valid[0].tolist() == [[True, False]] * 2


def test_noise_stays_inside_the_range():
    outside = [49.9, -49.9, 2.9, 8.0, 8.0, 8.0, 0.0, 0.0, 0.0]
    torch.manual_seed(0)
    noised = noise_objects(make_annotations(outside), RANGE, DenoisingConfig(groups=50))
    unit = RANGE.normalise(noised.references)
    assert unit.min() >= 0 and unit.max() <= 1 and (unit == 1).any()


def test_denoising_losses_by_hand():
    annotations = make_annotations(CAR, padding=1)
    uniform = torch.full((1, 2, 2, 3), 0.5)
    uniform[0, 1] = 1.0  # the second copy is background
    loss = LossConfig(code_weights=(2.0,) + (1.0,) * 9)
    config = DenoisingConfig(groups=2, weight=0.5, loss=loss)
    noised = noised_queries(small_streampetr().build(), noise_objects(annotations, RANGE, config, uniform))
    assert noised.attention[0].tolist() == [[a // 2 == b // 2 for b in range(4)] for a in range(4)]
    codes = torch.zeros(1, 1, 4, 10)
    goal = torch.tensor(
        [12.0, 1, 0, math.log(4), math.log(2), math.log(1.5), math.sin(0.3), math.cos(0.3), 1, 0]
    )
    codes[0, 0, 0] = goal
    codes[0, 0, 2] = goal
    codes[0, 0, 0, 0] += 0.5  # counts twice
    codes[0, 0, 2, 1] += 1.0  # a background copy counts too
    codes[0, 0, [1, 3]] = 99.0  # padding does not
    predictions = Predictions(
        torch.zeros(1, 1, 4, 10),
        codes,
        torch.zeros(1, 1, 4, 2),
        torch.zeros(1, 1, 4, 3),
        torch.ones(1, 4, dtype=torch.bool),
        0,
    )
    losses = denoising_losses(predictions, noised, annotations, config)
    assert losses["noised_box"].item() == pytest.approx(0.5 * 0.25 * (2 * 0.5 + 1.0) / 2)
    # Probability one half everywhere: one positive at weight 0.25, nineteen negatives at 0.75, over one copy.
    focal = (0.25 + 19 * 0.75) * 0.25 * math.log(2)
    assert losses["noised_class"].item() == pytest.approx(0.5 * 2 * focal / 1.0, rel=1e-5)


# The auxiliary image head


def test_overlaps_by_hand():
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1]])
    second = torch.tensor([[1.0, 1, 3, 3], [0, 0, 1, 1], [2, 0, 3, 1]])
    iou, giou = overlaps(first, second)
    assert torch.allclose(iou, torch.tensor([1 / 7, 1.0, 0.0]))
    assert torch.allclose(giou, torch.tensor([1 / 7 - 2 / 9, 1.0, -1 / 3]))


def test_covered_boxes_vanish_but_the_farthest_stays():
    far_hidden = [0.0, 0, 4, 4]
    hidden = [1.0, 1, 3, 3]
    beside = [4.2, 0, 7.9, 4]
    near = [0.0, 0, 5, 5]
    boxes = np.array([far_hidden, hidden, beside, near], dtype=np.float32)
    assert uncovered(boxes, (6, 9)).tolist() == [0, 2, 3]
    # Painted over completely, image and all, the farthest still counts.
    assert uncovered(np.array([hidden, [0.0, 0, 9, 6]], dtype=np.float32), (6, 9)).tolist() == [0, 1]


def features_of(frame: Frame):
    torch.manual_seed(0)
    return small_streampetr().build().eval().encode(frame)


def test_annotations_project_into_the_cameras_that_see_them():
    box = [10.0, 0, 1.5, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0]
    annotations = make_annotations(box, BUS, padding=1)
    with torch.no_grad():
        targets = project_annotations(features_of(make_frame(1.0)), annotations)
    assert targets.valid[0].tolist() == [[True, False, False], [False, True, False]]
    # The near face, 9 m away, is 2 m wide: 40 * 2 / 9 pixels around the middle of the image.
    half = 40 / 9
    wanted = torch.tensor([WIDTH / 2 - half, HEIGHT / 2 - half, WIDTH / 2 + half, HEIGHT / 2 + half])
    assert torch.allclose(targets.boxes[0, 0, 0], wanted, atol=1e-3)
    assert torch.allclose(targets.centres[0, 0, 0], torch.tensor([WIDTH / 2, HEIGHT / 2]), atol=1e-3)


def test_an_object_behind_a_nearer_one_is_no_target():
    wall = [8.0, 2.0, 1.0, 1.0, 12.0, 8.0, 0.0, 0.0, 0.0]
    farthest = [40.0, 6.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0]
    with torch.no_grad():
        targets = project_annotations(features_of(make_frame(1.0)), make_annotations(FAR, wall, farthest))
    # The thing at 30 m is covered; the one at 40 m is too, but the farthest box always counts.
    assert targets.valid[0, 0].tolist() == [False, True, True]


def perfect_predictions(
    targets: ImageTargets, grid: tuple[int, int], size: tuple[int, int]
) -> ImagePredictions:
    rows, columns = grid
    cells = rows * columns
    streams, cameras, _ = targets.labels.shape
    logits = torch.full((streams, cameras, cells, 10), -12.0)
    extent = torch.tensor([size[1], size[0]])
    here = cell_centres(rows, columns, logits)
    boxes = torch.cat([here, torch.full_like(here, 0.01)], dim=-1).repeat(streams, cameras, 1, 1)
    centres = here.repeat(streams, cameras, 1, 1)
    for stream, camera, target in targets.valid.nonzero().tolist():
        fraction = targets.boxes[stream, camera, target].view(2, 2) / extent
        row = 3 * target
        logits[stream, camera, row, targets.labels[stream, camera, target]] = 12.0
        boxes[stream, camera, row] = torch.cat([fraction.mean(0), fraction[1] - fraction[0]])
        centres[stream, camera, row] = targets.centres[stream, camera, target] / extent
    goal = targets.map(lambda tensor: tensor.flatten(0, 1))
    heat = heat_maps(goal, size, grid).view(streams, cameras, cells)
    return ImagePredictions(logits, inverse_sigmoid((heat == 1).float()), boxes, centres, grid)


def test_perfect_image_predictions_lose_next_to_nothing():
    annotations = make_annotations(CAR, BUS)
    with torch.no_grad():
        targets = project_annotations(features_of(make_frame(1.0)), annotations)
    predictions = perfect_predictions(targets, (4, 8), (HEIGHT, WIDTH))
    losses = image_losses(predictions, targets, (HEIGHT, WIDTH), ImageLossConfig())
    assert all(value < 1e-3 for value in losses.values())
    wrong = dataclasses.replace(predictions, boxes=predictions.boxes + 0.1)
    off = image_losses(wrong, targets, (HEIGHT, WIDTH), ImageLossConfig())
    assert off["image_box"].item() == pytest.approx(5 * 4 * 0.1, rel=1e-4)
    assert off["image_giou"] > 0.1


def test_heat_maps_by_hand():
    targets = ImageTargets(
        torch.tensor([[[0.0, 0, 40, 64], [0, 0, 64, 64]]]),
        torch.tensor([[[24.0, 40.0], [1.0, 1.0]]]),
        torch.zeros(1, 2, dtype=torch.int64),
        torch.tensor([[True, False]]),
    )
    heat = heat_maps(targets, (64, 64), (8, 8))[0]
    # The nearest side is 16 px away, two cells of eight: radius 2, deviation 5 / 6, centre in cell (5, 3).
    assert heat[5, 3] == 1
    assert heat[5, 4].item() == pytest.approx(math.exp(-1 / (2 * (5 / 6) ** 2)))
    assert heat[7, 5].item() == pytest.approx(math.exp(-8 / (2 * (5 / 6) ** 2)))
    assert heat[5, 6] == 0 and heat.count_nonzero() == 25


def test_an_image_head_needs_its_level():
    with pytest.raises(SynclError, match=r"focal_head\.level=2: the neck has 2 levels"):
        FocalHead(FocalHeadConfig(level=2), 32, 10, 2)


# Clips


def train(tracker, unroll=None, strategy=None):
    strategy = strategy or BaselineConfig()
    return ClipTraining(tracker, strategy.build(tracker.detector.dim), unroll or UnrollConfig())


def clip(length: int) -> Clip:
    frames = tuple(make_frame(1 + 0.5 * index) for index in range(length))
    return Clip(frames, tuple(make_annotations(CAR, BUS) for _ in frames))


@pytest.mark.parametrize("strategy", [BaselineConfig(), SynclConfig()])
def test_streampetr_trains_with_all_its_extras(strategy):
    torch.manual_seed(0)
    config = dataclasses.replace(small_streampetr(), focal_head=FocalHeadConfig())
    tracker = dataclasses.replace(small_mutr3d(), noise=CALM).build(config.build())
    module = train(tracker, UnrollConfig(denoising=DenoisingConfig(groups=3)), strategy)
    losses = module(clip(3))
    losses["total"].backward()
    names = {"noised_class", "noised_box", "image_class", "image_box", "image_giou", "image_centre"}
    assert names | {"image_centerness", "heat", "class", "box"} <= losses.keys()
    assert all(torch.isfinite(value) for value in losses.values())
    untouched = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    # The pyramid's coarsest level is neither attended nor looked at.
    assert {name for name in untouched if ".neck.fpn_convs.2." not in name} == set()


def test_denoising_without_objects_takes_part_and_loses_nothing():
    torch.manual_seed(0)
    tracker = SingleFrameConfig().build(small_streampetr().build())
    module = train(tracker, UnrollConfig(denoising=DenoisingConfig()))
    losses = module(Clip((make_frame(1.0),), (make_annotations(),)))
    assert losses["noised_class"] == losses["noised_box"] == 0 and torch.isfinite(losses["total"])
    assert losses["noised_class"].requires_grad and losses["noised_box"].requires_grad


@pytest.mark.parametrize("kind", [small_streampetr, small_petrv2])
def test_context_frames_fill_the_memory_without_losses(kind):
    torch.manual_seed(0)
    tracker = SingleFrameConfig().build(kind().build())
    whole = train(tracker, UnrollConfig(context_frames=2))
    seen = []
    encode = tracker.detector.encode

    def watched(frame, memory=None):
        seen.append((tracker.training, torch.is_grad_enabled()))
        return encode(frame, memory)

    tracker.detector.encode = watched
    losses = whole(clip(3))
    assert seen == [(False, False), (False, False), (True, True)]
    assert tracker.training
    last = clip(3)
    alone = train(tracker)(Clip(last.frames[2:], last.annotations[2:]))
    assert losses["box"] != alone["box"], "the memory must have made a difference"
    assert losses["total"] < train(tracker)(clip(3))["total"], "three frames' losses are more than one's"


def test_gradients_reach_the_encoder_through_past_images():
    torch.manual_seed(0)
    config = dataclasses.replace(small_petrv2(), proposals=None, lifted_tracks=False)
    tracker = SingleFrameConfig().build(config.build())
    images = []
    tracker.detector.image_encoder.register_forward_hook(lambda _, __, levels: images.append(levels[1]))
    frame = make_frame(1.0)
    frame = dataclasses.replace(frame, past=make_frame(0.5))
    losses = train(tracker)(Clip((frame,), (make_annotations(),)))
    (both,) = images
    both.retain_grad()
    losses["total"].backward()
    cameras = len(frame.rig.names)
    assert both.shape[1] == 2 * cameras and both.grad[:, cameras:].abs().sum() > 0


def test_a_clip_of_context_alone_is_refused():
    tracker = SingleFrameConfig().build(small_petrv2().build())
    with pytest.raises(SynclError, match="clips of 2 frames have none with losses behind 2 context frames"):
        train(tracker, UnrollConfig(context_frames=2))(clip(2))


# Trackers carry the memory


@pytest.mark.parametrize("detector", [small_streampetr, small_petrv2])
@pytest.mark.parametrize("tracker", [SingleFrameConfig(), small_mutr3d()])
def test_trackers_carry_and_reset_the_memory(detector, tracker):
    torch.manual_seed(0)
    model = tracker.build(detector().build()).eval()
    state = model.initial_state()
    _, state = model.step(make_frame(1.0), state)
    one, later = model.step(make_frame(1.5), state)
    assert later.detector_memory.timestamps_s[0, 0] == 1.5
    fresh, _ = model.step(make_frame(1.5), model.initial_state())
    assert not torch.allclose(one.boxes, fresh.boxes) or one.boxes.shape != fresh.boxes.shape
    other, _ = model.step(make_frame(1.5, scenes="b"), state)
    assert torch.equal(other.boxes, fresh.boxes) and torch.equal(other.scores, fresh.scores)
    again, _ = model.step(make_frame(1.5), state.map(lambda tensor: tensor.clone()))
    assert torch.equal(again.boxes, one.boxes), "stepping must leave the state as it was"


def test_states_without_memory_stay_as_they_were():
    model = SingleFrameConfig().build(small_detr3d().build()).eval()
    _, state = model.step(make_frame(1.0, cameras=6), model.initial_state())
    assert state.detector_memory is None
