"""Being asked to stop: by Ctrl-C, by a signal, or by the end of the process that all is done for."""

import atexit
import ctypes
import functools
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PARENT = "SYNCL_LIVES_WITH"
_PR_SET_PDEATHSIG = 1
# Launchers hand on a Ctrl-C that the terminal has sent to all processes already.
_AGAIN_S = 2.0


class Interrupted(KeyboardInterrupt):
    """A process was asked to stop.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or f"stopped by {name_of(number)}")
        self.signal = number


def name_of(number: int) -> str:
    """A signal as people know it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def raise_on_signals() -> None:
    """Let signals end this process like Ctrl-C: by an exception, so that everything is cleaned up.

    Signals that whoever started the process had it ignore stay ignored.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def forget_signals() -> None:
    """Let signals end this process at once and without a word, where its work is done."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class StopRequest:
    """Whether a process was asked to stop; see `finishing_first`.

    Attributes:
        signal: the number of the signal; 0 while nobody has asked.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._at_once = False
        self._since = 0.0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """The signals' handler."""
        again = self.signal and number == signal.SIGINT and time.monotonic() - self._since > _AGAIN_S
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        if self._at_once or again:
            raise Interrupted(number)

    @contextmanager
    def obeyed_at_once(self) -> Iterator[None]:
        """For a part of the work that nothing is lost by leaving.

        Raises:
            Interrupted: now, if the request is there already, or when it comes.
        """
        if self.signal:
            raise Interrupted(self.signal)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


@contextmanager
def finishing_first() -> Iterator[StopRequest]:
    """Note signals instead of obeying them, so that a loop can end where it likes; a second Ctrl-C ends it.

    Outside the main thread, where Python has no signals, nobody ever asks.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, request)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(parent: int, number: int) -> None:
    """Have this process sent a signal when its parent ends, however that ends.

    Args:
        parent: id of the parent; if it is gone already, the signal comes now.
        number: of the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    else:
        threading.Thread(target=_watch, args=(parent, number), daemon=True).start()
    if os.getppid() != parent:
        signal.raise_signal(number)


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), number)


def for_child() -> dict[str, str]:
    """The environment of a `syncl` command that is to end with this process."""
    return os.environ | {_PARENT: str(os.getpid())}


def end_with_starter() -> None:
    """End in good order when the process that started this command for itself does: syncl, or torchrun."""
    parent = os.environ.pop(_PARENT, None)
    if parent is not None and parent.isdecimal():
        end_with(int(parent), signal.SIGTERM)
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(os.getppid(), signal.SIGTERM)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold signals back while processes are started, which then never see those of a terminal.

    What came meanwhile comes at the end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def servants_end_with_us() -> None:
    """End daemonic workers that `serve_parent` when this process ends in any way that it notices itself.

    Python would ask them by SIGTERM, which they do not hear, and then wait for them for ever.
    """
    # Registered later, it runs earlier than what would wait, which `multiprocessing.util` has registered.
    atexit.register(_end_servants)


def _end_servants() -> None:
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()


def serve_parent(_: int = 0) -> None:
    """What a worker process starts with: signals are its parent's business, with which it ends.

    Signals go to whole groups of processes: a worker that obeyed them would be missing for the parent's last
    step. The parent of daemonic workers calls `servants_end_with_us`.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with(parent.pid, signal.SIGKILL)
