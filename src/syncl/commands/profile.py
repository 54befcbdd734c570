"""`syncl profile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.runs.profile.frame_costs import Profile


def profile(
    model: Path,
    /,
    *,
    recording: Path | None = None,
    frames: int = 8,
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: str = "auto",
    threads: int | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> "Profile":
    """Say what a frame costs, part by part: data, encoder, tokens, decoder, tracker, drawing.

    Prints milliseconds on the wall and of the processor, operations, memory of tensors and how often the host
    waits for the device; --output draws them. Times are medians over frames behind the first; operations,
    memory and waits are those of one frame more, which is not timed.

    Args:
        model: name of a shipped model (syncl models), a model file, a run's folder; or a recipe (syncl
            recipes), with fresh weights.
        recording: whose frames are read; frames of the synthetic world with nuScenes' six cameras if there is
            none, of the size that the model sees.
        frames: how many are timed.
        precision: of the model's layers (`syncl track`).
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        threads: CPU threads (default: torch's choice).
        output: picture to write (.png, .svg, .pdf).
        overwrite: replace an existing picture.

    Returns:
        The figures.
    """
    from rich.table import Table

    from syncl.progress import plain_console, print_whole
    from syncl.rendering.figures import check_figure, save_figure
    from syncl.rendering.profile_figure import Bars, profile_figure
    from syncl.runs.profile.frame_costs import PARTS, STEP, profile_model
    from syncl.runs.threads import use_threads

    use_threads(threads)
    if output is not None:
        check_figure(output, overwrite)
    found = profile_model(model, recording=recording, frames=frames, precision=precision, device=device)
    cameras, height, width = found.images
    title = f"{found.name}: {cameras} x {height} x {width}, {found.tracks} tracks, on {found.where}"
    table = Table(title=title, title_justify="left")
    table.add_column("part")
    for name in ("ms", "CPU ms", "share of a step", "GFLOP", "peak MB", "waits"):
        table.add_column(name, justify="right", no_wrap=name != "share of a step")
    whole = found.step_seconds
    for part, cost in found.parts.items():
        times = (f"{1e3 * cost.seconds:.1f}", f"{1e3 * cost.cpu_seconds:.1f}")
        counted = ("", "", "", "")
        if part in STEP and cost.gflops is not None and cost.peak_mb is not None:
            share = f"{cost.seconds / whole:.0%}"
            counted = (share, f"{cost.gflops:.2f}", f"{cost.peak_mb:.1f}", f"{cost.waits}")
        table.add_row(part, *times, *counted)
    table.add_section()
    cpu = sum(found.parts[part].cpu_seconds for part in STEP)
    table.add_row("a step", f"{1e3 * whole:.1f}", f"{1e3 * cpu:.1f}", style="bold")
    console = plain_console()
    print_whole(console, table)
    for part, what in PARTS.items():
        console.print(f"{part}: {what}", style="dim")
    if output is not None:
        costs = found.parts
        known = {part: cost for part, cost in costs.items() if part in STEP}
        panels = [
            Bars("milliseconds", {part: 1e3 * cost.seconds for part, cost in costs.items()}, ".1f"),
            Bars("CPU milliseconds", {part: 1e3 * cost.cpu_seconds for part, cost in costs.items()}, ".1f"),
            Bars("GFLOP", {part: cost.gflops or 0.0 for part, cost in known.items()}, ".2f"),
            Bars("peak of tensors, MB", {part: cost.peak_mb or 0.0 for part, cost in known.items()}, ".0f"),
            Bars("waits", {part: float(cost.waits or 0) for part, cost in known.items()}, ".0f"),
        ]
        save_figure(profile_figure(title, tuple(PARTS), panels), output, overwrite)
        console.print(f"wrote {output}")
    return found
