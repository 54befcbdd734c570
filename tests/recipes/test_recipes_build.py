"""Every recipe: builds, survives its JSON form, keeps its promises; cost and listing."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recipe_costs import model_cost
from rig import make_frame
from syncl.commands.recipes import recipes
from syncl.data.argoverse2.argoverse2_classes import ARGOVERSE2, RANGE_M
from syncl.data.argoverse2.log_folders import RING_CAMERAS
from syncl.data.past_images import PastImages
from syncl.detectors import DetectorConfig, DortConfig, DortDetr3dConfig, StreamPetrConfig
from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.recipes import RECIPES, find_recipe, recipe_names, resolve_recipe
from syncl.recipes.cost import Cost, recipe_cost
from syncl.recipes.listing import entries_of, recipe_entries
from syncl.recipes.recipe import PaperResult, recipe_from_json, recipe_to_json
from syncl.runs.recipes import details, list_recipes, listing, published
from syncl.trackers import Mutr3dConfig, PfTrackConfig, SingleFrameConfig, Tracker
from syncl.trackers.model import ModelConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

NAMES = recipe_names()


@cache
def detector_of(config: DetectorConfig) -> Detector:
    """Without weights; many recipes share it."""
    with torch.device("meta"):
        return config.build()


@cache
def built(model: ModelConfig) -> Tracker:
    with torch.device("meta"):
        return model.tracker.build(detector_of(model.detector))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_builds_and_survives_json(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe_from_json(recipe_to_json(recipe), name) == recipe
    tracker = built(recipe.model)
    assert isinstance(tracker.detector, Detector)
    assert len(set(tracker.detector.classes)) == len(recipe.model.detector.classes)
    single = isinstance(recipe.model.tracker, SingleFrameConfig)
    assert single == name.startswith(("detr3d", "petr", "streampetr", "bev"))
    assert isinstance(recipe.training.strategy, SynclConfig) == name.endswith("_syncl")
    for part in recipe.training.unroll.frozen:
        tracker.get_submodule(part)


def test_freezing_the_encoder_keeps_frozen_what_a_recipe_has_frozen() -> None:
    own = find_recipe("petr_synthetic_plain").training.unroll.frozen
    assert {"detector.image_encoder", "detector.proposal_head.heat"} < set(own)
    frozen = resolve_recipe("petr_synthetic_plain", freeze_encoder=True)
    assert frozen.training.unroll.frozen == own
    trained = resolve_recipe("petr_synthetic", freeze_encoder=True)
    assert trained.training.unroll.frozen == ("detector.image_encoder",)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_that_start_from_a_recipe_share_its_detector(name: str) -> None:
    recipe = find_recipe(name)
    if recipe.starts_from in NAMES:
        start = find_recipe(recipe.starts_from)
        detector = start.model.detector
        if isinstance(detector, StreamPetrConfig):
            # The auxiliary image head of the detector's own training stays behind.
            detector = replace(detector, focal_head=None)
        refining = recipe.model.detector
        if isinstance(refining, DortDetr3dConfig):
            beside = {
                name: getattr(refining, name) for name in ("recurrence", "frames", "refined", "min_score")
            }
            detector = DortDetr3dConfig(**vars(detector), **beside)
        if isinstance(refining, DortConfig):
            # What looks again at candidates is beside what finds them, and takes fewer.
            head = replace(detector.head, candidates=refining.head.candidates)
            fields = {**vars(detector), "head": head, "recurrence": refining.recurrence}
            detector = DortConfig(**fields)
        assert detector == recipe.model.detector
        assert start.model.input == recipe.model.input


@pytest.mark.parametrize("name", [name for name in NAMES if "argoverse2" in name])
def test_recipes_for_argoverse_2_have_its_classes_cameras_and_range(name: str) -> None:
    model = find_recipe(name).model
    assert model.detector.classes == ARGOVERSE2.classes
    assert model.input.vehicle_frame == "ego"
    if "synthetic" not in name:
        assert model.input.cameras == RING_CAMERAS
        assert isinstance(model.tracker, Mutr3dConfig | SingleFrameConfig)
        assert min(model.detector.point_range[3], model.tracker.output_range_m) > RANGE_M


PUBLISHED_SIZES = [name for name in NAMES if "synthetic" not in name and "argoverse2" not in name]


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_full_size_recipes_see_what_published_weights_saw(name: str) -> None:
    recipe = find_recipe(name)
    height, width = recipe.model.input.image_size
    assert f"_{height}x{width}" in name
    assert recipe.model.input.vehicle_frame == "lidar" and recipe.model.input.exact_resize
    assert recipe.model.input.cameras is not None and recipe.model.input.cameras[0] == "CAM_FRONT"


def millions_of_parameters(name: str) -> float:
    return sum(parameter.numel() for parameter in built(find_recipe(name).model).parameters()) / 1e6


def test_sizes_are_the_papers() -> None:
    # PF-Track's own count: backbone 69.5 M, neck 1.05 M, head 10.9 M.
    assert millions_of_parameters("petr_v99_320x800_q500") == pytest.approx(81.5, abs=0.3)
    # Its tracker in all: 10.0 M of reasoning more.
    assert millions_of_parameters("pf-track_petr_v99_320x800") == pytest.approx(91.8, abs=0.3)
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


@pytest.mark.parametrize("name", ["detr3d_synthetic", "pf-track_streampetr_synthetic", "petr_v99_320x800"])
def test_a_shipped_cost_is_what_is_counted(name: str) -> None:
    """A failure means that recipes or models changed: run tools/recipe_costs.py."""
    assert recipe_cost(name) == model_cost(RECIPES[name]().model)


@pytest.mark.slow
def test_all_shipped_costs_are_what_is_counted() -> None:
    assert {name: recipe_cost(name) for name in RECIPES} == {
        name: model_cost(function().model) for name, function in RECIPES.items()
    }


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name]().strategies])
def test_a_recipe_holds_its_own_strategy_and_syncl(name: str) -> None:
    template = RECIPES[name]()
    assert list(template.strategies) == ["baseline", "syncl"]
    assert template.strategies["baseline"].config == template.training.strategy
    plain, syncl = find_recipe(name), find_recipe(f"{name}_syncl")
    assert not plain.strategies and not syncl.strategies
    assert plain == resolve_recipe(f"{name}_syncl", "baseline") == resolve_recipe(template)
    assert syncl == resolve_recipe(name, "syncl") == resolve_recipe(template, "syncl")
    assert isinstance(syncl.training.strategy, SynclConfig)
    assert isinstance(plain.training.strategy, BaselineConfig)
    assert syncl.training.strategy.loss == plain.training.strategy.loss
    assert (
        replace(syncl, name=name, summary=plain.summary, paper=plain.paper, training=replace(plain.training))
        == plain
    )


def test_the_listing_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(entry.recipe.name for entry in recipes()) == NAMES
    lines = capsys.readouterr().out.splitlines()
    for name in NAMES:
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        recipe = find_recipe(name)
        assert f"from {recipe.starts_from or 'nothing'}: " in line and recipe.summary in line
    assert any(
        "900x1600" in line and " 35.8 " in line and "AMOTA 35.8, AMOTP 1.391" in line for line in lines
    )


def test_the_listing_fits_a_narrow_terminal_without_breaking_words() -> None:
    lines = listing(list_recipes(), wide=False)
    assert max(map(len, lines)) <= 80
    place = next(n for n, line in enumerate(lines) if line.startswith("petr_v99_320x800 "))
    assert lines[place].split() == ["petr_v99_320x800", "320x800", "81.7", "1100", "-", "42.6", "37.8"]
    assert lines[place + 1].strip() == "from FCOS3D's VoVNet-99 (convert --from backbone)"


@pytest.mark.parametrize("name", NAMES)
def test_details_of_a_recipe(name: str) -> None:
    (entry,) = list_recipes(name)
    recipe = entry.recipe
    lines = details(recipe, entry.strategies, Cost(1_500_000, 2 * 10**9), "mine.yaml", ("training.steps=5",))
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80
    assert lines[0] == name and recipe.summary in text and "1.5 M" in text and "2 GFLOPs" in text
    if recipe.paper is not None:
        assert published(recipe.paper) in text
    # The command trains what is shown: from one's own file, with what was changed.
    assert "syncl train mine.yaml --data DIR" in text and text.endswith("--set training.steps=5")


def test_the_shipped_listing_is_what_recipes_say() -> None:
    """A failure means that recipes changed: run tools/recipe_costs.py."""
    made = [entry for name, function in RECIPES.items() for entry in entries_of(name, function())]
    assert list(recipe_entries()) == made


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from syncl.commands.recipes import recipes; recipes(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_an_unknown_recipe_says_who_lists_those_there_are() -> None:
    with pytest.raises(SynclError, match="no recipe 'petr9'; syncl recipes lists all"):
        recipes("petr9")


def test_published_training_settings() -> None:
    """The originals' numbers, detector by detector."""
    found = {name: find_recipe(name).training for name in NAMES}
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
        over_ground = name.startswith(("bevdepth_", "dort_"))
        turned = (
            name.startswith(("petr_", "petrv2_", "streampetr_", "dqtrack_petrv2_")) and "q500" not in name
        )
        turned = turned or over_ground
        assert augmentation.rotation_rad == (0.3925 if turned else 0.0)
        assert augmentation.scale_range == ((0.95, 1.05) if turned else (1.0, 1.0))
        assert augmentation.each_frame == name.startswith("streampetr_")
        assert training.optimiser.decay_all
        assert training.optimiser.clip_norm == (
            5 if over_ground else 105 if name.startswith("dqtrack_") else 35
        )


