"""The models that ship with syncl, by name; the card of each says how it was trained and what it misses."""

import json
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, cast

from syncl.errors import SynclError, did_you_mean

_FOLDER = Path(__file__).parent
_HEADER_BYTES = 8


@dataclass(frozen=True)
class ShippedModel:
    """A model of the package.

    Attributes:
        name: as `syncl.load` and the commands take it.
        summary: one line.
        card: the page about it.
    """

    name: str
    summary: str
    card: Path

    @property
    def path(self) -> Path:
        """The model file."""
        return _FOLDER / f"{self.name}.safetensors"

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images it sees, pixels."""
        height, width = self._model["input"]["image_size"]
        return int(height), int(width)

    @property
    def cameras(self) -> int | None:
        """How many cameras it has weights for; None = it takes any number."""
        count = self._model["detector"].get("cameras")
        return None if count is None else int(count)

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return tuple(self._model["detector"]["classes"])

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(prod(entry["shape"]) for name, entry in self._header.items() if name != "__metadata__")

    @cached_property
    def _header(self) -> dict[str, Any]:
        # The front of a safetensors file: reading it so needs no torch.
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_BYTES), "little")
            return cast(dict[str, Any], json.loads(file.read(length)))

    @property
    def _model(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self._header["__metadata__"]["model"]))


MODELS: dict[str, ShippedModel] = {
    model.name: model
    for model in (
        ShippedModel(
            "demo",
            "PF-Track on a small PETR, trained with SynCL, on six cameras that look as nuScenes' do",
            _FOLDER / "CARD.md",
        ),
        ShippedModel(
            "any-rig",
            "MUTR3D on a small DETR3D, for any number of cameras, with lenses of 45 to 120 degrees",
            _FOLDER / "CARD-any-rig.md",
        ),
    )
}


def find_model(name: str | Path) -> Path:
    """The file of a model: a shipped one by its name, a run's by its folder, or the file itself.

    Raises:
        SynclError: a bare name that is neither a file nor that of a shipped model, with those there are; a
            run that has not ended, with what to do.
    """
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in MODELS:
        return MODELS[str(name)].path
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if (path / "recipe.json").is_file():
        steps = sorted(path.glob("checkpoints/step_*"))
        reached = f"; its last checkpoint is of step {int(steps[-1].name[5:])}" if steps else ""
        best = path / "best.safetensors"
        sooner = f", or take what was best so far, {best}" if best.is_file() else ""
        raise SynclError(
            f"{path}: this training has not ended, so it has no model.safetensors yet{reached}. "
            f"Go on with the syncl train that began it and --resume{sooner}"
        )
    if len(path.parts) == 1 and not path.suffix and not path.exists():
        raise SynclError(
            f"there is no model {str(name)!r}{did_you_mean(str(name), MODELS)}; models that ship with syncl: "
            f"{', '.join(MODELS)}; or name a model file, such as runs/tracker/model.safetensors"
        )
    return path
