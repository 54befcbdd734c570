"""The documentation's code runs, its command lines parse, its generated pages are complete."""

import builtins
import dis
import functools
import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType

import pytest
import tyro
import yaml

from syncl.checkpoints.model_file import load_model
from syncl.commands.main import COMMANDS, command_function
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.recording import write_recording
from syncl.recipes import RECIPES, resolve_recipe
from syncl.recipes.cost import Cost
from syncl.runs.track.reports import Reports
from syncl.runs.track.run import track_to_file

from .documented import PAGES, ROOT, command_lines, inline_commands, load_module, runnable_blocks

DEMO = ROOT / "src" / "syncl" / "models" / "demo.safetensors"
RUNNABLE = [page for page in PAGES if runnable_blocks(page)]
LINES = [(page.name, line) for page in PAGES for line in command_lines(page)]
generated = load_module(ROOT / "tools" / "docs" / "pages.py")


@pytest.fixture(scope="module")
def place(small_world, tmp_path_factory) -> Path:
    """A folder with all that the pages take for granted."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(small_world, folder / "world")
    shutil.copy(DEMO, folder / "model.safetensors")
    (folder / "runs" / "tracker").mkdir(parents=True)
    shutil.copy(DEMO, folder / "runs" / "tracker" / "model.safetensors")
    index = open_nuscenes(folder / "world", "v1.0-mini")
    frames = SceneStream(index, "scene-0103", ImageOptions((128, 352)))
    write_recording(list(frames), folder / "my_rig")
    track_to_file(load_model(DEMO), index, ("scene-0103",), Reports(folder / "results.json", quiet=True))
    return folder


def test_there_is_something_to_test():
    assert len(RUNNABLE) >= 7 and len(LINES) >= 40


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_runnable_blocks_run(place, page, monkeypatch):
    """All of a page's blocks, one after another, as a reader would paste them."""
    monkeypatch.chdir(place)
    index = open_nuscenes(place / "world", "v1.0-mini")
    names: dict[str, object] = {
        "frame": next(iter(SceneStream(index, "scene-0103", ImageOptions((128, 352)))))
    }
    for number, block in enumerate(runnable_blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def global_names(code: CodeType) -> set[str]:
    """What code, and all functions in it, looks up beyond its own variables."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return found.union(*(global_names(part) for part in code.co_consts if isinstance(part, CodeType)))


@pytest.mark.parametrize("name", ["detector", "tracker", "strategy", "dataset"])
def test_the_snippets_of_a_how_to_page_together_are_a_module(name, monkeypatch):
    """Copied one after another, they lack nothing."""
    page = (ROOT / "docs" / f"add-{name}.md").read_text()
    example = (ROOT / "examples" / f"add_{name}.py").read_text()
    text = ""
    for part in re.findall(rf'--8<-- "examples/add_{name}\.py:(\w+)"', page):
        text += example.split(f"# --8<-- [start:{part}]\n")[1].split(f"# --8<-- [end:{part}]")[0]
    module = ModuleType("copied")
    monkeypatch.setitem(sys.modules, "copied", module)
    code = compile(text, f"add-{name}.md", "exec")
    exec(code, vars(module))
    assert global_names(code) <= {*vars(module), *vars(builtins)}


def parsed_only(function: Callable[..., object]) -> Callable[..., dict[str, object]]:
    """A function that takes the same arguments and returns them."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def returned(*arguments: object, **options: object) -> dict[str, object]:
        return dict(signature.bind(*arguments, **options).arguments)

    return returned


@pytest.mark.parametrize(("page", "line"), LINES)
def test_command_lines_are_understood(page, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (own,) = re.findall(r"```yaml\n(base: .*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    (tmp_path / "my.yaml").write_text(own)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    name, *arguments = shlex.split(line, comments=True)
    assert name in COMMANDS, f"{page}: there is no command {name!r}"
    try:
        given = tyro.cli(parsed_only(command_function(name)), args=arguments)
    except SystemExit:
        pytest.fail(f"{page}: syncl {line}\n{capsys.readouterr().err}")
    if name == "train" or given.get("recipe"):
        resolve_recipe(given["recipe"], given.get("strategy"), False, given.get("set", ()))


def test_options_named_in_sentences_exist():
    for page in PAGES:
        for name, options in inline_commands(page):
            assert name in COMMANDS, f"{page.name}: `syncl {name}`"
            known = set(inspect.signature(command_function(name)).parameters)
            known = {option.strip("_").replace("_", "-") for option in known} | {"help"}
            known |= {f"no-{option}" for option in known}
            assert set(options) <= known, f"{page.name}: `syncl {name}` has no {set(options) - known}"


def test_the_first_page_has_the_readmes_two_commands():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    page = (ROOT / "docs" / "index.md").read_text()
    assert all(command in page for command in commands)


def test_the_recipes_page_has_every_recipe_and_quotes_the_papers():
    page = generated.recipes_page(lambda name: Cost(2_000_000, 3_000_000_000))
    sections = {part.split("`", 1)[0]: part for part in page.split("### `")[1:]}
    assert sections.keys() == RECIPES.keys()
    for name, section in sections.items():
        recipe = RECIPES[name]()
        assert "2.0 M parameters, 3 GFLOPs" in section and (recipe.starts_from or "nothing") in section
        ways = [recipe.trained_with(strategy) for strategy in recipe.strategies] or [recipe]
        assert all(f"syncl train {way.name} " in section for way in ways)
        papers = [way.paper for way in ways if way.paper is not None]
        assert ("published" in section) == bool(papers)
        for paper in papers:
            assert f"{paper.source}:" in section
            assert paper.amota is None or f"AMOTA {paper.amota}" in section


def test_the_commands_page_has_every_option():
    page = generated.commands_page()
    for name in COMMANDS:
        section = page.split(f"{{ #{name} }}")[1].split("\n## ")[0]
        for parameter in inspect.signature(command_function(name)).parameters.values():
            label = parameter.name.strip("_").replace("_", "-")
            positional = parameter.kind is parameter.POSITIONAL_ONLY
            row = re.search(
                rf"^\| `{label.upper() if positional else '--' + label}\b.*$", section, re.MULTILINE
            )
            assert row is not None, f"syncl {name}: {label}"
            assert row[0].rstrip(" |").split("|")[-1].strip(), f"syncl {name} --{label} says nothing"


def test_every_module_is_in_the_api_and_every_page_in_the_nav():
    pages = generated.api_pages()
    shown = set(re.findall(r"^::: (\S+)", "\n".join(pages.values()), re.MULTILINE))
    rooms = {room.split(".")[0] for room in generated.ROOMS}
    modules = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for room in rooms
        for path in (ROOT / "src" / "syncl" / room).rglob("*.py")
        if not path.name.startswith("_")
    }
    assert modules and modules <= shown
    nav = (ROOT / "mkdocs.yml").read_text()
    assert all(f"api/{name}" in nav for name in pages)
    assert all(page.name in nav for page in PAGES if page.parent == ROOT / "docs")


def test_the_site_fetches_nothing_by_its_settings():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False and settings["strict"] is True
    added = [*settings.get("extra_css", ()), *settings.get("extra_javascript", ())]
    assert not any("//" in str(entry) for entry in added)


def test_drawings_can_be_made_anew_and_are_small(tmp_path):
    drawings = load_module(ROOT / "tools" / "docs" / "drawings.py")
    for path in drawings.draw(tmp_path):
        committed = ROOT / "docs" / "images" / path.name
        assert 5_000 < path.stat().st_size < 150_000 and committed.stat().st_size < 150_000
        assert any(f"images/{path.name}" in page.read_text() for page in PAGES), f"nobody shows {path.name}"


def test_quirks_point_at_code_that_is_there():
    paths = re.findall(r"`([a-z0-9_/]+\.py)`", (ROOT / "docs" / "quirks.md").read_text())
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / "src" / "syncl" / path).is_file()] == []