def box_weights(part: object) -> list[tuple[float, ...]]:
    """The weights of the box code in every loss of a recipe's JSON."""
    if isinstance(part, dict):
        own = [tuple(part["code_weights"])] if part.get("type") in ("LossConfig", "CentreLossConfig") else []
        return own + [weights for value in part.values() for weights in box_weights(value)]
    return [weights for value in part for weights in box_weights(value)] if isinstance(part, list) else []


@pytest.mark.parametrize("name", NAMES)
def test_small_recipes_weigh_the_heading_five_times_and_published_ones_as_published(name: str) -> None:
    recipe = find_recipe(name)
    resolved = recipe_to_json(recipe)
    if not isinstance(recipe.model.tracker, PfTrackConfig):
        # Nobody reasons.
        resolved["training"]["unroll"]["reasoning"] = None
    found = box_weights(resolved)
    if name == "dort_detr3d_synthetic":
        assert not found  # Its detector learns nothing, and turns have weights of their own.
        return
    assert found
    if "synthetic" in name:
        single = name.removesuffix("_plain") in ("detr3d_synthetic", "petr_synthetic")
        assert set(found) == {(2, 2, 1, 1, 1, 1, 5, 5, *((0.2, 0.2) if single else (1, 1)))}
    else:
        all_alike = name.startswith(("petrv2", "bevdepth", "dort"))
        places, velocity = (2, 1) if "streampetr" in name else (1, 1 if all_alike else 0.2)
        assert found[0] == (places, places, 1, 1, 1, 1, 1, 1, velocity, velocity)
        assert all(weights[6:8] == (1, 1) for weights in found)


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


def test_a_recipe_without_a_choice_takes_a_strategy_with_its_own_costs_and_losses() -> None:
    plain = find_recipe("streampetr_r50_256x704")
    other = resolve_recipe(plain.name, "syncl")
    assert isinstance(other.training.strategy, SynclConfig) and isinstance(
        plain.training.strategy, BaselineConfig
    )
    assert other.training.strategy.cost == plain.training.strategy.cost
    assert other.training.strategy.loss == plain.training.strategy.loss
    with pytest.raises(SynclError, match="has no strategy 'syncl'; strategies: none to choose from"):
        plain.trained_with("syncl")
