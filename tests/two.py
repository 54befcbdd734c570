"""Work in two processes as a launcher starts them, but forked: all is imported already."""

import atexit
import os
import socket
from collections.abc import Callable
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.multiprocessing import start_processes


def in_two(work: Callable[..., object], *arguments: object) -> None:
    """Call `work` in each of two processes; what it leaves for the end of a process runs there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with patch.dict(os.environ, place | {"CUDA_VISIBLE_DEVICES": ""}):
        start_processes(_one, (work, arguments), nprocs=2, start_method="fork")


def _one(rank: int, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    # What the tests before left in this process is none of a new one's.
    atexit._clear()
    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()
    torch.set_num_threads(1)
    work(*arguments)
    atexit._run_exitfuncs()
