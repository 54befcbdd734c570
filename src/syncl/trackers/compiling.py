"""What torch.compile needs beside torch, and where it keeps what it made."""

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.files import check_output

_COMPILERS = ("g++", "clang++", "c++")


def prepare_to_compile(device: torch.device | str) -> Path:
    """Make sure that this machine can compile, and say where compiled code is kept between runs.

    The folder is `TORCHINDUCTOR_CACHE_DIR`, by default `syncl/compiled` in the user's cache folder.

    Args:
        device: that the code is for.

    Raises:
        SynclError: there is no C++ compiler, or no Triton for a GPU; or that folder cannot be written.
    """
    chosen = os.environ.get("CXX", "")
    if not any(shutil.which(name) for name in ((chosen,) if chosen else _COMPILERS)):
        raise SynclError(
            f"--compile: needs a C++ compiler, and there is no {chosen or ', '.join(_COMPILERS)}; install "
            "one (apt install g++), name yours in CXX, or leave --compile out"
        )
    if torch.device(device).type == "cuda" and find_spec("triton") is None:
        raise SynclError("--compile: needs Triton for a GPU: pip install triton, or leave --compile out")
    cache = _cache()
    try:
        check_output(cache, True, "folder")
    except SynclError as error:
        raise SynclError(
            f"--compile: compiled code cannot be kept: {error}; TORCHINDUCTOR_CACHE_DIR names it"
        ) from error
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    return cache


def _cache() -> Path:
    """Where compiled code is kept between runs."""
    named = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    # Importing torch's compiler puts its own choice there, torchinductor_USER among temporary files, as if
    # somebody had.
    torchs = (
        named.name.startswith("torchinductor_") and named.parent == Path(tempfile.gettempdir()).absolute()
    )
    if named.name and not torchs:
        return named
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "syncl" / "compiled"


def compile_parts(detector: Detector, device: torch.device | str) -> None:
    """Compile what a training spends its time in: backbone, neck, and each decoder layer.

    They are compiled when they first run, forwards and backwards; names of modules and weights stay.

    Args:
        detector: changed.
        device: that it will train on.

    Raises:
        SynclError: see `prepare_to_compile`.
    """
    prepare_to_compile(device)
    encoder = getattr(detector, "image_encoder", None)
    parts = [] if encoder is None else [encoder.backbone, encoder.neck]
    for part in (*parts, *detector.layers):
        part.compile()
