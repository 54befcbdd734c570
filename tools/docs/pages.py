"""Pages of the documentation that are made from the code: recipes, commands, API."""

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import docstring_parser

import syncl
from syncl.commands.main import COMMANDS, command_function
from syncl.recipes import RECIPES
from syncl.recipes.cost import Cost, recipe_cost
from syncl.recipes.recipe import PaperResult, Recipe
from syncl.training.config import DataConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

ROOMS = (
    "geometry",
    "structures",
    "data",
    "data.nuscenes",
    "data.recording",
    "data.synthetic",
    "layers",
    "backbones",
    "detectors",
    "trackers",
    "training",
    "training.strategies.syncl",
    "evaluation",
    "rendering",
    "checkpoints",
    "recipes",
    "runs",
)
_FAMILIES = {
    "Small recipes for the synthetic world": lambda name: "synthetic" in name,
    "Detectors": lambda name: not name.startswith(("mutr3d", "pf-track")),
    "MUTR3D": lambda name: name.startswith("mutr3d"),
    "PF-Track": lambda name: name.startswith("pf-track"),
}
_RESULTS = ("amota", "amotp", "recall", "mota", "ids", "nds", "map")
_TITLES = ("AMOTA", "AMOTP", "recall", "MOTA", "IDS", "NDS", "mAP")


def recipes_page(cost_of: Callable[[str], Cost] = recipe_cost) -> str:
    """Every recipe: an overview for each family, then all facts of each."""
    every = {name: function() for name, function in RECIPES.items()}
    lines = [
        "# Every recipe",
        "",
        "A recipe is a model and how to train it: a Python function that returns typed settings. "
        "`syncl recipes` prints this list, `syncl recipes NAME` one of them; `--set` of "
        "[`syncl train`](commands.md#train) changes any single setting. Where a recipe has several "
        "strategies, `NAME_syncl` is `NAME` trained with SynCL; both names work wherever a recipe is named.",
        "",
        "GFLOPs are counted for one frame of all cameras, without tracks, a multiplication and an addition "
        "as two operations. **Results are the papers' own**, in percent (AMOTP in metres), on nuScenes' "
        "validation split; nothing here was measured on nuScenes by us.",
    ]
    left = dict(every)
    for title, belongs in _FAMILIES.items():
        family = {name: left.pop(name) for name in list(left) if belongs(name)}
        lines += ["", f"## {title}", "", *_overview(family, cost_of)]
        for name, recipe in family.items():
            lines += ["", *_recipe(recipe, cost_of(name))]
    return "\n".join(lines) + "\n"


def _ways(recipe: Recipe) -> list[Recipe]:
    """The recipe with each of its strategies."""
    return [recipe.trained_with(strategy) for strategy in recipe.strategies] or [recipe]


def _overview(family: dict[str, Recipe], cost_of: Callable[[str], Cost]) -> list[str]:
    with_paper = any(way.paper for recipe in family.values() for way in _ways(recipe))
    heads = ["recipe", "input", "M param", "GFLOPs", *(_TITLES if with_paper else ())]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for name, recipe in family.items():
        height, width = recipe.model.input.image_size
        cost = cost_of(name)
        for way in _ways(recipe):
            cells = [f"[`{way.name}`](#{name})", f"{height}x{width}", f"{cost.parameters / 1e6:.1f}"]
            cells.append(f"{cost.frame_flops / 1e9:.0f}")
            if with_paper:
                cells += _results(way.paper)
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _results(paper: PaperResult | None) -> list[str]:
    values = [None if paper is None else getattr(paper, name) for name in _RESULTS]
    return ["" if value is None else str(value) for value in values]


def _recipe(recipe: Recipe, cost: Cost) -> list[str]:
    training, ways = recipe.training, _ways(recipe)
    height, width = recipe.model.input.image_size
    start = " --init FILE" if recipe.starts_from else ""
    million, giga = cost.parameters / 1e6, cost.frame_flops / 1e9
    strategies = " or ".join(_strategy(way) for way in ways)
    facts = {
        "input": f"{height} x {width} pixels a camera, boxes in the {recipe.model.input.vehicle_frame} frame",
        "size and cost": f"{million:.1f} M parameters, {giga:.0f} GFLOPs a frame",
        "starts from": recipe.starts_from or "nothing",
        "training": f"{training.steps:,} steps, {_drawn(training.data)} a step and process, learning rate "
        f"{training.optimiser.learning_rate:g}, strategy {strategies}",
    }
    published = [f"{way.paper.source}: {_in_words(way.paper)}" for way in ways if way.paper is not None]
    if published:
        facts["published"] = "; ".join(published)
    return [
        f"### `{recipe.name}` {{ #{recipe.name} }}",
        "",
        f"{recipe.summary}.",
        "",
        *(f"- {title}: {text}" for title, text in facts.items()),
        "",
        "```bash",
        *(f"syncl train {way.name} --data DIR --output RUN{start}" for way in ways),
        "```",
    ]


def _drawn(data: DataConfig) -> str:
    """What a process draws a step, in words."""
    count, length = data.batch_size, data.clip_length
    if data.sampling == "clips":
        return f"{count} single frames" if length == 1 else f"{count} clips of {length} frames"
    return f"{count} windows of {length} frames" if data.sampling == "windows" else f"{count} {data.sampling}"


