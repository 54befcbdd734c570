"""`syncl models`."""

import sys
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from syncl.models import ShippedModel


def models(name: Annotated[str | None, tyro.conf.Positional] = None, /) -> "tuple[ShippedModel, ...]":
    """List the models that ship with syncl; any command that takes a model file takes their names.

    Args:
        name: a model to show whole, with its card: how it was trained, what it reaches and misses.

    Returns:
        The models listed.
    """
    from syncl.errors import SynclError, did_you_mean
    from syncl.models import MODELS

    if name is not None and name not in MODELS:
        raise SynclError(
            f"there is no model {name!r}{did_you_mean(name, MODELS)}; models that ship: {', '.join(MODELS)}"
        )
    found = tuple(MODELS.values()) if name is None else (MODELS[name],)
    for model in found:
        height, width = model.image_size
        count = "any number" if model.cameras is None else model.cameras
        sys.stdout.write(
            f"{model.name}: {model.summary}\n"
            f"  cameras: {count}, {height} x {width} pixels each, {model.parameters / 1e6:.1f} M parameters\n"
            f"  classes: {', '.join(model.classes)}\n"
            f"  file:    {model.path}\n"
        )
    if name is None:
        sys.stdout.write("\nsyncl models NAME shows a card, syncl track NAME --recording my_rig tracks.\n")
    else:
        sys.stdout.write(f"\n{found[0].card.read_text(encoding='utf-8')}")
    return found
