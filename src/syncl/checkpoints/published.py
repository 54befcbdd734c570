"""Reading and writing checkpoint files of the original code bases (pickles made by `torch.save`)."""

import io
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.files import atomic_write, refuse_what_is_no_download, refuse_what_is_no_file

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_MODULE = "module."


class _NumpyType:
    """What stands in for numpy's types: their own code for reading themselves crashes on damaged files."""

    def __init__(self, *said: object) -> None:
        """Whatever the file says of it is left unread."""

    def __setstate__(self, state: object) -> None:
        """See `__init__`."""


def _numpy_number(*_said: object) -> None:
    """What stands in for a number of numpy, which training code keeps beside weights: nothing."""


# Under the names of numpy 1 and 2.
_PLAIN: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (_NumpyType, "numpy.dtype"),
    *((_numpy_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
_GLOBAL = re.compile(r"(?:GLOBAL|class|type|function) ([\w.]+\.[\w.]+)")
_OPERAND = re.compile(r"Unsupported operand \d+")
# A pickle may hold itself.
_MOST_WRAPPERS = 8
_DAMAGE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def read_published(path: Path) -> dict[str, Tensor]:
    """The parameters of a published checkpoint, without the wrappers that training code puts around them.

    Pickles can run code when they are opened; this opens them in torch's weights-only mode, which cannot.

    Raises:
        SynclError: if the file is missing, truncated, not a checkpoint, or holds more than data; or is no
            published one but a model file of our own.
    """
    refuse_what_is_no_file(path, "checkpoint")
    refuse_what_is_no_download(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            # Of pickle protocols, to be told to torch's makers.
            warnings.simplefilter("ignore", UserWarning)
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        # A byte that torch never writes: no pickle of its own, or none at all.
        if unknown := _OPERAND.search(text):
            raise _incomplete(
                path, ValueError(f"{unknown[0].lower()} is none that torch.save writes")
            ) from error
        if "global" in text.lower() or "weights_only" in text.lower():
            found = _GLOBAL.search(text)
            what = found.group(1) if found else text.splitlines()[0]
            raise SynclError(
                f"{path}: this pickle holds more than tensors, numbers and texts ({what}); it is not opened, "
                "because it could run code; save its state_dict alone with torch.save and convert that"
            ) from error
        raise _incomplete(path, error) from error
    except _DAMAGE as error:
        raise _incomplete(path, error) from error
    return parameters(content, str(path))


def parameters(content: object, source: str) -> dict[str, Tensor]:
    """The parameters in what a checkpoint file held: wrappers and `module.` prefixes removed.

    Raises:
        SynclError: if there are none.
    """
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        inner = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise SynclError(
            f"{source}: there are no parameters in it; expected a state_dict or one wrapped in a dict"
        )
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        keys = ", ".join(map(str, list(content)[:5]))
        raise SynclError(f"{source}: there are no tensors in it (its entries are {keys})")
    while all(name.startswith(_MODULE) for name in weights):
        weights = {name.removeprefix(_MODULE): tensor for name, tensor in weights.items()}
    return weights


def write_published(path: Path, weights: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """Write parameters the way mmcv's checkpoint loader reads them: `{"meta": ..., "state_dict": ...}`."""
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in weights.items()}
    # Into memory first: torch's own messages about full disks speak of positions in a file.
    content = io.BytesIO()
    torch.save({"meta": dict(meta), "state_dict": tensors}, content)
    atomic_write(path, content.getvalue())


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            own = (file.metadata() or {}).get("format") == "syncl-model-1"
        if own:
            raise SynclError(f"{path}: is a model file of syncl's own already; commands take it as it is")
        return parameters(load_file(path), str(path))
    except SafetensorError as error:
        raise _incomplete(path, error) from error


def _incomplete(path: Path, error: Exception) -> SynclError:
    reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return SynclError(
        f"{path} ({path.stat().st_size} bytes): truncated, or not a checkpoint ({reason}); download it again"
    )
