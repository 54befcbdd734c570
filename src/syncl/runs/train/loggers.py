"""Handing a run's figures to experiment trackers, through accelerate."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
from accelerate import Accelerator

from syncl.errors import SynclError
from syncl.files import atomic_write, parse_json

Logger = Literal["tensorboard", "wandb", "mlflow", "trackio"]
# What trackers call a run, so that a resumed one goes on in theirs.
CALLED = "loggers.json"
_IDENTITIES: dict[str, Callable[[Any], str]] = {
    "wandb": lambda run: str(run.id),
    "mlflow": lambda run: str(run.info.run_id),
}


def check_loggers(names: tuple[Logger, ...]) -> None:
    """Make sure that the trackers are installed; tensorboard always is.

    Raises:
        SynclError: naming the extra.
    """
    for name in names:
        if name != "tensorboard" and importlib.util.find_spec(name) is None:
            raise SynclError(f"--log-with {name}: is not installed; pip install 'syncl[{name}]'")


def start_loggers(
    accelerator: Accelerator, run: Path, settings: Mapping[str, object], *, resume: bool = False
) -> None:
    """Begin a run in each of the accelerator's trackers, named after the run's folder, or go on in it.

    Args:
        accelerator: made with the trackers' names.
        run: the run's folder; its `loggers.json` says what the trackers call the run.
        settings: of the run, noted with it when it begins.
        resume: go on in the trackers' runs that `loggers.json` has; those that it has not begin.

    Raises:
        SynclError: one of them does not start, with what it says itself; or the file is damaged.
    """
    path = run / CALLED
    called = _called(path) if resume and path.exists() else {}
    named: dict[str, dict[str, object]] = {
        "wandb": {"name": run.name, "dir": str(run)},
        "mlflow": {"run_name": run.name},
        "trackio": {"name": run.name},
    }
    if "wandb" in called:
        named["wandb"] |= {"id": called["wandb"], "resume": "allow"}
    if "mlflow" in called:
        named["mlflow"] = {"run_id": called["mlflow"]}
    try:
        accelerator.init_trackers("syncl", init_kwargs=named)
        for tracker in accelerator.trackers:
            # A run that goes on has them, and mlflow refuses to be told others.
            if tracker.name not in called:
                tracker.store_init_configuration(dict(_flat(settings)))
    # Theirs are of any kind: no login, no server, a place that they no longer write to.
    except Exception as error:
        asked = ", ".join(str(name) for name in accelerator.log_with)
        raise SynclError(f"--log-with: {asked} cannot be started: {error}") from error
    if accelerator.is_main_process:
        called |= {
            tracker.name: _IDENTITIES[tracker.name](tracker.tracker)
            for tracker in accelerator.trackers
            if tracker.name in _IDENTITIES
        }
        if called:
            atomic_write(path, orjson.dumps(called, option=orjson.OPT_INDENT_2))


def _called(path: Path) -> dict[str, str]:
    found = parse_json(path)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise SynclError(f"{path}: does not say what trackers call the run; remove it to begin new ones")
    return found


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {name: value if isinstance(value, int | float | str) else str(value)}
    inner = (_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items())
    return {key: item for part in inner for key, item in part.items()}
