"""Code of one's own that commands know by `--with`."""

import sys
from pathlib import Path

import pytest

from syncl import own_code
from syncl.checkpoints.codec import decode_config, encode_config
from syncl.checkpoints.model_file import MODEL_TYPES
from syncl.commands.main import main
from syncl.errors import SynclError
from syncl.own_code import import_code, options_for, own_classes, own_options, take_in
from syncl.recipes import resolve_recipe
from syncl.recipes.recipe import own_types

CODE = (
    "from dataclasses import dataclass, replace\n"
    "from syncl.recipes import find_recipe\n"
    "from syncl.trackers import Mutr3dConfig\n"
    "{more}"
    "@dataclass(frozen=True)\n"
    "class {name}(Mutr3dConfig):\n    patience: int = 3\n"
    "def mine():\n"
    "    base = find_recipe('mutr3d_petr_synthetic')\n"
    "    return replace(base, name='mine', model=replace(base.model, tracker={name}(heads=4)))\n"
    "called = []\n"
    "def register():\n    called.append(1)\n"
)


@pytest.fixture(autouse=True)
def as_if_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken in before or after a test."""
    for name in ("_imported", "_taken", "_classes"):
        monkeypatch.setattr(own_code, name, {})
    monkeypatch.setattr(sys, "path", list(sys.path))


def written(folder: Path, name: str, more: str = "") -> Path:
    """A file of somebody's own with a tracker's configuration called `name`."""
    path = folder / f"{name.lower()}_code.py"
    path.write_text(CODE.format(name=name, more=more))
    return path


def test_files_may_name_the_classes_of_what_was_taken_in(tmp_path: Path):
    path = written(tmp_path, "Patient")
    config = import_code(str(path)).Patient(patience=7)
    with pytest.raises(SynclError, match=r"unknown configuration type 'Patient'.*syncl --with FILE\.py"):
        decode_config(encode_config(config), object, MODEL_TYPES, "here")
    take_in(str(path))
    read = decode_config(encode_config(config), object, MODEL_TYPES, "here")
    assert type(read).__name__ == "Patient" and read.patience == 7
    # The library's own, which it imported, are not its.
    assert [cls.__name__ for cls in own_classes()] == ["Patient"]
    assert own_options() == ["--with", str(path)]


def test_what_was_taken_in_is_run_once_and_registers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path, "Once")
    take_in(str(path))
    monkeypatch.chdir(tmp_path)
    take_in(path.name)
    assert import_code(str(path)).called == [1] and len(own_classes()) == 1
    # The recipe's class is the same one, so that files that name it can be read.
    recipe = resolve_recipe(f"{path.name}:mine")
    assert type(recipe.model.tracker) is own_classes()[0]
    assert options_for([type(recipe.model.tracker)]) == ["--with", path.name]


def test_code_finds_modules_beside_it(tmp_path: Path):
    written(tmp_path, "Beside")
    path = tmp_path / "of_two_files.py"
    path.write_text("from beside_code import Beside, mine\n")
    take_in(str(path))
    assert [cls.__name__ for cls in own_classes()] == ["Beside"]
    assert resolve_recipe(f"{path}:mine").model.tracker.patience == 3


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("broken_code", "x = 1\n1 / 0\n", r"fails: ZeroDivisionError: .*\(broken_code\.py, line 2\)"),
        ("json", "x = 1\n", r"json\.py: Python has another module called 'json'; rename the file"),
        ("missing_code", None, r"missing_code\.py: there is no such file"),
    ],
)
def test_code_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys, name: str, code: str | None, message: str
):
    path = tmp_path / f"{name}.py"
    if code is not None:
        path.write_text(code)
    before = sys.modules.get(name)
    with pytest.raises(SynclError, match=message):
        take_in(str(path))
    assert sys.modules.get(name) is before
    with pytest.raises(SystemExit) as ended:
        main(["--with", str(path), "info"])
    assert ended.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_a_command_writes_and_reads_recipes_that_name_own_classes(tmp_path: Path, capsys):
    path, yaml = written(tmp_path, "Written"), tmp_path / "mine.yaml"
    main([f"--with={path}", "recipes", f"{path}:mine", "--write", str(yaml)])
    assert f"syncl --with {path} train {yaml}" in capsys.readouterr().out
    assert resolve_recipe(str(yaml), changes=("model.tracker.patience=9",)).model.tracker.patience == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--with", "x.py"], "--with comes before the command: syncl --with FILE.py info"),
        (["--with"], "name a file of your own code"),
        (["--with", "x.py"], "name a file of your own code"),
    ],
)
def test_where_it_stands(arguments: list[str], message: str, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_a_class_that_extends_the_librarys_is_ones_own(tmp_path: Path):
    path = written(tmp_path, "Extended")
    recipe = resolve_recipe(f"{path}:mine")
    assert [cls.__name__ for cls in own_types(recipe)] == ["Extended"]
    assert own_types(resolve_recipe("mutr3d_petr_synthetic")) == ()
