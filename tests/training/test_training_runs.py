"""Whole training runs on a tiny synthetic world: resuming, processes, failures, learning."""

import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import distributed_c10d as c10d

from rig import TINY_RUN as SMALL
from syncl.checkpoints.model_file import load_model
from syncl.errors import SynclError
from syncl.runs.train import feature_cache
from syncl.runs.train.run import train_recipe
from syncl.runs.train.validation import Validation
from syncl.training import loop, losses
from syncl.training.config import TrainingConfig
from syncl.training.loop import make_accelerator
from syncl.training.losses import box_loss
from syncl.training.waiting import wait_for_main
from two import in_two

TINY = (
    "model.input.image_size=[64,96]",
    "training.log_every=1",
    "training.data.batch_size=1",
    "training.data.clip_length=2",
    "training.optimiser.warmup_steps=0",
)


def run(
    world: Path, output: Path, steps: int, *changes: str, recipe="mutr3d_detr3d_synthetic_syncl", **options
):
    every = f"training.checkpoint_every={max(steps // 2, 1)}"
    changes = (*TINY, f"training.steps={steps}", every, *changes)
    return train_recipe(recipe, data=world, output=output, changes=changes, **options)


def log(output: Path) -> list[dict]:
    return [orjson.loads(line) for line in (output / "log.jsonl").read_bytes().splitlines()]


def test_resuming_equals_running_through_to_the_last_bit(small_world, tmp_path):
    run(small_world, tmp_path / "straight", 4, *SMALL)
    shutil.copytree(tmp_path / "straight", tmp_path / "stopped")
    # As if killed right after the checkpoint of step 2.
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "step_00000004")
    (tmp_path / "stopped" / "model.safetensors").unlink()
    run(small_world, tmp_path / "stopped", 4, *SMALL, resume=True)
    straight = load_file(tmp_path / "straight" / "model.safetensors")
    resumed = load_file(tmp_path / "stopped" / "model.safetensors")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_frozen_parts_that_start_from_nothing_are_warned_of(small_world, tmp_path, capsys):
    frozen = 'training.unroll.frozen=["detector.image_encoder","detector.output_norm"]'
    name = "mutr3d_petr_synthetic"
    run(small_world, tmp_path / "first", 1, *SMALL, frozen, recipe=name)
    told = capsys.readouterr().err
    assert "warning: detector.image_encoder, detector.output_norm: frozen" in told
    assert "give --init FILE; this recipe starts from petr_synthetic" in told
    run(
        small_world,
        tmp_path / "all",
        1,
        *SMALL,
        frozen,
        recipe=name,
        init=tmp_path / "first/model.safetensors",
    )
    assert "warning" not in capsys.readouterr().err
    parts = {"init": tmp_path / "first/model.safetensors", "init_parts": ("detector.image_encoder",)}
    run(small_world, tmp_path / "part", 1, *SMALL, frozen, recipe=name, **parts)
    assert "warning: detector.output_norm: frozen" in capsys.readouterr().err


def test_exported_model_has_no_training_only_parts(small_world, tmp_path):
    run(small_world, tmp_path / "syncl", 1, *SMALL)
    run(small_world, tmp_path / "baseline", 1, *SMALL, strategy="baseline")
    trained = load_file(tmp_path / "syncl" / "model.safetensors")
    assert trained.keys() == load_file(tmp_path / "baseline" / "model.safetensors").keys()
    assert not any("contrast" in name for name in trained)
    model = load_model(tmp_path / "syncl" / "model.safetensors")
    assert model.config.input.image_size == (64, 96)
    assert isinstance(model.recipe, dict) and model.recipe["name"] == "mutr3d_detr3d_synthetic_syncl"


def by_torchrun(world: Path, output: Path, changes: tuple[str, ...], recipe: str) -> None:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29518", "-m", "syncl"]
    command = [sys.executable, *launch, "train", recipe, "--data", world, "--output", output]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [*command, "--set", *changes], env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-2000:]


def forked(world: Path, output: Path, changes: tuple[str, ...], recipe: str) -> None:
    in_two(partial(train_recipe, recipe, data=world, output=output, changes=changes))


