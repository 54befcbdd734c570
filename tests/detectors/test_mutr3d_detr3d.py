"""MUTR3D's DETR3D: sizes that queries bring, the border of the range, encodings, and life inside trackers."""

import dataclasses
import math
from functools import partial

import pytest
import torch

import rig
from syncl.detectors import Mutr3dDetr3dConfig
from syncl.detectors.refining_detector import accumulate_sizes
from syncl.layers.decoder import PARALLEL
from syncl.layers.positional import encode_plane
from syncl.recipes.synthetic import small_detr3d, small_mutr3d
from syncl.structures import Annotations, Clip
from syncl.trackers.clip_noise import ClipNoise
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

make_frame = partial(rig.make_frame, cameras=1)


def config(**changes) -> Mutr3dDetr3dConfig:
    base = dataclasses.replace(small_detr3d(), cameras=1, proposals=None, lifted_tracks=False, layers=2)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return Mutr3dDetr3dConfig(**(fields | changes))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return config().build().eval()


def test_sizes_add_up_and_gradients_pass_only_from_the_second_layer_to_the_first() -> None:
    start = torch.tensor([[[1.0, 2.0, 3.0]]])
    update = torch.zeros(1, 1, 10, requires_grad=True)
    code = update + torch.arange(10.0)
    first, sizes = accumulate_sizes(code, start, first=True)
    assert first[0, 0].tolist() == [0, 1, 2, 1 + 3, 2 + 4, 3 + 5, 6, 7, 8, 9]
    assert sizes is not None and sizes.requires_grad
    second, sizes = accumulate_sizes(code, sizes, first=False)
    assert second[0, 0, 3:6].tolist() == [4 + 3, 6 + 4, 8 + 5]
    assert sizes is not None and not sizes.requires_grad
    assert accumulate_sizes(code, None, first=True) == (code, None)


@torch.no_grad()
def test_the_size_a_query_brings_shifts_the_size_of_its_box(detector) -> None:
    features = detector.encode(make_frame(0.0))
    queries = detector.initial_queries(features)
    (plain,) = detector.decode(queries, features)
    change = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0, -0.25, 0.0, 0.0, 0.0, 0.0])
    larger = dataclasses.replace(queries, codes=queries.codes + change)
    (shifted,) = detector.decode(larger, features)
    difference = (shifted.codes - plain.codes)[..., 3:6]
    assert torch.allclose(difference, torch.tensor([0.5, 0.0, -0.25]).expand_as(difference), atol=1e-5)
    assert torch.equal(shifted.logits, plain.logits)


@torch.no_grad()
def test_references_beyond_the_range_are_looked_up_on_its_border(detector) -> None:
    features = detector.encode(make_frame(0.0))
    queries = detector.initial_queries(features)
    outside = queries.codes.clone()
    outside[..., 0] += 200.0
    border = outside.clone()
    border[..., 0] = detector.config.point_range[3]
    (beyond,) = detector.decode(dataclasses.replace(queries, codes=outside), features)
    (on,) = detector.decode(dataclasses.replace(queries, codes=border), features)
    assert torch.allclose(beyond.logits, on.logits, atol=1e-5)


def test_the_plane_encoding_by_hand() -> None:
    encoded = encode_plane(2, 4, 8, torch.zeros(1))
    assert encoded.shape == (8, 2, 4)
    # Row 1 of 2: middle at 3/4 of the way round; column 0 of 4: at 1/8. Rows come first, sin before cos.
    row, column = 2 * math.pi * 0.75, 2 * math.pi * 0.125
    assert encoded[:2, 1, 0].tolist() == pytest.approx([math.sin(row), math.cos(row)], abs=1e-4)
    assert encoded[4:6, 1, 0].tolist() == pytest.approx([math.sin(column), math.cos(column)], abs=1e-4)


@torch.no_grad()
def test_the_standard_decoder_does_not_depend_on_the_other(detector) -> None:
    features = detector.encode(make_frame(0.0))
    queries = detector.initial_queries(features)
    (alone,) = detector.decode(queries, features)
    together, cross = detector.decode(queries, features, PARALLEL)
    assert torch.equal(alone.codes, together.codes) and torch.equal(alone.logits, together.logits)
    assert not torch.equal(cross.codes, together.codes)


def test_bottom_centres_are_lifted_when_reported() -> None:
    code = torch.zeros(1, 1, 10)
    code[..., 2], code[..., 5], code[..., 7] = -1.5, torch.tensor(3.0).log(), 1.0
    plain, lifted = config().build(), config(bottom_centres=True).build()
    assert plain.boxes(code)[0, 0, 2].item() == pytest.approx(-1.5)
    assert lifted.boxes(code)[0, 0, 2].item() == pytest.approx(0.0)
    assert torch.equal(plain.boxes(code)[..., 3:], lifted.boxes(code)[..., 3:])


def test_tracks_bring_the_size_of_their_last_box(detector) -> None:
    eager = dataclasses.replace(
        small_mutr3d(), birth_score=0.0, keep_score=0.0, output_score=0.0, max_tracks=5
    )
    tracker = eager.build(detector).eval()
    objects, state = tracker.step(make_frame(0.0), tracker.initial_state())
    queries = state.queries
    assert queries.codes.shape == (1, 5, 10)
    carried = {int(i): size for i, size in zip(state.identities[0], queries.codes[0, :, 3:6])}
    for identity, box in zip(objects.identities[0].tolist(), objects.boxes[0]):
        if identity in carried:
            assert torch.allclose(carried[identity].exp(), box[3:6])
    _, state = tracker.step(make_frame(0.5), state)
    assert state.queries.codes.shape == (1, state.count, 10)


@pytest.mark.parametrize("strategy", [BaselineConfig(), SynclConfig()], ids=["baseline", "syncl"])
def test_clips_train_every_part(strategy) -> None:
    torch.manual_seed(0)
    tracker = dataclasses.replace(small_mutr3d(), noise=ClipNoise(0.0, 0.0, 1.0)).build(config().build())
    training = ClipTraining(tracker, strategy.build(tracker.detector.dim), UnrollConfig())
    boxes = torch.tensor([[[10.0, 1, 0, 4, 2, 1.5, 0, 1, 0], [20.0, -3, 0, 9, 3, 3, 0, 0, 0]]])
    truth = Annotations(boxes, torch.tensor([[0, 2]]), torch.tensor([[4, 7]]), torch.ones(1, 2).bool())
    losses = training(Clip(tuple(make_frame(t / 2) for t in range(3)), (truth,) * 3))
    losses["total"].backward()
    for name in ("query_sizes.weight", "level_embedding", "camera_embedding"):
        gradient = tracker.detector.get_parameter(name).grad
        assert gradient is not None and float(gradient.abs().sum()) > 0, name
    for branch in ("place", "heading", "velocity"):
        assert tracker.detector.get_parameter(f"box_branches.1.{branch}.4.weight").grad is not None
