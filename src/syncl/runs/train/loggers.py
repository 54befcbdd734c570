"""Handing a run's figures to experiment trackers, through accelerate."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from accelerate import Accelerator

from syncl.errors import SynclError

Logger = Literal["tensorboard", "wandb", "mlflow", "trackio"]


def check_loggers(names: tuple[Logger, ...]) -> None:
    """Make sure that the trackers are installed; tensorboard always is.

    Raises:
        SynclError: naming the extra.
    """
    for name in names:
        if name != "tensorboard" and importlib.util.find_spec(name) is None:
            raise SynclError(f"--log-with {name}: is not installed; pip install 'syncl[{name}]'")


def start_loggers(accelerator: Accelerator, run: Path, settings: Mapping[str, object]) -> None:
    """Begin a run in each of the accelerator's trackers, named after the run's folder.

    Args:
        accelerator: made with the trackers' names.
        run: the run's folder.
        settings: of the run, noted with it.

    Raises:
        SynclError: one of them does not start, with what it says itself.
    """
    named: dict[str, dict[str, object]] = {
        "wandb": {"name": run.name, "dir": str(run)},
        "mlflow": {"run_name": run.name},
        "trackio": {"name": run.name},
    }
    try:
        accelerator.init_trackers("syncl", dict(_flat(settings)), named)
    # Theirs are of any kind: no login, no server, a place that they no longer write to.
    except Exception as error:
        asked = ", ".join(str(name) for name in accelerator.log_with)
        raise SynclError(f"--log-with: {asked} cannot be started: {error}") from error


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {name: value if isinstance(value, int | float | str) else str(value)}
    inner = (_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items())
    return {key: item for part in inner for key, item in part.items()}
