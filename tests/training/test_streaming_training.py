"""Streaming, windows and pairs: what is remembered from step to step, and going on to the last bit."""

import dataclasses
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.multiprocessing import start_processes
from torch.optim.lr_scheduler import LambdaLR

from rig import TINY_RUN
from syncl.data.loading import collate_clips
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.stream_clips import StreamDataset
from syncl.errors import SynclError
from syncl.recipes import resolve_recipe
from syncl.recipes.synthetic import small_petrv2, small_streampetr
from syncl.runs.train.clips import training_clips
from syncl.runs.train.run import train_recipe
from syncl.structures import Annotations, Predictions
from syncl.trackers import SingleFrameConfig
from syncl.training import losses as losses_module
from syncl.training.assignment import Assignment
from syncl.training.config import OptimiserConfig
from syncl.training.losses import LossConfig, set_losses
from syncl.training.optimiser import build_optimiser
from syncl.training.resuming import RunState, resume_checkpoint, save_checkpoint
from syncl.training.strategies import BaselineConfig
from syncl.training.streaming import CarriedState, StreamTraining
from syncl.training.unroll import ClipTraining, UnrollConfig

TINY = (
    *TINY_RUN,
    "training.log_every=1",
    "training.optimiser.warmup_steps=0",
)


def run(world: Path, output: Path, recipe: str, steps: int, *changes: str, **options):
    every = f"training.checkpoint_every={max(steps // 2, 1)}"
    changes = (*TINY, f"training.steps={steps}", every, *changes)
    return train_recipe(recipe, data=world, output=output, changes=changes, **options)


@pytest.fixture(scope="module")
def straight(small_world, tmp_path_factory) -> Callable[[str], Path]:
    """By recipe, a run of four steps that nothing stopped; to be read only."""

    @cache
    def of(recipe: str) -> Path:
        folder = tmp_path_factory.mktemp("straight") / recipe
        run(small_world, folder, recipe, 4)
        return folder

    return of


def stopped_half_way(straight: Path, output: Path) -> None:
    """A copy of a run as if it had been killed right after the checkpoint in the middle."""
    shutil.copytree(straight, output)
    shutil.rmtree(output / "checkpoints" / "step_00000004")
    (output / "model.safetensors").unlink()


TRACKS_LAST = (
    "training.data.sampling=streams",
    "training.data.clip_length=2",
    "training.data.augmentation=null",
    "model.tracker.noise.carry_score=0.0",
)


@pytest.mark.parametrize(
    "recipe", ["streampetr_synthetic", pytest.param("petrv2_synthetic", marks=pytest.mark.slow)]
)
def test_resuming_equals_running_through_to_the_last_bit(small_world, straight, tmp_path, recipe):
    assert gone_on(small_world, straight(recipe), tmp_path / "stopped", recipe)


def test_a_run_that_forgot_its_streams_would_show(small_world, straight, tmp_path, monkeypatch):
    monkeypatch.setattr(CarriedState, "put_together", lambda self, *saved: None)
    recipe = "streampetr_synthetic"
    assert not gone_on(small_world, straight(recipe), tmp_path / "stopped", recipe)


def gone_on(world: Path, straight: Path, output: Path, recipe: str) -> bool:
    """Whether a run that was stopped and goes on ends with the weights of the one that was not."""
    stopped_half_way(straight, output)
    run(world, output, recipe, 4, resume=True)
    expected, found = (load_file(folder / "model.safetensors") for folder in (straight, output))
    return all(torch.equal(expected[name], found[name]) for name in expected)


def test_windows_train(small_world, tmp_path):
    window = (
        "training.data.sampling=windows",
        "training.data.clip_length=4",
        "training.unroll.context_frames=2",
    )
    result = run(
        small_world, tmp_path / "run", "streampetr_synthetic", 1, *window, "training.data.batch_size=1"
    )
    assert result.losses["total"] > 0 and "noised_class" in result.losses


def test_a_world_that_changes_from_step_to_step_is_refused(small_world, tmp_path):
    with pytest.raises(SynclError, match="each_frame"):
        run(small_world, tmp_path / "run", "mutr3d_detr3d_synthetic", 1, "training.data.sampling=streams")


def test_context_is_refused_where_states_last(small_world, tmp_path):
    with pytest.raises(SynclError, match="context_frames=1: must be 0 with sampling 'streams'"):
        run(small_world, tmp_path / "run", "streampetr_synthetic", 1, "training.unroll.context_frames=1")


