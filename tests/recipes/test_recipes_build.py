"""Every recipe: builds, survives its JSON form, keeps its promises; cost and listing."""

import time

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from syncl.commands.recipes import published, recipes
from syncl.detectors.base import Detector
from syncl.recipes import RECIPES, find_recipe
from syncl.recipes.cost import model_cost
from syncl.recipes.recipe import PaperResult, Recipe, recipe_from_json, recipe_to_json
from syncl.structures import CameraRig, Frame
from syncl.trackers import SingleFrameConfig
from syncl.training.syncl.config import SynclConfig


def frame_for(recipe: Recipe) -> Frame:
    """Grey images from six cameras in a ring."""
    height, width = recipe.model.input.image_size
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    extrinsics = torch.zeros(1, 6, 4, 4, dtype=torch.float64)
    extrinsics[0, :, 0, 0], extrinsics[0, :, 0, 1] = angles.sin(), -angles.cos()
    extrinsics[0, :, 1, 2] = -1
    extrinsics[0, :, 2, 0], extrinsics[0, :, 2, 1] = angles.cos(), angles.sin()
    extrinsics[0, :, 1, 3], extrinsics[0, :, 3, 3] = 1.6, 1
    intrinsics = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    return Frame(
        images=torch.full((1, 6, 3, height, width), 127, dtype=torch.uint8),
        rig=CameraRig(tuple(map(str, range(6))), intrinsics.double().expand(1, 6, 3, 3), extrinsics),
        camera_valid=torch.ones(1, 6, dtype=torch.bool),
        content_size=torch.tensor([height, width]).expand(1, 6, 2),
        global_from_vehicle=torch.eye(4, dtype=torch.float64)[None],
        timestamp_s=torch.tensor([1.0], dtype=torch.float64),
        scenes=("scene",),
        samples=("sample",),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_survives_json(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe_from_json(recipe_to_json(recipe), name) == recipe
    with torch.device("meta"):
        tracker = recipe.model.build()
    assert isinstance(tracker.detector, Detector)
    assert len(set(tracker.detector.classes)) == len(recipe.model.detector.classes)
    single = isinstance(recipe.model.tracker, SingleFrameConfig)
    assert single == (not name.startswith(("mutr3d", "pf-track")))
    assert isinstance(recipe.training.strategy, SynclConfig) == name.endswith("_syncl")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_start_from_a_recipe_share_its_detector(name: str) -> None:
    recipe = find_recipe(name)
    if recipe.starts_from in RECIPES:
        start = find_recipe(recipe.starts_from)
        assert start.model.detector == recipe.model.detector
        assert start.model.input == recipe.model.input


@pytest.mark.parametrize("name", [name for name in RECIPES if "synthetic" not in name])
def test_full_size_recipes_see_what_published_weights_saw(name: str) -> None:
    recipe = find_recipe(name)
    height, width = recipe.model.input.image_size
    assert f"_{height}x{width}" in name
    assert recipe.model.input.vehicle_frame == "lidar" and recipe.model.input.exact_resize
    assert recipe.model.input.cameras is not None and recipe.model.input.cameras[0] == "CAM_FRONT"


def test_sizes_are_the_papers() -> None:
    # PF-Track's own count: backbone 69.5 M, neck 1.05 M, head 10.9 M.
    assert model_cost(find_recipe("petr_v99_320x800_q500").model).parameters / 1e6 == pytest.approx(
        81.5, abs=0.3
    )
    # Its tracker in all: 10.0 M of reasoning more.
    assert model_cost(find_recipe("pf-track_petr_v99_320x800").model).parameters / 1e6 == pytest.approx(
        91.8, abs=0.3
    )
    # ResNet-50 with CP-FPN 24.9 M, StreamPETR's head 11.19 M.
    assert model_cost(find_recipe("streampetr_r50_256x704").model).parameters / 1e6 == pytest.approx(
        36.1, abs=0.2
    )


def test_counted_operations_are_those_of_a_real_pass() -> None:
    recipe = find_recipe("petr_synthetic")
    detector = recipe.model.build().detector.eval().requires_grad_(False)
    # The plain kernel, because the counter does not know the fused one for CPUs.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = detector.encode(frame_for(recipe))
        detector.decode(detector.initial_queries(features), features)
    cost = model_cost(recipe.model)
    assert cost.frame_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.parameters == sum(parameter.numel() for parameter in recipe.model.build().parameters())


def test_the_listing_names_every_recipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    begin = time.process_time()
    recipes()
    assert time.process_time() - begin < 30
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)
    assert "AMOTA 35.8" in text


def test_published_results_leave_out_what_is_not_reported() -> None:
    assert published(PaperResult("X", amota=1.5, map=2.0)) == "X: AMOTA 1.5, mAP 2.0"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["streampetr_r50_256x704", "petr_v99_320x800"])
def test_a_full_size_forward_pass(name: str) -> None:
    recipe = find_recipe(name)
    tracker = recipe.model.build().eval()
    with torch.no_grad():
        objects, _ = tracker.step(frame_for(recipe), tracker.initial_state())
    assert objects.boxes.shape == (1, 300, 9)
    assert bool(torch.isfinite(objects.boxes).all()) and bool(torch.isfinite(objects.scores).all())
