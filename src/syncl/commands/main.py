"""The `syncl` command: a table of plain typed functions, one a command."""

import importlib
import inspect
import os
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from syncl import __version__
from syncl.allocation import keep_freed_memory
from syncl.errors import SynclError, did_you_mean, system_error
from syncl.interrupts import Interrupted, end_with_starter, forget_signals, raise_on_signals
from syncl.own_code import take_in


@dataclass(frozen=True)
class Command:
    """Where a command's function is and what it does, so that `--help` need not import it."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command("syncl.commands.demo", "generate unseen scenes, track them with the shipped model, draw"),
    "generate": Command("syncl.commands.generate", "make a synthetic world in the nuScenes format"),
    "prepare": Command("syncl.commands.prepare", "check a dataset and index it, once"),
    "train": Command("syncl.commands.train", "train a recipe"),
    "train-motion": Command("syncl.commands.train_motion", "train CC-3DT's motion model on detections"),
    "track": Command("syncl.commands.track", "track scenes with a model, write results for submission"),
    "evaluate": Command("syncl.commands.evaluate", "score results with the official nuScenes metrics"),
    "render": Command("syncl.commands.render", "draw results as a video or a picture"),
    "plot": Command("syncl.commands.plot", "plot metrics of runs: curves over recall, bars per class"),
    "report": Command("syncl.commands.report", "make a page of runs: metrics, curves, failures, video"),
    "check-rig": Command("syncl.commands.check_rig", "draw ground, axes and horizon into a rig's cameras"),
    "convert": Command("syncl.commands.convert", "read published checkpoints, or write their format"),
    "export": Command("syncl.commands.export", "write a model as a program that runs without syncl"),
    "diagnose": Command("syncl.commands.diagnose", "look into a model: attention, matching, cost of SynCL"),
    "profile": Command("syncl.commands.profile", "say what a model costs a frame, part by part"),
    "experiment": Command("syncl.commands.experiment", "train and compare recipes pairwise over seeds"),
    "models": Command("syncl.commands.models", "list the models that ship with syncl"),
    "info": Command("syncl.commands.info", "say what is installed: versions, devices, extras"),
    "recipes": Command("syncl.commands.recipes", "list the recipes with size, cost and published results"),
}


_OF_TYRO = ("--tyro-print-completion", "--tyro-write-completion")


def usage() -> str:
    """The text of `syncl --help`."""
    width = max(map(len, COMMANDS))
    lines = [
        f"syncl {__version__}: end-to-end multi-camera 3D tracking",
        "",
        "usage: syncl COMMAND [options]      syncl COMMAND --help for its options",
        "       syncl --with FILE.py COMMAND [options]      with classes and datasets of your own",
        "",
        *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what users can mend ends with status 2 and one message, without a traceback.

    Args:
        arguments: None for those of this process, which then is the command's: signals stop it in good order,
            with 128 and the signal's number as status, and it keeps the memory that it frees.
    """
    if arguments is not None:
        _main(arguments)
        return
    try:
        raise_on_signals()
        end_with_starter()
        keep_freed_memory()
        call_warnings_notes()
        _main(sys.argv[1:])
    except KeyboardInterrupt as error:
        forget_signals()
        with suppress(OSError):
            _say(str(error) or "stopped")
        sys.exit(128 + (error.signal if isinstance(error, Interrupted) else 2))
    finally:
        forget_signals()


def call_warnings_notes() -> None:
    """Show what this package warns of as a note, without the line of code that did; others' as ever."""
    usual, package = warnings.formatwarning, str(Path(__file__).parents[1])

    def shown(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if not (issubclass(category, UserWarning) and filename.startswith(package)):
            return usual(message, category, filename, lineno, line)
        note = f"note: {message}\n"
        return note if _first_to_say(note) else ""

    warnings.formatwarning = shown


def _main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return
    if arguments[0] == "--version":
        sys.stdout.write(f"{__version__}\n")
        return
    files, arguments = _split_own_code(arguments)
    if not arguments:
        _fail("--with: name a file of your own code, and a command behind it")
    name, *rest = arguments
    if name not in COMMANDS:
        close = did_you_mean(name, COMMANDS) or f"; commands: {', '.join(COMMANDS)}"
        _fail(f"there is no command {name!r}{close}")
    try:
        for file in files:
            take_in(file)
        _run(name, rest)
        sys.stdout.flush()
    except SynclError as error:
        _fail(str(error))
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _fail(str(system_error(error)))
    except MemoryError:
        _fail("out of memory; take smaller images, batches or fewer workers")


def _split_own_code(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What every `--with` in front of the command names, and all that follows."""
    files: list[str] = []
    while arguments and _option(arguments[0]) == "--with":
        _, equals, file = arguments[0].partition("=")
        if not equals and len(arguments) == 1:
            return files, []
        files.append(file if equals else arguments[1])
        arguments = arguments[1 if equals else 2 :]
    return files, arguments


def command_function(name: str) -> Callable[..., object]:
    """A copy of the function behind `syncl NAME` without the type of its result.

    Those are classes of heavy modules, which are not to be imported to parse options.
    """
    function = getattr(importlib.import_module(COMMANDS[name].module), name.replace("-", "_"))
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, function.__doc__
    copy.__annotations__ = {key: hint for key, hint in function.__annotations__.items() if key != "return"}
    return copy


def _run(name: str, arguments: list[str]) -> None:
    import tyro

    function = command_function(name)
    named = (
        item for item in inspect.signature(function).parameters.values() if item.kind is item.KEYWORD_ONLY
    )
    options = {f"--{item.name.strip('_').replace('_', '-')}": item.annotation for item in named}
    for argument in arguments:
        option = _option(argument)
        if option and option.replace("--no-", "--", 1) not in {*options, "--help", *_OF_TYRO}:
            if option == "--with":
                raise SynclError(f"--with comes before the command: syncl --with FILE.py {name} ...")
            close = did_you_mean(option, options)
            raise SynclError(f"syncl {name} has no option {option}{close or f'; see syncl {name} --help'}")
    lists = {option for option, hint in options.items() if typing.get_origin(hint) is tuple}
    tyro.cli(function, prog=f"syncl {name}", args=_added_up(arguments, lists))


def _option(argument: str) -> str:
    """The option that an argument names, as `--help` writes it; nothing for values."""
    return argument.partition("=")[0].replace("_", "-") if argument.startswith("--") else ""


def _added_up(arguments: list[str], lists: Collection[str]) -> list[str]:
    """The arguments, the values of each option that takes a list in one place: given twice, they add up."""
    plain: list[str] = []
    values: dict[str, list[str]] = {}
    current = plain
    for argument in arguments:
        option = _option(argument)
        if option in lists:
            current = values.setdefault(option, [])
            current += [argument.partition("=")[2]] if "=" in argument else []
            continue
        if option:
            current = plain
        current.append(argument)
    return [*plain, *(word for option, words in values.items() for word in (option, *words))]


def _fail(message: str) -> NoReturn:
    _say(f"error: {message}")
    sys.exit(2)


def _say(message: str) -> None:
    if _first_to_say(message):
        sys.stderr.write(f"{message}\n")


def _first_to_say(message: str) -> bool:
    """Of the processes of one run, all of which mostly find the same, one is to say it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    from syncl.runs.processes import first_to_say

    return first_to_say(message)