def _strategy(recipe: Recipe) -> str:
    strategy = recipe.training.strategy
    known = {BaselineConfig: "baseline", SynclConfig: "SynCL"}
    return known.get(type(strategy), type(strategy).__name__)


def _in_words(paper: PaperResult) -> str:
    names = (*_RESULTS, "fp", "fn")
    pairs = zip(names, (*_TITLES, "FP", "FN"))
    found = ((title, getattr(paper, name)) for name, title in pairs)
    return ", ".join(f"{title} {value}" for title, value in found if value is not None)


def commands_page() -> str:
    """Every command with all its options."""
    lines = [
        "# Every command",
        "",
        "Each command is a typed Python function of the same name, with the same options. "
        "`syncl COMMAND --help` prints what is below. A mistake of yours ends with status 2 and one message; "
        "nothing is overwritten without `--overwrite`.",
        "",
        "| command | what it does |",
        "|---|---|",
        *(f"| [`syncl {name}`](#{name}) | {command.summary} |" for name, command in COMMANDS.items()),
    ]
    for name in COMMANDS:
        lines += ["", *_command(name)]
    return "\n".join(lines) + "\n"


def _command(name: str) -> list[str]:
    function = command_function(name)
    parsed = docstring_parser.parse(inspect.getdoc(function) or "", docstring_parser.DocstringStyle.GOOGLE)
    described = {
        parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in parsed.params
    }
    hints = typing.get_type_hints(function, include_extras=True)
    positional, rows = [], []
    for parameter in inspect.signature(function).parameters.values():
        hint, label = _unwrapped(hints[parameter.name]), parameter.name.replace("_", "-").strip("-")
        text = _sentence(described.get(parameter.name, ""))
        if parameter.kind is parameter.POSITIONAL_ONLY:
            optional = parameter.default is not parameter.empty
            positional.append(f"[{label.upper()}]" if optional else label.upper())
            rows.append(f"| `{label.upper()}` | {'' if optional else 'required'} | {text} |")
        else:
            rows.append(f"| {_option(label, hint)} | {_default(parameter)} | {text} |")
    lines = [
        f"## `syncl {name}` {{ #{name} }}",
        "",
        f"    syncl {' '.join([name, *positional])} [options]",
        "",
    ]
    lines += [" ".join((parsed.short_description or "").split()), ""]
    if parsed.long_description:
        lines += [parsed.long_description, ""]
    return [*lines, "| option | default | |", "|---|---|---|", *rows]


def _sentence(text: str) -> str:
    """With a capital, unless the first word has capitals of its own (nuScenes)."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.islower() else text


def _unwrapped(hint: object) -> object:
    """The type inside `Annotated` and `... | None`."""
    if typing.get_origin(hint) is typing.Annotated:
        return _unwrapped(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = (option for option in typing.get_args(hint) if option is not type(None))
        return _unwrapped(inner)
    return hint


def _option(label: str, hint: object) -> str:
    if hint is bool:
        return f"`--{label}`, `--no-{label}`"
    if typing.get_origin(hint) is typing.Literal:
        choices = ", ".join(f"`{choice}`" for choice in typing.get_args(hint))
        return f"`--{label}` {choices}"
    if typing.get_origin(hint) is tuple:
        return f"`--{label} {label.upper()} ...`"
    kinds = {Path: "PATH", int: "INT", float: "FLOAT", str: "TEXT"}
    return f"`--{label} {kinds[typing.cast(type, hint)]}`"


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is parameter.empty:
        return "required"
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`"


def page_of_source(place: str) -> str:
    """The page made from a file or folder inside `src/syncl`: `commands/train.py` is in commands.md."""
    folder, _, name = place.partition("/")
    if folder == "commands":
        return f"commands.md#{name.removesuffix('.py').replace('_', '-')}".removesuffix("#")
    if place == "recipes/":
        return "recipes.md"
    dotted = place.removesuffix(".py").strip("/").replace("/", ".")
    return f"api/{max((room for room in ROOMS if dotted.startswith(room)), key=len)}.md"


def api_pages() -> dict[str, str]:
    """One page a room, by the page's file name: every public module, from its docstrings."""
    pages = {f"{room}.md": _room(room) for room in ROOMS}
    return {"index.md": _functions(), **pages}


def _functions() -> str:
    lines = [
        "# `syncl`",
        "",
        "What `import syncl` offers. Importing is cheap; each function brings its own on first use.",
    ]
    for name in syncl.__all__:
        function = getattr(syncl, name)
        lines += ["", f"::: {function.__module__}.{name}", "    options:", "      heading_level: 2"]
    return "\n".join(lines) + "\n"


def _room(room: str) -> str:
    package = importlib.import_module(f"syncl.{room}")
    lines = [f"# `{room}`", "", inspect.getdoc(package) or ""]
    for module in _modules(package):
        lines += ["", f"::: {module}", "    options:", "      heading_level: 2"]
    return "\n".join(lines) + "\n"


def _modules(package: types.ModuleType) -> Iterator[str]:
    """Public modules of a package and of its packages that have no page of their own."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.ispkg and found.name.removeprefix("syncl.") not in ROOMS:
            yield from _modules(importlib.import_module(found.name))
        elif not found.ispkg and not found.name.rpartition(".")[2].startswith("_"):
            yield found.name
