"""What the tests of the documentation share: its pages, and the code in them."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_COMMAND = re.compile(r"(?:(?:torchrun|accelerate launch)\b.*-m )?syncl (?:--with \S+ )?(?!COMMAND)(.+)")


def load_module(path: Path) -> ModuleType:
    """A module from a file outside all packages."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def runnable_blocks(page: Path) -> list[str]:
    """The fenced Python blocks behind `<!-- runnable -->`."""
    return re.findall(r"<!-- runnable -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)


def command_lines(page: Path) -> Iterator[str]:
    """What stands behind `syncl` on every line of code, fenced or indented; synopses are left out."""
    fenced = False
    for line in page.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        found = _COMMAND.match(line.strip())
        code = fenced or line.startswith("    ")
        if found and code and not re.search(r"\[|\.\.\.|\bFORMAT\b", line):
            yield found[1]


def inline_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Commands with the options named in `inline code` of a page."""
    for name, rest in re.findall(r"`syncl (?:--with [^\s`]+ )?([a-z][a-z-]*)\b([^`]*)`", page.read_text()):
        yield name, re.findall(r"--([a-z-]+)", rest)
