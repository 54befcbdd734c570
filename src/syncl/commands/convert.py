"""`syncl convert`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

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
) -> None:
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
    """
    from syncl.errors import SynclError
    from syncl.files import refuse_to_overwrite
    from syncl.runs.convert import export_checkpoint, import_checkpoint

    if (from_ is None) == (to is None):
        raise SynclError(
            "pass either --from FORMAT (to read a published checkpoint) or --to FORMAT (to write one)"
        )
    refuse_to_overwrite(output, overwrite)
    if from_ is not None:
        import_checkpoint(source, output, from_, recipe, set)
        return
    if recipe is not None or set:
        raise SynclError("--recipe and --set go with --from; a model file knows its own configuration")
    if to is not None:
        export_checkpoint(source, output, to)
