"""One command run as several processes, started by `torchrun` or `accelerate launch`."""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from syncl.errors import SynclError

T = TypeVar("T")
# Where launchers say how many processes they started: torchrun and accelerate, then MPI's several kinds.
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Processes:
    """This process' place among those of the run.

    Attributes:
        rank: its number; process 0 writes files and talks.
        count: how many there are.
        device: the device the launcher meant for it; None where it is alone.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    @classmethod
    def current(cls) -> "Processes":
        """What the launcher's environment says; connects the processes with each other."""
        if all(int(os.environ.get(name, "1")) <= 1 for name in _COUNTS):
            return cls()
        from accelerate import PartialState

        # Several processes without an accelerator are only recognised as one run if told so.
        state = PartialState(cpu=not torch.accelerator.is_available())
        part_at_exit()
        return cls(state.process_index, state.num_processes, state.device)

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

        # Whatever the devices talk by, plain Python values travel by gloo.
        group = distributed.new_group(backend="gloo")
        shares: list[list[T]] | None = [[]] * self.count if self.is_main else None
        try:
            distributed.gather_object(share, shares, group=group)
        except RuntimeError as error:
            raise SynclError(f"another of the {self.count} processes has stopped: {error}") from error
        return None if shares is None else [item for part in shares for item in part]


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
