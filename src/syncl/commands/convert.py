"""`syncl convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncl.runs.convert import ConvertedFile

Format = Literal["petr", "petrv2", "streampetr", "detr3d", "mutr3d", "pf_track", "backbone"]


def convert(
    source: Path,
    output: Path,
    /,
    *,
    from_: Annotated[Format | None, tyro.conf.arg(name="from")] = None,
    to: Format | None = None,
    recipe: str | None = None,
    set: tuple[str, ...] = (),
    overwrite: bool = False,
) -> "ConvertedFile":
    """Convert a published checkpoint to a model file, or a model file back to the original's names.

    Every parameter must fit: whatever is missing, unknown or of another shape is an error that names it. What
    the published file does not have (a tracker's parts, say) starts out new and is listed.

    Args:
        source: published checkpoint (.pth or .safetensors) for --from; our model file for --to.
        output: model file (.safetensors) for --from; checkpoint (.pth) for --to.
        from_: format of a published checkpoint; backbone takes only the image backbone of any network.
        to: format to write a model file in.
        recipe: recipe whose model is filled (with --from; default: the format's own).
        set: changed settings of the recipe, such as model.detector.queries=500.
        overwrite: replace an existing output file.

    Returns:
        The new file's path, and what came of the conversion entry by entry.
    """
    from collections import Counter

    from syncl.errors import SynclError
    from syncl.files import refuse_to_overwrite
    from syncl.runs.convert import export_checkpoint, import_checkpoint

    either = "pass either --from FORMAT (to read a published checkpoint) or --to FORMAT (to write one)"
    if (from_ is None) == (to is None):
        raise SynclError(either)
    refuse_to_overwrite(output, overwrite)
    if from_ is not None:
        converted = import_checkpoint(source, output, from_, recipe, set)
        found = converted.conversion
        _say(f"wrote {output}: {converted.kind}, {len(found.weights)} entries from {source.name}")
        _say_names("new", found.new)
        for reason, count in Counter(found.ignored.values()).items():
            first = next(name for name, why in found.ignored.items() if why == reason)
            _say(f"  not used: {count} entries such as {first} ({reason})")
        return converted
    if recipe is not None or set:
        raise SynclError("--recipe and --set go with --from; a model file knows its own configuration")
    if to is None:
        raise SynclError(either)
    converted = export_checkpoint(source, output, to)
    _say(f"wrote {output}: {len(converted.conversion.weights)} entries for {converted.kind}")
    _say_names("left out, the format has no place for them", converted.conversion.new)
    return converted


def _say(line: str) -> None:
    from rich.console import Console

    Console().print(line, highlight=False)


def _say_names(title: str, names: "Iterable[str]") -> None:
    """Names grouped by the module they are in."""
    from collections import Counter

    groups = Counter(".".join(name.split(".")[:2]) for name in names)
    if groups:
        _say(f"  {title}: {', '.join(f'{group} ({count})' for group, count in groups.items())}")
