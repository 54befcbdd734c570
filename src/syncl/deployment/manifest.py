"""What an exported folder says of itself, in `manifest.json`, and whether it still is what was written."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson

from syncl.checkpoints.upgrades import Json
from syncl.errors import SynclError, shown, system_errors_named
from syncl.files import inside, parse_json

MANIFEST = "manifest.json"
FORMAT = "syncl-export-1"
AUTOWARE = "autoware_camera_streampetr"
"""What the folder of Autoware's node calls itself (`deployment.autoware`)."""
GOLDEN = "golden.npz"
ASSOCIATION = "association.safetensors"
"""Weights by which a host ties detections together, of DQTrack and of CC-3DT that has learned some."""


@dataclass(frozen=True)
class Manifest:
    """A folder's manifest.

    Attributes:
        folder: where it lies.
        content: its entries; `docs/deployment.md` lists them.
    """

    folder: Path
    content: dict[str, Json]

    def entry(self, *names: str) -> Json:
        """An entry, by the names on the way to it.

        Raises:
            SynclError: it is not there.
        """
        value: Json = self.content
        for name in names:
            if not isinstance(value, dict) or name not in value:
                raise SynclError(f"{self.folder / MANIFEST}: lacks the entry {'.'.join(names)}; export again")
            value = value[name]
        return value

    def text(self, *names: str) -> str:
        """The same, which is a text."""
        return str(self.entry(*names))

    def texts(self, *names: str) -> tuple[str, ...]:
        """The same, which is a list of texts."""
        value = self.entry(*names)
        if not isinstance(value, list):
            raise SynclError(f"{self.folder / MANIFEST}: {'.'.join(names)} is {shown(value)}, not a list")
        return tuple(map(str, value))

    def seconds(self, name: str) -> float | None:
        """The same, which is a number or null."""
        value = self.entry(name)
        if value is not None and not isinstance(value, int | float):
            raise SynclError(f"{self.folder / MANIFEST}: {name} is {shown(value)}, not a number")
        return value

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """The same, which is a list of numbers or null."""
        value = self.entry(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
            raise SynclError(f"{self.folder / MANIFEST}: {name} is {shown(value)}, not a list of numbers")
        return tuple(map(float, cast(list[float], value)))

    def table(self, *names: str) -> list[dict[str, Json]]:
        """The same, which is a list of objects."""
        value = self.entry(*names)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise SynclError(f"{self.folder / MANIFEST}: {'.'.join(names)} is no list of objects")
        return cast(list[dict[str, Json]], value)


def is_export(path: Path) -> bool:
    """Whether this is an exported folder: one with a manifest."""
    return (Path(path) / MANIFEST).is_file()


def write_manifest(folder: Path, content: Mapping[str, Json], kind: str = FORMAT) -> None:
    """Write the manifest of a folder whose other files are there, with the hash of each."""
    files: dict[str, Json] = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in sorted(folder.iterdir())
    }
    whole = {"format": kind, **content, "files": files}
    (folder / MANIFEST).write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, after making sure that all files it names are there and as they were written.

    Raises:
        SynclError: there is none, it is of another version, or a file is missing or changed, naming it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise SynclError(
            f"{folder}: no exported model, it has no {MANIFEST} (make one with syncl export), and no run's "
            "folder, it has no model.safetensors"
        )
    content = parse_json(path)
    found = content.get("format") if isinstance(content, dict) else None
    if found == AUTOWARE:
        raise SynclError(
            f"{folder}: holds the engines of Autoware's node, which syncl does not run; export the model "
            "with --abi syncl"
        )
    if found != FORMAT:
        raise SynclError(f"{path}: its format is {shown(found)}, and this syncl knows {FORMAT}; export again")
    manifest = Manifest(Path(folder), cast(dict[str, Json], content))
    files = manifest.entry("files")
    if not isinstance(files, dict) or GOLDEN not in files:
        raise SynclError(f"{path}: names no {GOLDEN}, by which a host is checked; export again")
    for name in files:
        file = inside(Path(folder), name, str(path))
        if not file.is_file():
            raise SynclError(f"{file}: is missing, and {MANIFEST} names it; export again")
        if sha256(file) != manifest.text("files", name, "sha256"):
            raise SynclError(f"{file}: is not the file that was exported (SHA-256); export again")
    return manifest


def sha256(file: Path) -> str:
    """Of a file's bytes."""
    with system_errors_named(file), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
