"""`syncl report`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.runs.report import ReportPage


def report(
    runs: tuple[str, ...],
    /,
    *,
    output: Path,
    data: Path | None = None,
    version: str = "v1.0-mini",
    split: str = "mini_val",
    scenes: tuple[str, ...] = (),
    title: str = "Tracking report",
    failures: int = 6,
    embed_mb: float = 24.0,
    overwrite: bool = False,
) -> "ReportPage":
    """Make one self-contained page of runs: metrics, curves, failures with pictures, video, settings.

    The page loads nothing from anywhere and reads well in light and dark, on paper and on a phone.

    Args:
        runs: [NAME=]PATH[,PATH...]: a run folder (results.json, metrics.json, details.json, recipe.json,
            log.jsonl, model.safetensors, notes.json, a video: whatever is there), or such files by
            themselves, for example results.json,metrics.json (docs/reports.md). With detections.json
            (syncl track --task detection), causes of failures tell detector and tracker apart.
        output: page (.html) to write.
        data: folder of the nuScenes-format dataset. With it, results are scored anew and the worst failures
            are shown with pictures; without it, metrics are those on file.
        version: nuScenes version folder inside data.
        split: which scenes were tracked.
        scenes: names of some of its scenes, where results cover a part of the split only.
        title: heading of the page.
        failures: how many of each kind are shown of each run; 0 shows none.
        embed_mb: a larger video (megabytes) is not put into the page, which then looks for it beside itself.
        overwrite: replace an existing page.

    Returns:
        Path and size of the page, and the names of its runs.
    """
    import sys

    from syncl.runs.report import make_report

    page = make_report(
        runs,
        output,
        data=data,
        version=version,
        split=split,
        scenes=scenes,
        title=title,
        failures=failures,
        embed_mb=embed_mb,
        overwrite=overwrite,
    )
    count = len(page.runs)
    sys.stdout.write(f"{output}: {count} run{'' if count == 1 else 's'}, {page.size_bytes / 1e6:.1f} MB\n")
    return page
