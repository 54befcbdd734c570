"""`syncl convert`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from syncl.checkpoints.mapping import Conversion

Format = Literal[
    "petr",
    "petrv2",
    "streampetr",
    "detr3d",
    "bevformer",
    "mutr3d",
    "pf_track",
    "dqtrack",
    "ada_track",
    "cc_3dt",
    "backbone",
]


@dataclass(frozen=True)
class ConvertedFile:
    """A file that was converted.

    Attributes:
        path: of the new file.
        kind: the recipe whose model was filled, or the format that was written.
        conversion: what came of it, entry by entry.
    """

    path: Path
    kind: str
    conversion: "Conversion"


def convert(
    source: Path,
    output: Path,
    /,
    *,
    from_: Annotated[Format | None, tyro.conf.arg(name="from")] = None,
    to: Format | None = None,
    recipe: str | None = None,
    set: tuple[str, ...] = (),
    init: Path | None = None,
    overwrite: bool = False,
) -> ConvertedFile:
    """Convert a published checkpoint to a model file, or a model file back to the original's names.

    Every parameter must fit: whatever is missing, unknown or of another shape is an error that names it. What
    the published file does not have (a tracker's parts, say) starts out new and is listed, or comes from
    another model file (--init).

    Args:
        source: published checkpoint (.pth or .safetensors) for --from; our model file for --to.
        output: model file (.safetensors) for --from; checkpoint (.pth) for --to.
        from_: format of a published checkpoint; backbone takes only the image backbone of any network.
        to: format to write a model file in.
        recipe: recipe whose model is filled (with --from; default: the format's own), or one of your own,
            as for syncl train.
        set: changed settings of the recipe, such as model.detector.queries=500.
        init: model file from which comes what the published file does not have, such as the detector under a
            tracker (with --from).
        overwrite: replace an existing output file.

    Returns:
        The new file's path, and what came of the conversion entry by entry.
    """
    from collections import Counter
    from dataclasses import replace

    import torch

    from syncl.checkpoints.formats import find_format
    from syncl.checkpoints.model_file import initialise_from, load_model, save_model
    from syncl.checkpoints.published import read_published, write_published
    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.models import find_model
    from syncl.recipes.own import named_recipe
    from syncl.recipes.recipe import recipe_to_json
    from syncl.recipes.resolving import apply_changes

    if from_ is not None and to is None:
        check_output(output, overwrite)
        adapter = find_format(from_)
        filled = apply_changes(named_recipe(recipe or adapter.recipe), set)
        filled = replace(filled, model=adapter.converted(filled.model))
        conversion = adapter.read(read_published(source), filled.model, str(source))
        # What is new gets its initial values, the same at every call; the note `new` names it, so that
        # training started from the file draws its own.
        torch.manual_seed(0)
        tracker = filled.model.build()
        taken = () if init is None else initialise_from(tracker, init).filled
        kept = tuple(name for name in conversion.new if name in taken)
        new = tuple(name for name in conversion.new if name not in taken)
        weights = tracker.state_dict() | conversion.weights
        notes = {"converted_from": f"{source.name} ({adapter.title})", "new": "\n".join(new)}
        save_model(output, weights, filled.model, recipe_to_json(filled), notes)
        _say(f"wrote {output}: {filled.name}, {len(conversion.weights)} entries from {source.name}")
        if init is not None:
            _say_names(f"from {init.name}", kept)
        _say_names("new", new)
        for reason, count in Counter(conversion.ignored.values()).items():
            first = next(name for name, why in conversion.ignored.items() if why == reason)
            _say(f"  not used: {count} entries such as {first} ({reason})")
        return ConvertedFile(output, filled.name, replace(conversion, new=new))
    if from_ is not None or to is None:
        raise SynclError(
            "pass either --from FORMAT (to read a published checkpoint) or --to FORMAT (to write one)"
        )
    check_output(output, overwrite)
    if recipe is not None or set or init is not None:
        raise SynclError(
            "--recipe, --set and --init go with --from; a model file knows its own configuration"
        )
    adapter, model = find_format(to), load_model(find_model(source))
    conversion = adapter.write(model.tracker.state_dict(), model.config)
    classes = ", ".join(model.config.detector.classes)
    write_published(output, conversion.weights, {"classes": classes, "written_by": "syncl convert"})
    _say(f"wrote {output}: {len(conversion.weights)} entries for {adapter.title}")
    _say_names("left out, the format has no place for them", conversion.new)
    return ConvertedFile(output, adapter.title, conversion)


def _say(line: str) -> None:
    from syncl.progress import plain_console

    plain_console().print(line)


def _say_names(title: str, names: Iterable[str]) -> None:
    """Names grouped by the module they are in."""
    from collections import Counter

    groups = Counter(".".join(name.split(".")[:2]) for name in names)
    if groups:
        _say(f"  {title}: {', '.join(f'{group} ({count})' for group, count in groups.items())}")
