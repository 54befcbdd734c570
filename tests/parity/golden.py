"""Golden outputs of the original implementations: reading, rebuilding weights and inputs, comparing.

A golden is a folder `<origin>/<name>` with `manifest.json` (parameter shapes, how inputs are made) and
`outputs.npz` (results). Weights and inputs are rebuilt from their names by the `fill.py` beside the origins.
Nothing here depends on seeds or sizes: they are read from the manifest.
"""

import importlib.util
import json
import re
from fnmatch import fnmatchcase
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TOLERANCE = 1e-4
Array = NDArray[Any]
# What the originals' constructors set, where a manifest gives neither a value nor an `sd_` entry.
_CODE_WEIGHTS = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2)
_SCALE = re.compile(r"fill_input(?:\('[^']*'\))?(?: scale=([\d.]+))?(?: name=(\w+))?")


class Golden:
    """One golden: `config`, `notes`, `outputs`, `state_dict()`, `input(name)` and `check(name, ours)`."""

    def __init__(self, root: Path, name: str, records: list[tuple[str, str, float, float]]) -> None:
        self.root, self.name, self._records = root, name, records
        self.manifest: dict[str, Any] = json.loads((root / name / "manifest.json").read_text())
        self.config: dict[str, Any] = self.manifest.get("config", {})
        self.notes: str = self.manifest.get("notes", "")
        self.seed: int = self.manifest["seed"]

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """Every array of `outputs.npz`: results, `in_<name>` inputs and `sd_<name>` parameter values."""
        with np.load(self.root / self.name / "outputs.npz") as archive:
            return {key: archive[key] for key in archive.files}

    @property
    def _fill(self) -> ModuleType:
        return _fill_module(self.root)

    def _filled_state(self, shapes: dict[str, list[int]]) -> dict[str, Array]:
        return {name: _parameter(self.root, name, tuple(shape), self.seed) for name, shape in shapes.items()}

    # Weights

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """The original's whole checkpoint, or its part below `prefix`, with the prefix cut off."""
        return {
            name.removeprefix(prefix): torch.from_numpy(values)
            for name, values in self._checkpoint.items()
            if name.startswith(prefix)
        }

    def extra_state_dict(self) -> dict[str, Tensor]:
        """Weights of further modules the golden uses (`extra_state_dict`), names without prefix."""
        filled = self._filled_state(self.manifest.get("extra_state_dict", {}))
        return {name: torch.from_numpy(values.copy()) for name, values in filled.items()}

    @cached_property
    def _checkpoint(self) -> dict[str, Array]:
        manifest = self.manifest
        filled = self._filled_state(manifest["state_dict"])
        changed = {name: values.copy() for name, values in filled.items()}
        for rule, change in self._rules():
            matched = 0
            for name in changed:
                if _matches(rule, name, changed[name].ndim):
                    changed[name] = self._changed(change, name, changed[name], filled)
                    matched += 1
            assert matched, f"{self.name}: rule {rule!r} of the manifest matches no parameter"
        for name in changed:
            if f"sd_{name}" in self.outputs:
                changed[name] = self.outputs[f"sd_{name}"].astype(changed[name].dtype)
        for alias, first in manifest.get("state_dict_tied_aliases", {}).items():
            changed[alias] = changed[first]
        for key in ("state_dict_constants", "state_dict_kept_at_constructor_default"):
            for name, values in manifest.get(key, {}).items():
                if values != "constructor":  # Its own, which only the original's constructor knows.
                    changed[name] = np.asarray(values, dtype=np.float32)
        return changed

    def _rules(self) -> list[tuple[str, str | float]]:
        """All exceptions to the plain fill, in the order they apply: (which parameters, what is done)."""
        rules: list[tuple[str, str | float]] = []
        gain = self.manifest.get("weight_gain")
        if gain:
            rules.append((gain["where"], gain["factor"]))
        rules += self.manifest.get("parameter_overrides", {}).items()
        for which, value in self.manifest.get("state_dict_scale", {}).items():
            name, _, how = which.partition(" (")
            change = {
                "": value,
                "added)": f"fill {value:+}",
                "sigmoid of scaled)": f"sigmoid({value} * fill)",
            }
            rules.append((name, change[how]))
        overrides = self.manifest.get("state_dict_overrides", {})
        if isinstance(overrides, str):
            overrides = self._sibling(overrides).manifest["state_dict_overrides"]
        for patterns, change in overrides.items():
            rules += [(pattern.strip(), change) for pattern in patterns.split(",")]
        return rules

    def _sibling(self, reference: str) -> "Golden":
        found = re.fullmatch(r"as in (\w+)", reference)
        assert found, f"{self.name}: cannot read {reference!r} in the manifest"
        origin = self.name.rsplit("/", 1)[0]
        return Golden(self.root, f"{origin}/{found[1]}", self._records)

    def _changed(self, change: str | float, name: str, values: Array, filled: dict[str, Array]) -> Array:
        if isinstance(change, int | float):
            return values * np.float32(change)
        if "constructor constant" in change:
            return self._constructor_constant(name, values.shape)
        if "index 0" in change:
            return filled[re.sub(r"^((?:\w+\.)*?\w+branches)\.\d+\.", r"\1.0.", name)]
        number = r"([\d.]+)"
        expression = change.split("(so that")[0].strip().replace(" ", "")
        if found := re.fullmatch(rf"fill\*{number}|{number}\*fill", expression):
            return values * np.float32(found[1] or found[2])
        if found := re.fullmatch(rf"fill([+-]){number}", expression):
            return values + np.float32(found[1] + found[2])
        if found := re.fullmatch(rf"sigmoid\((?:{number}\*)?fill\)", expression):
            return _sigmoid(values * np.float32(found[1] or 1))
        raise AssertionError(f"{self.name}: cannot read the change {change!r} of {name}")

    def _constructor_constant(self, name: str, shape: tuple[int, ...]) -> Array:
        if f"sd_{name}" in self.outputs:
            return self.outputs[f"sd_{name}"]
        overrides = self.manifest["state_dict_overrides"]
        if isinstance(overrides, str):
            return self._sibling(overrides)._constructor_constant(name, shape)
        assert name.endswith("code_weights"), f"{self.name}: no value for the constant {name}"
        return np.asarray(_CODE_WEIGHTS, dtype=np.float32)

    # Inputs

    def input(self, name: str) -> Tensor:
        """The input `name` of the manifest (or `in_<name>` of the archive), as a tensor.

        For the plain cases: stored, `fill_input` with a scale, `sigmoid(fill_input ...)` and zeros. Inputs
        described in words beyond that are built by the test from `filled`.
        """
        key = f"in_{name.removeprefix('in_')}"
        if key in self.outputs:
            return torch.from_numpy(self.outputs[key])
        entry = self.manifest["inputs"][name]
        how = re.sub(r" ?\(.*\)$", "", entry["how"]) if "('" not in entry["how"] else entry["how"]
        shape = tuple(entry["shape"])
        if how == "zeros":
            return torch.zeros(shape)
        inner = re.fullmatch(r"sigmoid\((.*)\)", entry["how"])
        found = _SCALE.fullmatch(inner[1] if inner else how)
        assert found, f"{self.name}: the test must build input {name!r} itself: {entry['how']!r}"
        values = self.filled(found[2] or name, shape, float(found[1] or 1))
        return values.sigmoid() if inner else values

    def filled(self, name: str, shape: tuple[int, ...] | None = None, scale: float = 1.0) -> Tensor:
        """`fill_input(name, shape, scale)` with this golden's seed; the manifest's shape by default."""
        if shape is None:
            shape = tuple(self.manifest["inputs"][name]["shape"])
        return torch.from_numpy(self._fill.fill_input(name, shape, self.seed, scale))

    # Comparison

    def check(self, name: str, ours: Tensor | Array, tolerance: float = TOLERANCE) -> None:
        """Compare `ours` with output `name`; see `compare`."""
        self.compare(name, ours, self.outputs[name], tolerance)

    def compare(
        self, label: str, ours: Tensor | Array, golden: Tensor | Array, tolerance: float = TOLERANCE
    ) -> None:
        """Fail unless shapes agree and ||ours - golden|| <= tolerance ||golden|| (integers: all equal)."""
        theirs, mine = _array(golden), _array(ours)
        assert mine.shape == theirs.shape, f"{self.name} {label}: shape {mine.shape}, golden {theirs.shape}"
        if theirs.dtype.kind in "biu":
            different = int((mine != theirs).sum())
            self._records.append((self.name, label, float(different), 0.0))
            assert not different, f"{self.name} {label}: {different} of {theirs.size} integers differ"
            return
        error = relative_error(mine, theirs)
        self._records.append((self.name, label, error, tolerance))
        assert error <= tolerance, f"{self.name} {label}: relative error {error:.2e} > {tolerance:.0e}"


