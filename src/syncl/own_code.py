"""Code of your own that commands know: `syncl --with my_detector.py track runs/mine ...`.

Files of models and recipes name configuration classes and never say what to import; whoever starts a command
says so.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

from syncl.errors import SynclError

_imported: dict[str, ModuleType] = {}  # files, by the names that their modules have
_taken: dict[str, ModuleType] = {}  # by what was given, files with their whole paths
_classes: dict[type, None] = {}


def take_in(name: str) -> None:
    """Let files name the dataclasses of a module of your own, and call its `register()` where it has one.

    Args:
        name: a file (`my_detector.py`), or a module that can be imported (`my_package.detector`).

    Raises:
        SynclError: it cannot be imported, with the reason and the line.
    """
    place = str(Path(name).resolve()) if name.endswith(".py") else name
    if place in _taken:
        return
    module = import_code(name)
    # Those that it imported from a file beside it too.
    of_package = f"{__package__}."
    _classes.update(
        (item, None)
        for item in vars(module).values()
        if isinstance(item, type) and is_dataclass(item) and not item.__module__.startswith(of_package)
    )
    register = getattr(module, "register", None)
    if callable(register):
        register()
    _taken[place] = module


def own_classes() -> tuple[type, ...]:
    """Dataclasses of all that was taken in."""
    return tuple(_classes)


def own_options() -> list[str]:
    """What makes a command in a process of its own know the same."""
    return [word for place in _taken for word in ("--with", place)]


def options_for(classes: Iterable[type]) -> list[str] | None:
    """What makes commands know these classes beside all that was taken in, as one would type it.

    None where no command can: a class was made in a notebook or typed in.
    """
    places = dict.fromkeys(map(_as_typed, _taken))
    for cls in classes:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        if file is None:
            return None
        places[cls.__module__ if "." in cls.__module__ else _as_typed(file)] = None
    return [word for place in places for word in ("--with", place)]


def _as_typed(place: str) -> str:
    """A file as seen from here; a module's name as it is."""
    path = Path(place)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else place


def import_code(name: str) -> ModuleType:
    """A module by its name, or of a file, which finds modules beside it.

    A file that was taken in is not run again.

    Raises:
        SynclError: there is none, Python has another module of the file's name, or its code fails.
    """
    try:
        return _module_of_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except SynclError:
        raise
    except Exception as error:
        raise SynclError(f"{name}: {failure(error)}") from error


def failure(error: Exception) -> str:
    """What failed in code of somebody's own, and in which line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}, line {last.lineno}"
    return f"the code there fails: {type(error).__name__}: {error} ({where})"


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SynclError(f"{path}: there is no such file")
    name, whole = path.stem, path.resolve()
    known = sys.modules.get(name)
    if known is not None and (known is not _imported.get(name) or known in _taken.values()):
        if Path(known.__file__ or "").resolve() == whole:
            return known
        raise SynclError(f"{path}: Python has another module called {name!r}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SynclError(f"{path}: Python cannot load this file")
    if str(whole.parent) not in sys.path:
        sys.path.append(str(whole.parent))
    module = importlib.util.module_from_spec(spec)
    # Data classes and pickled workers look their module up by name.
    _imported[name] = sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del _imported[name], sys.modules[name]
        raise
    return module
