"""`--log-with`: every tracker really runs, on this machine alone, and is read back by its own means.

A tracker that is not installed is skipped, with the extra to install; none of them sends anything anywhere.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from accelerate import Accelerator

from rig import TINY_RUN
from syncl.commands.train import train
from syncl.errors import SynclError
from syncl.runs.train.loggers import start_loggers

SET = (
    "training.steps=2",
    "training.data.batch_size=1",
    "training.data.clip_length=2",
    "training.log_every=1",
)


def of_tensorboard(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "run" / "tensorboard"))
    events.Reload()
    return set(events.Tags()["scalars"])


def of_wandb(folder: Path) -> set[str]:
    """An offline run's file holds the names as they are; another process writes it, and may be late."""
    (file,) = (folder / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    names = {"train/total", "train/learning_rate"}
    for _ in range(60):
        if all(name.encode() in file.read_bytes() for name in names):
            return names
        time.sleep(0.5)
    return set()


def of_mlflow(folder: Path) -> set[str]:
    import mlflow

    client = mlflow.MlflowClient((folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("syncl")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params["training.steps"] == "2"
    return set(found.data.metrics)


def of_trackio(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "trackio" / "syncl.db") as database:
        rows = database.execute("SELECT run_name, metrics FROM metrics").fetchall()
    assert {name for name, _ in rows} == {"run"}
    return {name for _, metrics in rows for name in json.loads(metrics)}


@pytest.mark.parametrize(
    ("logger", "read"),
    [("tensorboard", of_tensorboard), ("wandb", of_wandb), ("mlflow", of_mlflow), ("trackio", of_trackio)],
)
def test_a_logger_is_told_what_the_run_logs(
    logger: str,
    read: Callable[[Path], set[str]],
    small_world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    # Some look at these when they are imported.
    pytest.importorskip(logger, reason=f"not installed: pip install 'syncl[{logger}]'")
    changes = (*SET, *TINY_RUN)
    output = tmp_path / "run"
    train("mutr3d_detr3d_synthetic", data=small_world, output=output, set=changes, log_with=(logger,))
    assert {"train/total", "train/learning_rate"} <= read(tmp_path)


def test_a_logger_that_does_not_start_ends_the_run_with_what_it_says(tmp_path: Path):
    class Refused:
        log_with = ("mlflow",)

        def init_trackers(self, *arguments: object, **named: object) -> None:
            raise OSError("no such server")

    with pytest.raises(SynclError, match="--log-with: mlflow cannot be started: no such server"):
        start_loggers(cast(Accelerator, Refused()), tmp_path, {})


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_resumed_run_goes_on_in_the_loggers_own(
    logger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    pytest.importorskip(logger, reason=f"not installed: pip install 'syncl[{logger}]'")
    run = tmp_path / "run"
    run.mkdir()
    called = []
    for resume, steps in ((False, 2), (True, 3), (False, 2)):
        accelerator = Accelerator(log_with=logger)
        # Others are not noted again: a run's settings are those that it began with.
        start_loggers(accelerator, run, {"steps": steps}, resume=resume)
        accelerator.log({"total": 1.0}, step=steps)
        accelerator.end_training()
        called.append(json.loads((run / "loggers.json").read_text())[logger])
    first, second, anew = called
    assert first == second != anew
    if logger == "mlflow":
        import mlflow

        found = mlflow.MlflowClient((tmp_path / "mlruns").as_uri()).get_run(first)
        assert found.data.params == {"steps": "2"} and found.data.metrics == {"total": 1.0}


def test_a_file_of_no_loggers_is_refused(tmp_path: Path):
    (tmp_path / "loggers.json").write_text("[1]")
    with pytest.raises(SynclError, match=r"loggers\.json: does not say what trackers call the run"):
        start_loggers(Accelerator(), tmp_path, {}, resume=True)