@cache
def _fill_module(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", root / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1024)
def _parameter(root: Path, name: str, shape: tuple[int, ...], seed: int) -> Array:
    """What goldens of one backbone have in common, drawn once; not to be changed."""
    values: Array = _fill_module(root).fill_parameter(name, shape, seed)
    return values


def relative_error(ours: Array, golden: Array) -> float:
    """||ours - golden|| / ||golden||; infinite where one is finite and the other is not."""
    ours, golden = ours.astype(np.float64), golden.astype(np.float64)
    finite = np.isfinite(golden)
    if (
        not np.array_equal(ours[~finite], golden[~finite], equal_nan=True)
        or not np.isfinite(ours[finite]).all()
    ):
        return float("inf")
    difference = float(np.linalg.norm(ours[finite] - golden[finite]))
    size = float(np.linalg.norm(golden[finite]))
    return difference / size if size else difference


def discover(root: Path, origin_and_name: str = "*/*") -> list[str]:
    """Names of the goldens in `root` whose `<origin>/<name>` fits the pattern."""
    return sorted(
        str(path.parent.relative_to(root)) for path in root.glob(f"{origin_and_name}/manifest.json")
    )


def _matches(rule: str, name: str, rank: int) -> bool:
    """Whether a manifest's description of parameters fits `name`; descriptions in words are of two forms."""
    if found := re.fullmatch(r"(\S+)\.\* (?:rank-(\d) parameters|parameters of rank (\d)) .*\.ese\..*", rule):
        return name.startswith(found[1] + ".") and rank == int(found[2] or found[3]) and ".ese." not in name
    if found := re.fullmatch(r"every parameter ending in (\S+)", rule):
        return name.endswith(found[1])
    pattern = rule.replace(".i.", ".*.")
    assert " " not in pattern, f"cannot read {rule!r} in a manifest"
    return fnmatchcase(name, pattern)


def _sigmoid(values: Array) -> Array:
    return torch.from_numpy(values).sigmoid().numpy()


def _array(values: Tensor | Array) -> Array:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