def test_a_frame_with_the_pose_of_the_next_has_its_world(small_world):
    plain = (*TINY, "training.data.augmentation.mirror_probability=0")
    ahead, each = "training.unroll.poses_ahead=true", "training.data.augmentation.each_frame=true"
    index = open_nuscenes(small_world, "v1.0-mini")

    def open_clips(*changes: str) -> None:
        recipe = resolve_recipe("ada-track_detr3d_synthetic", None, False, (*plain, *changes))
        training_clips(index, index.scene_names, recipe)

    open_clips(ahead)
    open_clips(each)
    with pytest.raises(SynclError, match=r"must be false with training\.unroll\.poses_ahead"):
        open_clips(ahead, each)


# What is carried


def stream_clips(world: Path, numbers: list[list[int]]):
    recipe = resolve_recipe("streampetr_synthetic", None, False, (*TINY, "training.data.augmentation=null"))
    index = open_nuscenes(world, "v1.0-mini")
    scenes = index.split_scenes("mini_train")
    dataset = training_clips(index, scenes, recipe)
    assert isinstance(dataset, StreamDataset)
    return [collate_clips([dataset[0, number] for number in row]) for row in numbers]


def module_of(detector=small_streampetr) -> StreamTraining:
    torch.manual_seed(0)
    tracker = SingleFrameConfig().build(detector().build())
    strategy = BaselineConfig().build(tracker.detector.dim)
    return StreamTraining(ClipTraining(tracker, strategy, UnrollConfig())).eval()


def test_memory_is_carried_without_gradient_and_ends_with_the_part(small_world):
    # Scenes of five frames, parts of three and two: slot 0 stays in its part, slot 1 goes on with another.
    first, second = stream_clips(small_world, [[0, 2], [1, 5]])
    module = module_of()
    start = module.clips.tracker.initial_state(2)
    losses, state = module(first, start)
    assert losses["total"].requires_grad and not state.detector_memory.embeddings.requires_grad
    (own,) = state.detector_memory.timestamps_s[0, :1].tolist()
    assert own == first.frames[0].timestamp_s[0]

    with torch.no_grad():
        _, carried = module(second, state)
        _, fresh = module(second, start)
    memory, anew = carried.detector_memory, fresh.detector_memory
    assert not torch.allclose(memory.embeddings[0], anew.embeddings[0]), "slot 0 remembers its first frame"
    torch.testing.assert_close(memory.embeddings[1], anew.embeddings[1], rtol=0, atol=1e-5)
    assert state.detector_memory.timestamps_s[0, 0] == first.frames[0].timestamp_s[0], "a state is a value"


def test_tracks_last_from_step_to_step_and_learn_within_one(small_world):
    changes = (*TINY, *TRACKS_LAST, "training.data.scene_parts=1")
    recipe = resolve_recipe("mutr3d_detr3d_synthetic", None, False, changes)
    index = open_nuscenes(small_world, "v1.0-mini")
    dataset = training_clips(index, index.split_scenes("mini_train"), recipe)
    torch.manual_seed(0)
    tracker = recipe.model.build()
    module = StreamTraining(
        ClipTraining(tracker, BaselineConfig().build(tracker.detector.dim), UnrollConfig())
    )
    state = tracker.initial_state(1)
    losses, state = module(dataset[0, 0], state)
    losses["total"].backward()
    assert tracker.query_interaction.content_update[0].weight.grad.abs().sum() > 0, "across the two frames"
    held = set(state.identities[state.alive].tolist()) - {-1}
    with torch.no_grad():
        decoded = tracker.look(dataset[0, 2].frames[0], state)
    assert held and held <= set(decoded.track_identities[0].tolist())
    assert not state.queries.embeddings.requires_grad


