"""syncl: end-to-end multi-camera 3D tracking in plain PyTorch.

Importing the package is cheap; the public functions import their machinery on first use.

    tracker = syncl.load("demo")                     # or a model file, or a run's folder
    state = tracker.initial_state()
    for frame in tracker.open("my_rig/"):
        objects, state = tracker.step(frame, state)
        for tracked in objects:
            print(tracked)

Every command of `syncl --help` is a function here: `syncl.train(...)` does what `syncl train ...` does,
prints the same, and returns what came of it. `recipes` and `models` are commands and folders of this package:
`syncl.recipes` is the command, and what the folder holds comes by `from syncl.recipes import find_recipe`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.commands.check_rig import check_rig as check_rig
    from syncl.commands.convert import convert as convert
    from syncl.commands.demo import demo as demo
    from syncl.commands.diagnose import diagnose as diagnose
    from syncl.commands.evaluate import evaluate as evaluate
    from syncl.commands.experiment import experiment as experiment
    from syncl.commands.export import export as export
    from syncl.commands.generate import generate as generate
    from syncl.commands.info import info as info
    from syncl.commands.models import models as models
    from syncl.commands.plot import plot as plot
    from syncl.commands.prepare import prepare as prepare
    from syncl.commands.profile import profile as profile
    from syncl.commands.recipes import recipes as recipes
    from syncl.commands.render import render as render
    from syncl.commands.report import report as report
    from syncl.commands.track import track as track
    from syncl.commands.train import train as train
    from syncl.commands.train_motion import train_motion as train_motion
    from syncl.data.recording.recording import open_recording as open_recording
    from syncl.data.recording.rig_file import open_rig as open_rig
    from syncl.deployment.exported import load as load

__version__ = "0.2.0"

__all__ = [
    "check_rig",
    "convert",
    "demo",
    "diagnose",
    "evaluate",
    "experiment",
    "export",
    "generate",
    "info",
    "load",
    "models",
    "open_recording",
    "open_rig",
    "plot",
    "prepare",
    "profile",
    "recipes",
    "render",
    "report",
    "track",
    "train",
    "train_motion",
]

_ELSEWHERE = {
    "load": "syncl.deployment.exported",
    "open_recording": "syncl.data.recording.recording",
    "open_rig": "syncl.data.recording.rig_file",
}


class _Package(ModuleType):
    """This package, where a function keeps its name although a folder of the package has it too."""

    def __setattr__(self, name: str, value: object) -> None:
        # Importing a folder of the package would put it here, in the place of a command of the same name.
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'syncl' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_ELSEWHERE.get(name, f"syncl.commands.{name}")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