@pytest.mark.parametrize("launch", [forked, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_give_the_losses_of_one_with_twice_the_batch(small_world, tmp_path, launch):
    changes = (
        *TINY,
        "training.steps=2",
        # Where the CPU has bfloat16, its rounding would be all there is to see.
        "training.precision=fp32",
        "training.data.augmentation=null",
        "model.tracker.noise.drop_probability=0",
        "model.tracker.noise.carry_score=0",
        "model.tracker.noise.false_positive_ratio=0",
        "model.detector.image.backbone.norm=fixed",
        "model.detector.layers=2",
    )
    recipe = "mutr3d_detr3d_synthetic_syncl"
    launch(small_world, tmp_path / "two", changes, recipe)
    changes = (*changes, "training.data.batch_size=2")
    train_recipe(recipe, data=small_world, output=tmp_path / "one", changes=changes)
    for expected, found in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for name in ("class", "box", "heat", "cross_class", "cross_box", "contrast", "total"):
            assert found[name] == pytest.approx(expected[name], rel=5e-4, abs=1e-6), (found["step"], name)


def loses_the_second(world: Path, output: Path) -> None:
    """One of two processes; the second fails in its first step. What each raises goes to a file."""
    rank = int(os.environ["RANK"])
    if rank == 1:
        losses.box_loss = lambda *given: box_loss(*given) / 0
    with pytest.raises(SynclError) as raised:
        run(world, output, 2, *SMALL)
    output.with_name(f"said_by_{rank}").write_text(str(raised.value))


def test_a_process_that_loses_another_says_so(small_world, tmp_path):
    in_two(loses_the_second, small_world, tmp_path / "run")
    assert "the loss is not finite" in (tmp_path / "said_by_1").read_text()
    assert "another of the 2 processes has stopped" in (tmp_path / "said_by_0").read_text()


def meets_late() -> None:
    """One of two processes that give up on one another after two seconds; the main one comes after four."""
    c10d.default_pg_timeout = timedelta(seconds=2)
    accelerator = make_accelerator(TrainingConfig(steps=1, precision="fp32"))
    time.sleep(4 if accelerator.is_main_process else 0)
    wait_for_main(accelerator)
    accelerator.wait_for_everyone()


def test_processes_wait_for_the_main_one_longer_than_for_one_another():
    in_two(meets_late)


def notes_its_waiting(world: Path, output: Path, resume: bool) -> None:
    """One of two processes; the second writes down where it waits for the main one."""
    waited = []
    for place in (loop, feature_cache):
        name = place.__name__.rpartition(".")[2]
        place.wait_for_main = lambda accelerator, name=name: (waited.append(name), wait_for_main(accelerator))
    Validation.__call__ = lambda *_: {"amota": 0.5}
    changes = (*SMALL, "training.data.augmentation=null", "training.validate_every=1")
    run(world, output, 1, *changes, freeze_encoder=True, cache_features=output / "features", resume=resume)
    if os.environ["RANK"] == "1":
        output.with_name(f"waited_{resume}").write_text(" ".join(waited))


def test_validation_and_stored_features_are_waited_for(small_world, tmp_path):
    for resume in (False, True):
        in_two(notes_its_waiting, small_world, tmp_path / "run", resume)
        # The second time all of it is there: nobody may be left waiting for it.
        assert (tmp_path / f"waited_{resume}").read_text() == "feature_cache loop"
    assert [entry["group"] for entry in log(tmp_path / "run")] == ["train", "validation"]


def test_a_loss_that_is_not_finite_stops_with_a_report(small_world, tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "box_loss", lambda *given: box_loss(*given) / 0)
    with pytest.raises(SynclError, match=r"step \d+: the loss is not finite \(.*box.*nonfinite_step"):
        run(small_world, tmp_path / "run", 2, *SMALL)
    (report,) = (tmp_path / "run").glob("nonfinite_step_*.json")
    content = orjson.loads(report.read_bytes())
    assert content["samples"] and "total" in content["losses"]


def test_a_run_is_not_overwritten_unasked(small_world, tmp_path):
    run(small_world, tmp_path / "run", 1, *SMALL)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(SynclError, match="already exists"):
        run(small_world, tmp_path / "run", 1, *SMALL, "training.seed=5")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    run(small_world, tmp_path / "run", 1, *SMALL, "training.seed=5", overwrite=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "nonsense"}, "there is no recipe 'nonsense'"),
        ({"resume": True}, "no checkpoint to resume from"),
        ({"split": "val"}, "val"),
        ({"init": Path("missing.safetensors")}, "missing.safetensors"),
    ],
)
def test_bad_input_is_named(small_world, tmp_path, options, message):
    with pytest.raises(SynclError, match=message):
        run(small_world, tmp_path / "run", 1, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.stepz=1", r"no setting 'stepz'.*steps.*did you mean 'training\.steps'"),
        ("learning_rate=1", "did you mean 'training.optimiser.learning_rate'"),
        ("training.steps=many", "'many' is not a whole number"),
        ("training.data.sampling=stream", "'stream' is not one of clips, .*; did you mean 'streams'"),
        ("model.detector.classes=[car]", r"is not a list of texts, such as \["),
        ("training.data=5", "is not a group of settings; change a setting inside it"),
        ("training.strategy.loss.code_weights=[1,2]", "loss.code_weights: has 2 numbers, expected 10"),
        ("model.tracker.birth_score=30", r"birth_score: is 30\.0, expected 0 to 1"),
        ("steps", "write NAME=VALUE"),
        ("training.steps.more=1", "inside a plain value"),
        ("training.steps=-5", r"training\.steps: is -5, expected 1 to"),
        ("training.steps=0", r"training\.steps: is 0, expected 1 to"),
        ("training.data.batch_size=0", r"training\.data\.batch_size: is 0, expected 1 to 4,096"),
        ("training.data.depth_stride=-8", r"training\.data\.depth_stride: is -8, expected 0 to"),
        ("training.data.workers=-1", r"training\.data\.workers: is -1"),
        ("training.data.clip_length=0", r"training\.data\.clip_length: is 0"),
        ("training.optimiser.learning_rate=-1", r"learning_rate: is -1"),
        ("training.ema=1.5", r"training\.ema: is 1\.5, expected 0 to 1"),
        ("training.log_every=0", r"training\.log_every: is 0"),
        ("training.seed=-1", r"training\.seed: is -1"),
        ("training.seed=4294967296", r"training\.seed: is 4294967296, expected 0 to 4,294,967,295"),
        ("training.strategy.contrastive.temperature=0", r"temperature: is 0"),
    ],
)
def test_bad_settings_are_named(small_world, tmp_path, change, message):
    with pytest.raises(SynclError, match=message):
        run(small_world, tmp_path / "run", 1, change)
    assert not (tmp_path / "run").exists()


