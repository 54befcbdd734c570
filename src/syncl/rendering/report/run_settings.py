"""What a run was made with, as far as its files tell."""

from collections.abc import Mapping
from typing import Any

from syncl.rendering.report.runs import Run

UNKNOWN = "not recorded"

# Label -> place in the resolved recipe.
_RECIPE = {
    "recipe": "name",
    "strategy": "training.strategy.type",
    "detector": "model.detector.type",
    "tracker": "model.tracker.type",
    "image size (h, w)": "model.input.image_size",
    "seed": "training.seed",
    "steps": "training.steps",
    "batch size": "training.data.batch_size",
    "frames a clip": "training.data.clip_length",
    "learning rate": "training.optimiser.learning_rate",
    "precision": "training.precision",
}
_NOTES = {
    "data": "data",
    "initialised from": "initialised_from",
    "training minutes": "minutes",
    "torch": "torch",
}


def settings_of(run: Run) -> dict[str, str]:
    """Label -> value, in a fixed order; `UNKNOWN` where the files do not say."""
    rows = {label: _text(_dig(run.recipe, place)) for label, place in _RECIPE.items()}
    rows |= {label: run.notes.get(name, UNKNOWN) for label, name in _NOTES.items()}
    rows["commit"] = run.notes.get("commit") or _text(run.record.get("commit"))
    rows["hardware"] = run.notes.get("hardware") or _hardware(run.record.get("hardware"))
    known = {*_NOTES.values(), "commit", "hardware"}
    rows |= {name.replace("_", " "): text for name, text in run.notes.items() if name not in known}
    return rows


def _dig(content: Mapping[str, Any], place: str) -> object:
    value: object = content
    for step in place.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).removesuffix("Config") if isinstance(value, str) else f"{value}"


def _hardware(value: object) -> str:
    if not isinstance(value, Mapping):
        return UNKNOWN
    return ", ".join(f"{name} {entry}" for name, entry in value.items())
