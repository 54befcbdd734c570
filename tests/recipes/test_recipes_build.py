"""Every recipe: builds, survives its JSON form, keeps its promises; cost and listing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rig import make_frame
from syncl.commands.recipes import details, listing, published, recipes
from syncl.data.past_images import PastImages
from syncl.detectors import StreamPetrConfig
from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.recipes import RECIPES, cost_cache, find_recipe
from syncl.recipes.cost import Cost, model_cost
from syncl.recipes.recipe import PaperResult, recipe_from_json, recipe_to_json
from syncl.runs.train.run import resolve_recipe
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import ModelConfig
from syncl.training.denoising import DenoisingConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.syncl.config import SynclConfig


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
        detector = start.model.detector
        if isinstance(detector, StreamPetrConfig):
            # The auxiliary image head of the detector's own training stays behind.
            detector = replace(detector, focal_head=None)
        assert detector == recipe.model.detector
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
    # ResNet-50 with CP-FPN 24.9 M, StreamPETR's head 11.19 M; the image head of training comes on top.
    model = find_recipe("streampetr_r50_256x704").model
    assert isinstance(model.detector, StreamPetrConfig) and model.detector.focal_head is not None
    bare = replace(model, detector=replace(model.detector, focal_head=None))
    assert model_cost(bare).parameters / 1e6 == pytest.approx(36.1, abs=0.2)
    assert model_cost(bare).frame_flops == model_cost(model).frame_flops


def test_counted_operations_are_those_of_a_real_pass() -> None:
    recipe = find_recipe("petr_synthetic")
    detector = recipe.model.build().detector.eval().requires_grad_(False)
    # The plain kernel, because the counter does not know the fused one for CPUs.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = detector.encode(make_frame(cameras=6, size=recipe.model.input.image_size))
        detector.decode(detector.initial_queries(features), features)
    cost = model_cost(recipe.model)
    assert cost.frame_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.parameters == sum(parameter.numel() for parameter in recipe.model.build().parameters())


def test_costs_are_counted_once_for_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small, other = find_recipe("petr_synthetic").model, find_recipe("detr3d_synthetic").model
    counted = []

    def count(config: ModelConfig) -> Cost:
        counted.append(config)
        return Cost(len(counted), 10)

    monkeypatch.setattr(cost_cache, "model_cost", count)
    assert cost_cache.model_costs([small, other]) == [Cost(1, 10), Cost(2, 10)]
    assert cost_cache.model_costs([other, small]) == [Cost(2, 10), Cost(1, 10)] and counted == [small, other]
    # Another code, and a damaged file, count anew.
    monkeypatch.setattr(cost_cache, "_code_digest", lambda: "newer")
    assert cost_cache.model_costs([small]) == [Cost(3, 10)]
    cost_cache.cache_file().write_bytes(b"{}")
    assert cost_cache.model_costs([small]) == [Cost(4, 10)]
    # Where nothing can be kept, nothing fails.
    monkeypatch.setenv("XDG_CACHE_HOME", str(cost_cache.cache_file()))
    assert cost_cache.model_costs([small]) == [Cost(5, 10)]


def test_the_listing_names_every_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cost_cache, "model_cost", lambda config: Cost(123_456_789, 1_234 * 10**9))
    recipes()
    lines = capsys.readouterr().out.splitlines()
    for name in RECIPES:
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert (
            f"from {find_recipe(name).starts_from or 'nothing'}: " in line
            and find_recipe(name).summary in line
        )
    assert any(
        "900x1600" in line and " 35.8 " in line and "AMOTA 35.8, AMOTP 1.391" in line for line in lines
    )


def test_the_listing_fits_a_narrow_terminal_without_breaking_words() -> None:
    rows = [(find_recipe(name), Cost(123_456_789, 1_234 * 10**9)) for name in RECIPES]
    lines = listing(rows, wide=False)
    assert max(map(len, lines)) <= 80
    place = next(n for n, line in enumerate(lines) if line.startswith("petr_v99_320x800 "))
    assert lines[place].split() == ["petr_v99_320x800", "320x800", "123.5", "1234", "-", "42.6", "37.8"]
    assert lines[place + 1].strip() == "from FCOS3D's VoVNet-99 (convert --from backbone)"


@pytest.mark.parametrize("name", RECIPES)
def test_details_of_a_recipe(name: str) -> None:
    recipe = find_recipe(name)
    lines = details(recipe, Cost(1_500_000, 2 * 10**9))
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80
    assert lines[0] == name and recipe.summary in text and "1.5 M" in text and "2 GFLOPs" in text
    if recipe.paper is not None:
        assert published(recipe.paper) in text


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(SynclError, match="no recipe 'petr9'; recipes: detr3d_synthetic"):
        recipes("petr9")


def test_published_training_settings() -> None:
    """The originals' numbers, detector by detector."""
    found = {name: find_recipe(name).training for name in RECIPES}
    stream = found["streampetr_r50_256x704"]
    assert isinstance(stream.strategy, BaselineConfig)
    assert stream.strategy.cost.code_weights == (2, 2, 1, 1, 1, 1, 1, 1)
    assert stream.strategy.loss.code_weights == (2, 2, 1, 1, 1, 1, 1, 1, 1, 1)
    assert stream.steps == 24 * (28130 // 16) and stream.data.batch_size == 2
    assert (stream.optimiser.learning_rate, stream.optimiser.backbone_scale) == (4e-4, 0.25)
    assert stream.unroll.denoising == DenoisingConfig(groups=10, noise_scale=1.0, background_distance=0.75)
    window = found["streampetr_r50_256x704_window"]
    assert (window.data.clip_length, window.unroll.context_frames, window.data.spare_frames) == (8, 6, 1)
    assert window.optimiser.learning_rate == 2e-4
    pairs = found["petrv2_v99_320x800"]
    assert pairs.data.sampling == "pairs" and pairs.data.clip_length == 1
    assert find_recipe("petrv2_v99_320x800").model.input.past == PastImages((3, 26), 14, 1.245)
    assert find_recipe("pf-track_petrv2_v99_320x800").model.input.past is not None
    assert isinstance(pairs.strategy, BaselineConfig) and set(pairs.strategy.loss.code_weights) == {1.0}
    augmentation = found["detr3d_r101_900x1600"].data.augmentation
    assert augmentation is not None and augmentation.photometric and augmentation.resize_range == (1, 1)
    for name, training in found.items():
        if "synthetic" in name or training.data.augmentation is None:
            continue
        augmentation = training.data.augmentation
        turned = name.startswith(("petr_", "petrv2_", "streampetr_")) and "q500" not in name
        assert augmentation.rotation_rad == (0.3925 if turned else 0.0)
        assert augmentation.scale_range == ((0.95, 1.05) if turned else (1.0, 1.0))
        assert augmentation.each_frame == name.startswith("streampetr_")
        assert training.optimiser.decay_all and training.optimiser.clip_norm == 35


def test_published_results_leave_out_what_is_not_reported() -> None:
    assert published(PaperResult("X", amota=1.5, map=2.0)) == "X: AMOTA 1.5, mAP 2.0"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["streampetr_r50_256x704", "petr_v99_320x800"])
def test_a_full_size_forward_pass(name: str) -> None:
    recipe = find_recipe(name)
    tracker = recipe.model.build().eval()
    with torch.no_grad():
        objects, _ = tracker.step(
            make_frame(cameras=6, size=recipe.model.input.image_size), tracker.initial_state()
        )
    assert objects.boxes.shape == (1, 300, 9)
    assert bool(torch.isfinite(objects.boxes).all()) and bool(torch.isfinite(objects.scores).all())


@pytest.mark.parametrize("name", ["mutr3d_streampetr_v99_320x800", "pf-track_petr_synthetic"])
def test_another_strategy_keeps_the_recipes_costs_and_losses(name):
    plain = find_recipe(name)
    other = resolve_recipe(name, "syncl", False, ())
    assert isinstance(other.training.strategy, SynclConfig)
    assert other == replace(
        find_recipe(f"{name}_syncl"), name=other.name, summary=other.summary, paper=other.paper
    )
    back = resolve_recipe(f"{name}_syncl", "baseline", False, ())
    assert back.training == plain.training