def test_a_detector_overfits_one_clip(small_world, tmp_path):
    changes = (
        "training.data.clip_length=1",
        "training.data.augmentation=null",
        "training.data.scenes=1",
        "training.optimiser.learning_rate=2e-3",
        "training.ema=0",
    )
    run(small_world, tmp_path / "run", 24, *SMALL, *changes, recipe="detr3d_synthetic")
    totals = [entry["total"] for entry in log(tmp_path / "run")]
    assert sum(totals[-5:]) / 5 < 0.6 * sum(totals[:3]) / 3


def test_a_checkpoint_folder_appears_whole_or_not_at_all(small_world, tmp_path, monkeypatch):
    from syncl.training import resuming

    def fail(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resuming, "atomic_write", fail)
    with pytest.raises(SynclError, match=r"step_00000001: no space left on device; make room"):
        run(small_world, tmp_path / "run", 2, *SMALL)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("kind", ["detr3d", pytest.param("petr", marks=pytest.mark.slow)])
def test_bfloat16_follows_float32_and_keeps_boxes_in_full_precision(small_world, tmp_path, kind):
    """Half precision is for the layers: centres in metres and losses must not be rounded to eight bits."""
    for precision in ("fp32", "bf16"):
        run(
            small_world,
            tmp_path / precision,
            2,
            *SMALL,
            f"training.precision={precision}",
            "training.optimiser.learning_rate=1e-5",
            recipe=f"{kind}_synthetic",
        )
    full, half = (log(tmp_path / precision) for precision in ("fp32", "bf16"))
    assert any(a["total"] != b["total"] for a, b in zip(full, half))
    for a, b in zip(full, half, strict=True):
        assert b["total"] == pytest.approx(a["total"], rel=0.03)
        # A rounded loss would be a number of eight bits.
        assert b["box"] != float(torch.tensor(b["box"]).bfloat16())
