"""How a run is going, as a picture: losses, and the figures of its validations."""

from pathlib import Path

import orjson

from syncl.rendering.figures import BLUE, ORANGE, caption, new_figure, save_figure

PICTURE = "training.png"


def draw_training(run: Path) -> None:
    """Draw `training.png` of a run from its `log.jsonl`: the loss, and each figure of the validations."""
    entries = [orjson.loads(line) for line in (run / "log.jsonl").read_bytes().splitlines()]
    train = [entry for entry in entries if entry["group"] == "train"]
    validations = [entry for entry in entries if entry["group"] == "validation"]
    names = [name for name in validations[-1] if name not in ("step", "group")] if validations else []
    figure, panels = new_figure(1 + len(names), columns=3)
    panels[0].plot([entry["step"] for entry in train], [entry["total"] for entry in train], color=BLUE)
    caption(panels[0], "loss", "step")
    for panel, name in zip(panels[1:], names, strict=True):
        values = [(entry["step"], entry[name]) for entry in validations if entry.get(name) is not None]
        panel.plot(*zip(*values), color=ORANGE, marker="o", markersize=3)
        caption(panel, f"validation: {name}", "step")
    save_figure(figure, run / PICTURE, overwrite=True, dpi=110)
