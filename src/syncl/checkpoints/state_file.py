"""Saving what a tracker remembers, to go on with a stream later or elsewhere.

    save_state(path, state)
    state = load_state(path, device)

One safetensors file holds the tensors; which structures they belong to, and everything that is no tensor, is
JSON in its header.
"""

from pathlib import Path

import orjson
import torch

from syncl.errors import SynclError
from syncl.files import parse_json, read_tensors, write_tensors
from syncl.trackers.serialisation import put_together, take_apart
from syncl.trackers.state import TrackState

_FORMAT = "syncl-state-1"


def save_state(path: Path, state: TrackState) -> None:
    """Write a state in one step; the detector's memory is part of it."""
    content, tensors = take_apart(state)
    metadata = {"format": _FORMAT, "content": orjson.dumps(content).decode()}
    write_tensors(path, tensors, metadata)


def load_state(path: Path, device: torch.device | str = "cpu") -> TrackState:
    """The state that `save_state` wrote, with its tensors on `device`.

    Stepping on from it with the same model gives what stepping on without the detour gives, to the last bit.

    Raises:
        SynclError: if the file is missing, damaged, or no state that this version knows.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, "state file", device)
    if metadata.get("format") != _FORMAT:
        raise SynclError(f"{path}: a safetensors file, but not a tracker's state")
    return put_together(parse_json(metadata.get("content", ""), str(path)), tensors, str(path))
