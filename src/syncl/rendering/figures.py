"""What all matplotlib figures have in common: colours, panels, captions, legends, files.

The pictures themselves are in `metric_figures` and `diagnosis_figures`. A report's page has charts of its own
(`report.charts`), since there colours and sizes are the reader's.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from syncl.errors import SynclError
from syncl.files import atomic_path, check_output

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, darkest first for one run alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
GREY, PALE = "#9aa1ab", "#d5dae1"
_SUFFIXES = (".png", ".svg", ".pdf")


def new_figure(count: int, columns: int = 4, height: float = 2.3) -> tuple["Figure", list["Axes"]]:
    """A figure of `count` panels, row by row; `height` is a panel's, in inches.

    It belongs to no window and to no global state.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    width = 9.6 if columns > 1 or height < 2 else 4.8
    figure = Figure(figsize=(width, height * rows + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e3e6ea", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, length=3, color=GREY)
        panel.ticklabel_format(useOffset=False)
    return figure, panels


def plain(words: str) -> str:
    """Names of files and people as matplotlib shows them whole.

    It takes what stands between dollar signs for mathematics, and leaves out of legends what begins with an
    underscore.
    """
    return ("\u200b" if words.startswith("_") else "") + words.replace("$", r"\$")


def caption(panel: "Axes", title: str = "", across: str = "", up: str = "", size: int = 10) -> None:
    """A panel's title and the names of its axes; empty ones are left out."""
    if title:
        panel.set_title(plain(title), fontsize=size, loc="left", fontweight="bold")
    if across:
        panel.set_xlabel(across, fontsize=9)
    if up:
        panel.set_ylabel(up, fontsize=9)


def add_legend(
    figure: "Figure",
    panels: Sequence["Axes"],
    columns: int,
    words: Callable[[str], str] = str,
    place: Literal["outside upper left", "outside upper center"] = "outside upper left",
) -> None:
    """One legend above all panels, of everything that any of them names; the panel that names most leads.

    It has `columns`, or as many as the figure is wide enough for.
    """
    found: dict[str, Artist] = {}
    named = [panel.get_legend_handles_labels() for panel in panels]
    for handles, labels in sorted(named, key=lambda pair: -len(pair[1])):
        for handle, label in zip(handles, labels, strict=True):
            found.setdefault(label, handle)
    names = [words(name) for name in found]
    for count in range(columns, 0, -1):
        legend = figure.legend(list(found.values()), names, loc=place, ncols=count, frameon=False, fontsize=9)
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def check_figure(output: Path, overwrite: bool) -> None:
    """Make sure that a figure can be written to a file of this name.

    Raises:
        SynclError: see `save_figure`, or nothing can be written there.
    """
    if output.suffix.lower() not in _SUFFIXES:
        raise SynclError(f"{output}: plots are written as {', '.join(_SUFFIXES)}; choose such a name")
    check_output(output, overwrite)


def save_figure(figure: "Figure", output: Path, overwrite: bool = False, dpi: int = 150) -> None:
    """Write a figure in the format of the file's suffix.

    Raises:
        SynclError: at another suffix than .png, .svg or .pdf, or at an existing file.
    """
    output = Path(output)
    check_figure(output, overwrite)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=dpi)
