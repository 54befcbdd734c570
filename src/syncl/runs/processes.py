"""One command run as several processes, started by `torchrun` or `accelerate launch`."""

import atexit
import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from syncl.errors import SynclError

T = TypeVar("T")
_BEAT_S, _GRACE_S = 1.0, 5.0
_SILENT = timedelta(seconds=40)
_CONNECTING = timedelta(seconds=300)
_ASKING = timedelta(seconds=5)
_WORKING = timedelta(days=1)
# Where launchers say how many processes they started: torchrun and accelerate, then MPI's several kinds.
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")

_PARTINGS = re.compile(r"closed by peer|Connection (reset|refused)|Broken pipe|[Tt]imed out|timeout")


@dataclass(frozen=True)
class Processes:
    """This process' place among those of the run.

    Attributes:
        rank: its number; process 0 writes files and talks.
        count: how many there are.
        device: the device the launcher meant for it; None where it is alone.
        company: the others; None where it is alone.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None
    company: "Company | None" = None

    @classmethod
    def current(cls) -> "Processes":
        """What the launcher's environment says; connects the processes with each other, and has this one end
        when another ends without having finished.
        """
        if not started_together():
            return cls()
        from accelerate import PartialState

        # Several processes without an accelerator are only recognised as one run if told so.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_CONNECTING)
        part_at_exit()
        return cls(state.process_index, state.num_processes, state.device, Company(state.num_processes))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def deal(self, items: Sequence[T]) -> tuple[T, ...]:
        """This process' share: one item after another in turn."""
        return tuple(items[self.rank :: self.count])

    def gather(self, share: list[T]) -> list[T] | None:
        """The shares of all processes one behind the other, in process 0; None in the others.

        Raises:
            SynclError: if another process is gone.
        """
        if self.count == 1:
            return share
        from torch import distributed

        shares: list[list[T]] | None = [[]] * self.count if self.is_main else None
        with self._said():
            distributed.gather_object(share, shares, group=self.company.talk if self.company else None)
        return None if shares is None else [item for part in shares for item in part]

    def meet(self) -> None:
        """Wait until all processes are here.

        Raises:
            SynclError: if another process is gone.
        """
        if self.company is not None:
            from torch import distributed

            with self._said():
                distributed.barrier(group=self.company.talk)

    def finish(self) -> None:
        """Wait until all processes have finished; whoever ends without, takes the others with it."""
        if self.company is not None:
            self.company.finish()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise SynclError(f"another of the {self.count} processes has stopped: {error}") from error


class Company:
    """The other processes: a group to talk in, and a thread that notices when one of them is gone.

    Its beats are sums over all processes of how many have finished. A connection that breaks, or a process
    that misses beats for long, ends this one too, with a message: nobody waits for what will not come.
    """

    def __init__(self, count: int) -> None:
        from torch import distributed

        self._count = count
        self._finished = threading.Event()
        self._leaving = False
        atexit.register(self._leave)
        # Whatever the devices talk by, plain Python values travel by gloo. Made while all are there.
        self.talk = distributed.new_group(backend="gloo", timeout=_WORKING)
        self._beats = distributed.new_group(backend="gloo", timeout=_SILENT)
        self._thread = threading.Thread(target=self._watch, name="syncl-company", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """This process has finished; returns when all have."""
        self._finished.set()
        self._thread.join()

    def _leave(self) -> None:
        # Whatever happens to the connections from here on is this process' own doing.
        self._leaving = True

    def _watch(self) -> None:
        from torch import distributed

        finished = torch.zeros((), dtype=torch.int64)
        try:
            while int(finished) < self._count:
                self._finished.wait(_BEAT_S)
                finished = torch.tensor(int(self._finished.is_set()))
                distributed.all_reduce(finished, group=self._beats)
        except RuntimeError:
            if self._leaving:
                return
            sys.stderr.write(
                f"error: another of the {self._count} processes has stopped, so this one stops too\n"
            )
            sys.stderr.flush()
            # In good order if it can, and in any case.
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE_S)
            os._exit(1)


def started_together() -> bool:
    """Whether a launcher started this process as one of several."""
    return any(int(os.environ.get(name, "1")) > 1 for name in _COUNTS)


def first_to_say(message: str) -> bool:
    """Whether no other process that the same launcher started has asked this of the same message.

    Asked of the store that `torchrun` and `accelerate launch` keep for their processes, so also before these
    are connected. Where there is none, or it is gone, everybody is the first.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    started = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"syncl/said/{started}/{hashlib.sha256(message.encode()).hexdigest()}"
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=_ASKING, wait_for_workers=False
        )
        return bool(store.add(key, 1) == 1)
    except (KeyError, ValueError, RuntimeError):
        return True


@contextmanager
def partings_said(count: int) -> Iterator[None]:
    """Say in words that a connection to another of `count` processes broke or was waited for in vain.

    For work in which other things than connections fail with a RuntimeError too.

    Raises:
        SynclError: in the place of what torch raises then.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_parting(error):
            raise
        raise SynclError(
            f"another of the {count} processes has stopped, so this one stops too; the cause is what that "
            f"one said ({str(error).partition('. This is')[0]})"
        ) from error


def _is_parting(error: RuntimeError) -> bool:
    """Of gloo's errors, which have no type of their own, those of connections; and all of the devices'."""
    from torch import distributed

    text = str(error)
    return isinstance(error, distributed.DistError) or ("gloo" in text and bool(_PARTINGS.search(text)))


def part_at_exit() -> None:
    """Disconnect this process from the others before it ends.

    Threads that still hold a connection when the interpreter is gone end the process with SIGABRT, and a
    launcher then calls a finished run failed.
    """
    atexit.register(_part)


def _part() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
