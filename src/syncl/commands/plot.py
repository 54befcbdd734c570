"""`syncl plot`."""

from pathlib import Path
from typing import Literal


def plot(
    runs: tuple[str, ...],
    /,
    *,
    output: Path,
    curves: tuple[str, ...] = ("mota", "motar"),
    bars: tuple[str, ...] = ("amota", "recall", "ids"),
    format: Literal["png", "svg", "pdf"] = "png",
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Plot metrics of one run or several: curves over recall, and bars class by class.

    Args:
        runs: [NAME=]PATH[,PATH...]: run folders, or files such as metrics.json,details.json (as syncl
            evaluate writes them with --output and --details).
        output: folder for the plots: one file a curve metric (mota.png: MOTA over recall, a panel a class and
            a line a run) and classes.png.
        curves: metrics to draw over recall; needs the details of every run.
        bars: metrics to draw class by class.
        format: of the plots.
        overwrite: replace existing plots.

    Returns:
        The files that were written.
    """
    import sys

    from syncl.runs.plot import plot_runs

    written = plot_runs(runs, output, curves=curves, bars=bars, format=format, overwrite=overwrite)
    sys.stdout.write(f"wrote {', '.join(map(str, written))}\n")
    return written
