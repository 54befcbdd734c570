"""What a run tells: a progress bar or plain lines, a tensorboard log, and one JSON line an entry."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TypedDict

import orjson
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from syncl.errors import SynclError, system_errors_named
from syncl.files import atomic_write
from syncl.progress import plain_console

_STATUS = Path("/proc/self/status")
_OWN = ("RssAnon:", "RssShmem:")


def own_memory_gb() -> float:
    """Memory of this process in GB.

    The most so far of the device, where there is one. Else what is resident now, on Linux without the files
    that it maps (stored features, libraries), which the system takes back when it needs the room; elsewhere
    all that was resident at most.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if _STATUS.is_file():
        lines = (line.split() for line in _STATUS.read_text().splitlines() if line.startswith(_OWN))
        return sum(int(kilobytes) for _, kilobytes, _ in lines) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak / 1e6


class Entry(TypedDict):
    """A line of a run's log: which step's, of what kind, and its figures."""

    step: int
    group: str
    values: dict[str, float | None]


def log_entries(log: Path) -> Iterator[Entry]:
    """What a run's log says, but for half a line, of a process that was killed or a disk that was full."""
    for _, entry in _whole_lines(log):
        yield entry


def _whole_lines(log: Path) -> Iterator[tuple[bytes, Entry]]:
    for line in log.read_bytes().splitlines() if log.is_file() else ():
        with suppress(orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            values = orjson.loads(line)
            step, group = values.pop("step"), values.pop("group")
            if type(step) is int and type(group) is str:
                yield line, {"step": step, "group": group, "values": values}


def _until(log: Path, step: int) -> tuple[bytes, bool]:
    """The whole lines of a log up to a step, and whether one of them is that step's validation."""
    kept = [(line, entry) for line, entry in _whole_lines(log) if entry["step"] <= step]
    validated = any((entry["step"], entry["group"]) == (step, "validation") for _, entry in kept)
    return b"".join(line + b"\n" for line, _ in kept), validated


class Journal:
    """Writes a run's log. Only the main process has one that is active."""

    def __init__(
        self,
        run: Path,
        steps: int,
        start: int,
        samples_per_step: int,
        active: bool,
        log: Callable[[dict[str, float], int], object] | None = None,
    ) -> None:
        """Open a run's log behind its first `start` steps; what it says of later ones did not last.

        `log` is told all figures and their step as well.
        """
        self._log, self._steps, self._start = log, steps, start
        self._started = time.perf_counter()
        self.active = active
        self.validated = False
        """Whether the log has the validation of step `start`."""
        self.samples_per_step = samples_per_step
        self._seconds = time.perf_counter()
        self._step = start
        self._data_seconds = 0.0
        self._memory_gb = 0.0
        if not active:
            return
        self._console = plain_console(stderr=True)
        path, self._run = run / "log.jsonl", run
        kept, self.validated = _until(path, start)
        atomic_write(path, kept)
        with system_errors_named(run):
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)
            self._lines = path.open("ab")
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=steps, completed=start, status="")

    def __enter__(self) -> "Journal":
        if self.active:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.active:
            self._progress.stop()
            with ExitStack() as closing:
                if error is not None:
                    # What ended the run is to be seen, not what became of its log.
                    closing.enter_context(suppress(OSError, SynclError))
                closing.enter_context(system_errors_named(self._run))
                closing.callback(self._lines.close)
                closing.callback(self._writer.close)

    def waited_for_data(self, seconds: float) -> None:
        """Add to the time spent waiting for the loader."""
        self._data_seconds += seconds

    def look_at_memory(self) -> None:
        """Take the memory of this moment into the peak; best where a step needs the most."""
        if self.active:
            self._memory_gb = max(self._memory_gb, own_memory_gb())

    def advance(self, step: int) -> None:
        """Move the bar."""
        if self.active:
            self._progress.update(self._task, completed=step)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write one training entry: the values plus speed, share of time spent on data, and `memory_gb`, the
        most that the process itself needed in any step of this run (`own_memory_gb`).
        """
        if not self.active:
            return
        self.look_at_memory()
        now = time.perf_counter()
        elapsed = max(now - self._seconds, 1e-9)
        done = max(step - self._step, 1)
        speed = {
            "samples_per_s": done * self.samples_per_step / elapsed,
            "s_per_step": elapsed / done,
            "data_share": self._data_seconds / elapsed,
            "memory_gb": self._memory_gb,
        }
        self._seconds, self._step, self._data_seconds = now, step, 0.0
        self.write(step, "train", {**values, **speed})
        left_s = (self._steps - step) * (now - self._started) / max(step - self._start, 1)
        status = (
            f"loss {values.get('total', float('nan')):.3f}  {speed['samples_per_s']:.1f} samples/s  "
            f"data {speed['data_share']:.0%}  {speed['memory_gb']:.1f} GB"
        )
        if self._console.is_terminal:
            self._progress.update(self._task, status=status)
        else:
            left = f"{left_s / 60:.0f} min left" if left_s >= 60 else f"{left_s:.0f} s left"
            self._console.print(f"step {step}/{self._steps}  {status}  {left}")

    def write(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """Write values under a group name to tensorboard, `log.jsonl` and whoever else logs."""
        if not self.active:
            return
        with system_errors_named(self._run):
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
            self._lines.write(orjson.dumps({"step": step, "group": group, **values}) + b"\n")
            self._lines.flush()
        if self._log is not None:
            self._log({f"{group}/{name}": value for name, value in values.items()}, step)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.active:
            self._console.print(text)
