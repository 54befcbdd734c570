"""Saving what a tracker remembers, to go on with a stream later or elsewhere.

    save_state(path, state)
    state = load_state(path, device)

One safetensors file holds the tensors; which structures they belong to, and everything that is no tensor, is
JSON in its header.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import orjson
import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.files import parse_json, read_tensors, write_tensors
from syncl.trackers.serialisation import put_together, take_apart
from syncl.trackers.state import TrackState

_FORMAT = "syncl-state-2"
# Without a digest; read as before.
_UNSIGNED_FORMAT = "syncl-state-1"


def save_state(path: Path, state: TrackState) -> None:
    """Write a state in one step; the detector's memory is part of it."""
    content, tensors = take_apart(state)
    text = orjson.dumps(content).decode()
    metadata = {"format": _FORMAT, "content": text, "sha256": _digest(text, tensors)}
    write_tensors(path, tensors, metadata)


def load_state(path: Path, device: torch.device | str = "cpu") -> TrackState:
    """The state that `save_state` wrote, with its tensors on `device`.

    Stepping on from it with the same model gives what stepping on without the detour gives, to the last bit.

    Raises:
        SynclError: if the file is missing, damaged, or no state that this version knows.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, "state file", device)
    if metadata.get("format") not in (_FORMAT, _UNSIGNED_FORMAT):
        raise SynclError(f"{path}: a safetensors file, but not a tracker's state")
    text = metadata.get("content", "")
    if metadata["format"] == _FORMAT and metadata.get("sha256") != _digest(text, tensors):
        raise SynclError(f"{path}: its contents are not what was saved; the file is damaged")
    return put_together(parse_json(text, str(path)), tensors, str(path))


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a state file holds."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
