"""The commands of an experiment, in processes of their own that end with it."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from syncl.errors import SynclError, system_errors_named
from syncl.interrupts import Interrupted, for_child
from syncl.own_code import own_options


@dataclass(frozen=True)
class Usage:
    """What a process took: CPU seconds, wall seconds and peak memory in bytes."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


class Commands:
    """Runs syncl commands, from several threads at once.

    As a context: when it is left by an exception, commands that run are asked to stop, which a training does
    after a checkpoint, and no other is started.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __enter__(self) -> "Commands":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while error is not None:
            # Asked once more on the way out, none must stay unasked: what asked first goes up already.
            try:
                self._stop()
                return
            except KeyboardInterrupt:
                continue

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def run(self, arguments: list[str], journal: Path) -> Usage:
        """Run a syncl command; what it says goes to a file.

        Raises:
            SynclError: with the end of that file, if it fails.
            Interrupted: commands are to stop.
        """
        started = time.perf_counter()
        with system_errors_named(journal):
            journal.parent.mkdir(parents=True, exist_ok=True)
            text = journal.open("ab")
        with text:
            with self._lock:
                if self._stopped:
                    raise Interrupted(signal.SIGTERM)
                # In a group of its own, a Ctrl-C reaches it by this process alone.
                process = subprocess.Popen(
                    [sys.executable, "-m", "syncl", *own_options(), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=text,
                    stderr=text,
                    env=for_child() | {"OMP_NUM_THREADS": "1"},
                    process_group=0,
                )
                self._running.add(process)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            with self._lock:
                self._running.discard(process)
        if process.returncode:
            end = journal.read_text(errors="replace").strip().splitlines()[-3:]
            raise SynclError(
                f"syncl {arguments[0]} ended with status {process.returncode}: {' / '.join(end)} ({journal})"
            )
        unit = 1 if sys.platform == "darwin" else 1024
        return Usage(
            usage.ru_utime + usage.ru_stime, time.perf_counter() - started, int(usage.ru_maxrss * unit)
        )
