"""syncl: end-to-end multi-camera 3D tracking in plain PyTorch.

Importing the package is cheap; the public functions import their machinery on first use.

    tracker = syncl.load("model.safetensors", device="cuda")
    state = tracker.initial_state()
    for frame in syncl.open_recording("my_rig/", image_size=(320, 800)):
        objects, state = tracker.step(frame, state)

`check_rig`, `demo`, `generate`, `prepare`, `train`, `track`, `evaluate`, `plot`, `render` and `report` are
the commands of the same names.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.checkpoints.model_file import load as load
    from syncl.commands.check_rig import check_rig as check_rig
    from syncl.commands.demo import demo as demo
    from syncl.commands.evaluate import evaluate as evaluate
    from syncl.commands.generate import generate as generate
    from syncl.commands.plot import plot as plot
    from syncl.commands.prepare import prepare as prepare
    from syncl.commands.render import render as render
    from syncl.commands.report import report as report
    from syncl.commands.track import track as track
    from syncl.commands.train import train as train
    from syncl.data.recording.recording import open_recording as open_recording

__version__ = "0.1.0"

__all__ = [
    "check_rig",
    "demo",
    "evaluate",
    "generate",
    "load",
    "open_recording",
    "plot",
    "prepare",
    "render",
    "report",
    "track",
    "train",
]


def __getattr__(name: str) -> object:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'syncl' has no attribute {name!r}")
    elsewhere = {"load": "syncl.checkpoints.model_file", "open_recording": "syncl.data.recording.recording"}
    module = elsewhere.get(name, f"syncl.commands.{name}")
    value: object = getattr(importlib.import_module(module), name)
    return value
