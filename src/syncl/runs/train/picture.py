"""How a run is going, as a picture: losses, and the figures of its validations."""

from pathlib import Path

from syncl.rendering.figures import BLUE, ORANGE, caption, new_figure, save_figure
from syncl.training.journal import Entry, log_entries

PICTURE = "training.png"


def draw_training(run: Path) -> None:
    """Draw `training.png` of a run from its `log.jsonl`: the loss, and each figure of the validations."""
    from matplotlib.ticker import MaxNLocator

    loss, *others = curves(run).items()
    figure, panels = new_figure(1 + len(others), columns=3)
    panels[0].plot(*loss[1], color=BLUE)
    caption(panels[0], "loss", "step")
    for panel, (name, curve) in zip(panels[1:], others, strict=True):
        panel.plot(*curve, color=ORANGE, marker="o", markersize=3)
        caption(panel, f"validation: {name}", "step")
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, run / PICTURE, overwrite=True, dpi=110)


def curves(run: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of the loss (`total`) and of the validations' figures, where they are numbers."""
    entries = list(log_entries(run / "log.jsonl"))
    train = [entry for entry in entries if entry["group"] == "train"]
    validations = [entry for entry in entries if entry["group"] == "validation"]
    names = list(validations[-1]["values"]) if validations else []
    return {"total": _curve(train, "total")} | {name: _curve(validations, name) for name in names}


def _curve(entries: list[Entry], name: str) -> tuple[list[int], list[float]]:
    found = [(entry["step"], entry["values"].get(name)) for entry in entries]
    known = [(step, value) for step, value in found if isinstance(value, int | float)]
    return [step for step, _ in known], [value for _, value in known]
