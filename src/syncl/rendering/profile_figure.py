"""What a frame costs, part by part, as one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncl.rendering.figures import COLOURS, caption, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Bars:
    """One figure of all parts.

    Attributes:
        title: what it is, with its unit.
        values: part -> value; parts without one are left out.
        form: how a value is written, as for `format`.
    """

    title: str
    values: Mapping[str, float]
    form: str


def profile_figure(title: str, parts: Sequence[str], panels: Sequence[Bars]) -> "Figure":
    """A panel of horizontal bars for each figure, a colour a part.

    Args:
        title: above all.
        parts: names in order, the first on top.
        panels: what is shown.
    """
    figure, axes = new_figure(len(panels), columns=len(panels), height=0.32 * len(parts) + 0.7)
    colours = dict(zip(parts, COLOURS))
    for number, (panel, bars) in enumerate(zip(axes, panels, strict=True)):
        shown = [bars.values.get(part, 0.0) for part in parts]
        drawn = panel.barh(range(len(parts)), shown, color=[colours[part] for part in parts], height=0.7)
        words = [format(bars.values[part], bars.form) if part in bars.values else "" for part in parts]
        panel.bar_label(drawn, words, padding=3, fontsize=8)
        panel.set_xlim(0, max([*shown, 1e-9]) * 1.3)
        panel.set_yticks(range(len(parts)), parts if number == 0 else [""] * len(parts))
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        caption(panel, bars.title, size=9)
    figure.suptitle(plain(title), fontsize=10, x=0.01, ha="left")
    return figure
