"""How a run is going, as a picture: losses, and the figures of its validations."""

from pathlib import Path

from syncl.rendering.figures import BLUE, ORANGE, caption, new_figure, save_figure
from syncl.training.journal import Entry, log_entries

PICTURE = "training.png"


def draw_training(run: Path) -> None:
    """Draw `training.png` of a run from its `log.jsonl`: the loss, and each figure of the validations."""
    entries = list(log_entries(run / "log.jsonl"))
    train = [entry for entry in entries if entry["group"] == "train"]
    validations = [entry for entry in entries if entry["group"] == "validation"]
    names = list(validations[-1]["values"]) if validations else []
    figure, panels = new_figure(1 + len(names), columns=3)
    panels[0].plot(*_curve(train, "total"), color=BLUE)
    caption(panels[0], "loss", "step")
    for panel, name in zip(panels[1:], names, strict=True):
        panel.plot(*_curve(validations, name), color=ORANGE, marker="o", markersize=3)
        caption(panel, f"validation: {name}", "step")
    save_figure(figure, run / PICTURE, overwrite=True, dpi=110)


def _curve(entries: list[Entry], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a figure, where it is known."""
    found = [(entry["step"], entry["values"].get(name)) for entry in entries]
    known = [(step, value) for step, value in found if value is not None]
    return [step for step, _ in known], [value for _, value in known]
