"""Training that is stopped, killed or given other options: what was done is kept, nothing else is claimed."""

import multiprocessing
import shutil
import signal
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from grids import thinned
from rig import TINY_RUN
from syncl.checkpoints.model_file import read_model_file
from syncl.errors import SynclError
from syncl.interrupts import Interrupted
from syncl.runs.train import run_folder as folders
from syncl.runs.train.run import train_recipe
from syncl.training.journal import Journal
from syncl.training.resuming import checkpoint_folders

STEPS = 4


def train(world: Path, output: Path, *changes: str, **options):
    settings = (
        *TINY_RUN,
        f"training.steps={STEPS}",
        "training.log_every=1",
        "training.checkpoint_every=2",
        "training.optimiser.warmup_steps=0",
        *changes,
    )
    return train_recipe("detr3d_synthetic", data=world, output=output, changes=settings, **options)


@pytest.fixture(scope="module")
def whole(small_world, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(small_world, run)
    return run


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def stop_at(monkeypatch, step: int) -> None:
    """A signal comes while this step is computed."""
    advance = Journal.advance

    def asked(self: Journal, at: int) -> None:
        if at == step:
            signal.raise_signal(signal.SIGINT)
        advance(self, at)

    monkeypatch.setattr(Journal, "advance", asked)


def logged(run: Path, group: str = "train") -> list[int]:
    lines = map(orjson.loads, (run / "log.jsonl").read_bytes().splitlines())
    return [line["step"] for line in lines if line["group"] == group]


def test_a_stopped_run_keeps_its_last_step_and_goes_on_to_the_same_bits(
    small_world, whole, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    others = set(multiprocessing.active_children())
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Interrupted, match=r"run: stopped by Ctrl-C after step 3 of 4, .*--resume"):
            train(small_world, run, "training.data.workers=1")
    assert set(multiprocessing.active_children()) <= others, "whoever read its data ends with it"
    assert checkpoint_folders(run)[-1].name == "step_00000003"
    assert not (run / "model.safetensors").exists()
    # What may change does; a kill left half a line of a step that did not last, and what it was writing.
    with (run / "log.jsonl").open("ab") as log:
        log.write(b'{"step":4,"group":"train","total":1}\n{"step":4,"gro')
    left = [
        run / "checkpoints" / ".step_00000004.partial",
        run / ".validation-x",
        run / ".checkpoints.partial",
    ]
    for folder in left:
        folder.mkdir()
    summary = train(small_world, run, "training.log_every=2", resume=True)
    assert summary.step == STEPS and not any(folder.exists() for folder in left)
    straight, resumed = (load_file(folder / "model.safetensors") for folder in (whole, run))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert logged(run) == [1, 2, 3, 4]
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/total")] == [1, 2, 3, 4]
    notes = orjson.loads(read_model_file(run / "model.safetensors")[1]["notes"])
    assert notes["threads"] == str(torch.get_num_threads())


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        (["training.seed=5"], {}, "training.seed was 0, is 5"),
        (["training.steps=6"], {}, "training.steps was 4, is 6"),
        (["training.data.scenes=1"], {}, "data.scenes was 2, is 1"),
        ([], {"split": "mini_val"}, "data.sha256 was"),
        ([], {"init": "model.safetensors"}, r"--init \(its SHA-256\) was 'from scratch', is"),
        (["training.precision=bf16"], {}, "precision was 'auto', is 'bf16'"),
    ],
)
def test_a_run_does_not_go_on_as_another(small_world, copied, changes, options, said):
    options = {name: copied / value if name == "init" else value for name, value in options.items()}
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(
        SynclError, match=f"cannot go on as another run: .*{said}.*What may change: --threads"
    ):
        train(small_world, copied, *changes, resume=True, **options)
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


FILES = ("state/run.safetensors", "model.safetensors", "progress.json", "state/process_0.safetensors")


@pytest.mark.parametrize(("name", "damage"), thinned(FILES, ["a bit", "truncated", "missing"]))
def test_a_bad_part_of_a_checkpoint_is_named_and_the_one_before_offered(small_world, copied, name, damage):
    before, latest = checkpoint_folders(copied)
    path = latest / name
    content = bytearray(path.read_bytes())
    content[-10] ^= 255
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content if damage == "a bit" else content[:-10])
    said = rf"{path}.*; move {latest} away to go on from {before.name}, which is whole"
    with pytest.raises(SynclError, match=said):
        train(small_world, copied, resume=True)
    shutil.rmtree(before)
    with pytest.raises(SynclError, match=rf"{path}.*no whole one is before it: start anew"):
        train(small_world, copied, resume=True)


def test_starting_anew_never_leaves_an_old_model_beside_a_new_recipe(small_world, copied, monkeypatch):
    """Killed before each single thing that it does to the folder."""
    (copied / "metrics.json").write_text("{}")
    old = (copied / "recipe.json").read_bytes()
    states = []

    def look(path: Path) -> None:
        recipe = copied / "recipe.json"
        left = [
            name for name in ("model.safetensors", "metrics.json", "checkpoints") if (copied / name).exists()
        ]
        states.append((recipe.exists() and recipe.read_bytes() == old, left))

    for action in ("unlink", "rename", "replace"):
        true = getattr(Path, action)

        def seen(self: Path, *arguments, true=true, **options):
            look(self)
            return true(self, *arguments, **options)

        monkeypatch.setattr(Path, action, seen)
    from syncl.recipes import find_recipe

    folders.start_anew(copied, find_recipe("petr_synthetic"))
    look(copied)
    assert states[0] == (True, ["model.safetensors", "metrics.json", "checkpoints"])
    assert states[-1] == (False, [])
    assert all(is_old or not left for is_old, left in states), states


def test_a_start_that_fails_leaves_the_earlier_run_as_it_was(small_world, copied):
    with pytest.raises(SynclError, match="init"):
        train(small_world, copied, overwrite=True, init=copied / "missing.safetensors")
    (copied / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(SynclError, match=r"broken\.safetensors"):
        train(small_world, copied, overwrite=True, init=copied / "broken.safetensors")
    assert (copied / "model.safetensors").exists() and len(checkpoint_folders(copied)) == 2


def test_a_validation_that_was_broken_off_comes_first_when_the_run_goes_on(
    small_world, whole, tmp_path, monkeypatch
):
    from syncl.runs.train import validation

    asked, score = [], validation.track_to_file

    def track(*arguments, **options):
        asked.append(1)
        if len(asked) == 1:
            signal.raise_signal(signal.SIGTERM)
        return score(*arguments, **options)

    monkeypatch.setattr(validation, "track_to_file", track)
    every, run = "training.validate_every=2", tmp_path / "run"
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 2 of 4"):
        train(small_world, run, every)
    assert logged(run, "validation") == []
    train(small_world, run, every, resume=True)
    assert logged(run, "validation") == [2, 4] and not list(run.glob(".*"))
    straight, resumed = (load_file(folder / "model.safetensors") for folder in (whole, run))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
