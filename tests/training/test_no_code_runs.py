"""No file of a run is ever unpickled: a payload in each of them is refused and does not run."""

import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from rig import TINY_RUN
from syncl.checkpoints.model_file import initialise_from, load_model
from syncl.checkpoints.published import read_published
from syncl.checkpoints.state_file import load_state
from syncl.errors import SynclError
from syncl.rendering.report.run_files import read_runs
from syncl.runs.train.run import train_recipe

# What accelerate would have written, and would read.
_PICKLED = (
    "optimizer",
    "scheduler",
    "random_states_0",
    "custom_checkpoint_0",
    "custom_checkpoint_1",
    "scaler",
)


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def plant(path: Path, marker: Path, zipped: bool) -> None:
    if zipped:
        torch.save(Payload(marker), path)
    else:
        path.write_bytes(pickle.dumps(Payload(marker)))


def resume(world: Path, run: Path):
    changes = (
        *TINY_RUN,
        "training.data.batch_size=1",
        "training.steps=2",
        "training.checkpoint_every=1",
        "training.optimiser.warmup_steps=0",
    )
    output = {"data": world, "output": run, "changes": changes}
    return train_recipe("streampetr_synthetic", resume=run.exists(), **output)


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    resume(small_world, run)
    return run


@pytest.mark.parametrize("zipped", [False, True])
def test_a_payload_in_each_file_of_a_checkpoint_does_not_run(small_world, trained, tmp_path, zipped):
    latest = Path("checkpoints/step_00000002")
    needed = sorted(path for path in (trained / latest).rglob("*") if path.is_file())
    assert len(needed) == 4
    marker = tmp_path / "marker"
    for number, path in enumerate(needed):
        run = tmp_path / f"run_{number}"
        shutil.copytree(trained, run)
        plant(run / path.relative_to(trained), marker, zipped)
        with pytest.raises(SynclError, match=path.name):
            resume(small_world, run)
        assert not marker.exists(), path


@pytest.mark.parametrize("whole", [True, False])
def test_pickles_of_earlier_versions_are_not_read(small_world, trained, tmp_path, whole):
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(trained, run)
    state = run / "checkpoints" / "step_00000002" / "state"
    for name in _PICKLED:
        for suffix in ("bin", "pkl", "pt"):
            plant(state / f"{name}.{suffix}", marker, zipped=True)
    if whole:
        resume(small_world, run)
    else:
        for file in state.glob("*.safetensors"):
            file.unlink()
        (state.parent / "progress.json").write_text('{"step": 2}')
        with pytest.raises(SynclError, match=r"earlier version.*--init .*step_00000002/model.safetensors"):
            resume(small_world, run)
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "recipe.json", "log.jsonl", "metrics.json"])
def test_a_payload_in_a_model_folder_or_state_file_does_not_run(trained, tmp_path, name, zipped):
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(trained, run)
    (run / "metrics.json").write_text('{"label_metrics": {"amota": {}}}')
    path = run / name
    plant(path, marker, zipped)
    tracker = load_model(trained / "model.safetensors").tracker
    for read in (load_model, load_state, read_published, lambda path: initialise_from(tracker, path)):
        with pytest.raises(SynclError, match=name):
            read(path)
    with suppress(SynclError):
        read_runs([str(run)])
    assert not marker.exists()