def test_streaming_equals_unrolling_the_scene_frame_by_frame(small_world):
    module = module_of()
    tracker = module.clips.tracker
    state = tracker.initial_state(1)
    expected = tracker.initial_state(1)
    for clip in stream_clips(small_world, [[0], [1], [2]]):
        with torch.no_grad():
            _, state = module(clip, state)
        _, expected = tracker.step(clip.frames[0], expected)
    torch.testing.assert_close(
        state.detector_memory.embeddings, expected.detector_memory.embeddings, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("detector", [small_streampetr, small_petrv2])
def test_states_survive_a_checkpoint_file(small_world, tmp_path, detector):
    module = module_of(detector)
    carried = CarriedState(module.clips.tracker, 2)
    with torch.no_grad():
        _, carried.state = module(stream_clips(small_world, [[0, 5]])[0], carried.state)
    one = run_state(module, carried)
    save_checkpoint(process(), one, tmp_path, 3, 2, Path.touch)
    other = CarriedState(module.clips.tracker, 2)
    assert resume_checkpoint(process(), run_state(module, other), tmp_path) == 3
    assert other.state.scenes == carried.state.scenes
    tensors, others = [], []
    carried.state.map(lambda tensor: tensors.append(tensor) or tensor)
    other.state.map(lambda tensor: others.append(tensor) or tensor)
    assert len(tensors) == len(others) > 14
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors, others, strict=True))
    three = run_state(module, CarriedState(module.clips.tracker, 3))
    with pytest.raises(SynclError, match=r"step_00000003: does not fit .*not of 3 streams"):
        resume_checkpoint(process(), three, tmp_path)
    with pytest.raises(SynclError, match="a run of 1 processes cannot go on in 2"):
        resume_checkpoint(process(count=2), one, tmp_path)


def process(rank: int = 0, count: int = 1) -> Accelerator:
    """What saving and resuming ask of an accelerator, in a process of a test."""
    wait = torch.distributed.barrier if count > 1 else lambda: None
    return cast(
        Accelerator,
        SimpleNamespace(
            process_index=rank, num_processes=count, is_main_process=rank == 0, wait_for_everyone=wait,
            scaler=None,
        ),
    )  # fmt: skip


def run_state(module: torch.nn.Module, carried: CarriedState) -> RunState:
    optimiser = build_optimiser(module, OptimiserConfig())
    return RunState(module, optimiser, LambdaLR(optimiser, lambda step: 1.0), None, carried)


def _save_and_load(rank: int, folder: Path) -> None:
    """One of two processes: checks that it gets its own streams and random state back."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(rank)
    carried = CarriedState(SingleFrameConfig().build(small_streampetr().build()), 1)
    own = dataclasses.replace(
        carried.state, timestamp_s=torch.tensor([10.0 + rank]), scenes=(f"part {rank}",)
    )
    carried.state = own
    state = run_state(torch.nn.Linear(2, 2), carried)
    save_checkpoint(process(rank, 2), state, folder, 1, 1, Path.touch)
    drawn = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    carried.state = dataclasses.replace(own, timestamp_s=torch.zeros(1), scenes=("",))
    resume_checkpoint(process(rank, 2), state, folder)
    assert carried.state.scenes == own.scenes and torch.equal(carried.state.timestamp_s, own.timestamp_s)
    again = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(drawn[0], again[0]) and drawn[1:] == again[1:]
    torch.distributed.destroy_process_group()


def test_every_process_has_its_own_streams_and_random_state_again(tmp_path):
    # Forked, since a new interpreter would not find this module by its name.
    start_processes(_save_and_load, (tmp_path,), nprocs=2, start_method="fork")
    states = sorted(path.name for path in (tmp_path / "checkpoints/step_00000001/state").iterdir())
    assert states == ["process_0.safetensors", "process_1.safetensors", "run.safetensors"]


# Normalisation and decay, as published


def test_class_losses_may_count_their_own_process_only(monkeypatch):
    monkeypatch.setattr(losses_module, "mean_over_processes", lambda value: 4 * value)
    predictions = Predictions(
        torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 10), torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 3),
        torch.ones(1, 3, dtype=torch.bool), 3,
    )  # fmt: skip
    truth = Annotations(
        torch.ones(1, 1, 9), torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), torch.ones(1, 1) > 0
    )
    assignment = Assignment(torch.tensor([[[0, -1, -1]]]), torch.ones(1, 1, 3, dtype=torch.bool))
    shared = set_losses(predictions, assignment, truth, LossConfig())
    own = set_losses(predictions, assignment, truth, LossConfig(own_class_count=True))
    assert own["class"] == pytest.approx(4 * shared["class"]) and own["box"] == shared["box"]


def test_weight_decay_of_norms_and_biases_is_a_choice():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))

    def decayed(config: OptimiserConfig) -> int:
        groups = build_optimiser(module, config).param_groups
        return sum(len(group["params"]) for group in groups if group["weight_decay"] > 0)

    assert decayed(OptimiserConfig()) == 1 and decayed(OptimiserConfig(decay_all=True)) == 4
