"""What `import syncl` offers, and that it stays that way."""

import inspect
import subprocess
import sys

import pytest

import syncl
from syncl.commands.main import COMMANDS


def test_the_public_functions():
    assert syncl.__all__ == [
        "check_rig",
        "convert",
        "demo",
        "diagnose",
        "evaluate",
        "experiment",
        "export",
        "generate",
        "info",
        "load",
        "models",
        "open_recording",
        "open_rig",
        "plot",
        "prepare",
        "profile",
        "recipes",
        "render",
        "report",
        "track",
        "train",
        "train_motion",
    ]
    for name in syncl.__all__:
        function = getattr(syncl, name)
        assert callable(function) and function.__name__ == name and inspect.getdoc(function)


def test_every_command_is_a_function_of_the_package_that_says_what_it_returns():
    names = {name.replace("-", "_") for name in COMMANDS}
    assert names == {*syncl.__all__} - {"load", "open_recording", "open_rig"}
    for name in names:
        function = getattr(syncl, name)
        assert function.__module__ == f"syncl.commands.{name}"
        assert function.__annotations__["return"] not in (None, "None")
        assert "Returns:" in inspect.getdoc(function)


def test_public_names_are_completed_without_importing_anything_heavy():
    code = "import sys, syncl; print(set(syncl.__all__) <= set(dir(syncl)), 'torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["True", "False"]


ORDERS = (
    "import syncl.recipes",
    "from syncl.recipes import RECIPES; from syncl.recipes.registry import find_recipe",
    "import syncl.commands.recipes",
    "syncl.recipes; import syncl.recipes.registry",
    "import importlib; importlib.import_module('syncl.recipes.cost')",
)


@pytest.mark.parametrize("imports", ORDERS)
def test_the_command_keeps_its_name_beside_the_folder_of_recipes(imports, monkeypatch):
    """In every order of imports, each as if in a new interpreter, but for rooms that matter not."""
    fresh = ("syncl.recipes", "syncl.commands", "syncl.runs")
    for name in [name for name in sys.modules if name == "syncl" or name.startswith(fresh)]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    try:
        space = {}
        exec(f"import syncl; {imports}; from syncl.recipes import find_recipe as found", space)
        assert space["syncl"].recipes.__module__ == "syncl.commands.recipes"
        assert space["found"]("detr3d_synthetic").name == "detr3d_synthetic"
        assert sys.modules["syncl.recipes"].__name__ == "syncl.recipes"
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = syncl.nonsense
