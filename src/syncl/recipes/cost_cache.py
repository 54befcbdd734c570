"""Costs of models, remembered in the user's cache folder: counting all recipes anew takes half a minute."""

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import torch

from syncl.checkpoints.codec import encode_config
from syncl.errors import SynclError
from syncl.files import atomic_write
from syncl.progress import track
from syncl.recipes.cost import Cost, model_cost
from syncl.trackers.model import ModelConfig


def cache_file() -> Path:
    """`syncl/costs.json` in the cache folder that the platform or XDG_CACHE_HOME says."""
    if "XDG_CACHE_HOME" in os.environ:
        folder = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    else:
        folder = Path.home() / ".cache"
    return folder / "syncl" / "costs.json"


def model_costs(configs: Sequence[ModelConfig]) -> list[Cost]:
    """The cost of every model, counted unless this very code has counted it before.

    Where the cache cannot be read or written, costs are counted every time.
    """
    path, code = cache_file(), _code_digest()
    known = _read(path, code)
    names = [hashlib.sha256(orjson.dumps(encode_config(config))).hexdigest() for config in configs]
    wanted = {name: config for name, config in zip(names, configs, strict=True) if name not in known}
    if wanted:
        for name, config in track(wanted.items(), "counting operations", total=len(wanted)):
            known[name] = model_cost(config)
        _write(path, code, known)
    return [known[name] for name in names]


def _code_digest() -> str:
    """Text that changes with torch and with any file of this package."""
    root = Path(__file__).parents[1]
    files = [(str(path.relative_to(root)), path.stat()) for path in sorted(root.rglob("*.py"))]
    stamps = [[name, status.st_size, status.st_mtime_ns] for name, status in files]
    return hashlib.sha256(orjson.dumps([str(root), torch.__version__, stamps])).hexdigest()


def _read(path: Path, code: str) -> dict[str, Cost]:
    try:
        stored = orjson.loads(path.read_bytes())
        if stored["code"] != code:
            return {}
        return {name: Cost(int(cost[0]), int(cost[1])) for name, cost in stored["costs"].items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}


def _write(path: Path, code: str, costs: dict[str, Cost]) -> None:
    values = {name: [cost.parameters, cost.frame_flops] for name, cost in costs.items()}
    try:
        atomic_write(path, orjson.dumps({"code": code, "costs": values}))
    except (OSError, SynclError):
        # A cache that cannot be kept costs time only; the next call counts again.
        return
