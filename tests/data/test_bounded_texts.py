"""YAML and JSON of strangers: aliases, depth and digits are bounded, and refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from syncl.data.features import FeatureStore
from syncl.data.json_stream import convert_results
from syncl.data.nuscenes.results.result_files import read_frame_objects
from syncl.data.nuscenes.splits import _custom_scenes
from syncl.data.nuscenes.tables.table_files import Field, read_table
from syncl.data.yaml_node import read_yaml
from syncl.errors import SynclError
from syncl.files import parse_json
from syncl.recipes import find_recipe
from syncl.recipes.resolving import apply_changes
from syncl.rendering.report.run_files import _object
from syncl.runs.experiment.plan import read_plan
from syncl.runs.experiment.run_records import read_records
from syncl.training.resuming import checkpoint_step

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
YAML = {
    "aliases": (LAUGHS, r"line \d+: too much is repeated"),
    "itself": ("a: &a [*a]", "nested more than 32 deep"),
    "depth": ("[" * 100 + "]" * 100, "nested more than 32 deep"),
    "great depth": ("[" * 100_000, "not valid YAML|nested more than 32 deep"),
    "digits": (f"a: {'9' * 5000}", "no number or date"),
    "date": ("a: 2020-13-45", "no number or date"),
}
JSON = {
    "depth": "[" * 100 + "1" + "]" * 100,
    "great depth": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 100 + "1" + "}" * 100,
    "digits": "9" * 5000,
    "digits inside": f'{{"results": {{"a": [{"9" * 5000}]}}, "b": NaN}}',
    "depth inside": f'{{"results": {{"a": {"[" * 100_000}{"]" * 100_000}}}}}',
}


def table(path: Path) -> object:
    return read_table(path.parent, path.stem, [Field("token", "text")])


def records(path: Path) -> object:
    (path.parent / "results").mkdir()
    path.rename(path.parent / "results" / "a_seed0.json")
    return read_records(path.parent)


def features(path: Path) -> object:
    path.rename(path.parent / "features.json")
    return FeatureStore(path.parent)


def step(path: Path) -> object:
    path.rename(path.parent / "progress.json")
    return checkpoint_step(path.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "any": parse_json,
    "official metrics": lambda path: parse_json(path, nan=True),
    "table": table,
    "results to draw": read_frame_objects,
    "results to score": lambda path: convert_results(path, dict),
    "plan": read_plan,
    "series": records,
    "features": features,
    "splits": lambda path: _custom_scenes("mine", path, {}),
    "report": _object,
    "progress": step,
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_is_bounded(tmp_path: Path, kind: str) -> None:
    text, message = YAML[kind]
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    with pytest.raises(SynclError, match=rf"rig\.yaml: ?.*{message}"):
        read_yaml(path)


def test_yaml_may_repeat_a_calibration(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("a: &k [1, 2]\nb: *k\n")
    assert read_yaml(path).value == {"a": [1, 2], "b": [1, 2]}


def test_numbers_beyond_any_float_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    for digits in ("9" * 400, f"0x{'f' * 9000}"):
        path.write_text(f"a: {digits}")
        with pytest.raises(SynclError, match="expected a finite number"):
            read_yaml(path).entries()["a"].number()


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("reader", READERS)
def test_json_is_bounded(tmp_path: Path, reader: str, kind: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(JSON[kind])
    with pytest.raises(SynclError, match=r"\.json"):
        READERS[reader](path)


def test_settings_are_bounded() -> None:
    for text in JSON.values():
        with pytest.raises(SynclError, match=r"training\.steps"):
            apply_changes(find_recipe("petr_synthetic"), (f"training.steps={text}",))
