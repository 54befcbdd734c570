"""Signals stop commands in good order, and nothing they started outlives them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from syncl.interrupts import Interrupted, finishing_first


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def gone(pid: int, within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


# A command that writes a file and takes its time, in the place of `recipes`. Whoever started the tests may
# have them ignore hang-ups (nohup): processes inherit that, and commands respect it.
COMMAND = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from pathlib import Path
from syncl.commands import main, recipes
from syncl.files import atomic_path
def slow(*, output: Path) -> None:
    with atomic_path(output) as path:
        path.write_text("half")
        print("working", flush=True)
        time.sleep(60)
recipes.recipes = slow
sys.argv = ["syncl", "recipes", "--output", sys.argv[1]]
main.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_a_line_and_leaves_nothing_half_done(tmp_path, number):
    process = start(COMMAND, tmp_path / "file")
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert (process.returncode, said) == (128 + number, f"stopped by {name}\n")
    assert not list(tmp_path.iterdir())


def test_a_command_started_for_another_ends_with_it_even_if_that_is_killed(tmp_path):
    parent = start(
        """
        import subprocess, sys, time
        from syncl.interrupts import for_child
        process = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=for_child())
        print(process.pid, flush=True)
        time.sleep(60)
        """,
        COMMAND,
        tmp_path / "file",
    )
    assert parent.stdout is not None
    told = {parent.stdout.readline(), parent.stdout.readline()}
    (child,) = (int(line) for line in told if line != "working\n")
    parent.kill()
    parent.wait()
    assert gone(child)
    assert not list(tmp_path.iterdir()), "it ended in good order"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(number):
    parent = start(
        """
        import multiprocessing, os, time
        from syncl.interrupts import serve_parent
        def work(place):
            serve_parent()
            print(os.getpid(), flush=True)
            time.sleep(60)
        worker = multiprocessing.get_context("fork").Process(target=work, args=(0,))
        worker.start()
        worker.join()
        """
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    os.kill(worker, signal.SIGINT)  # as a terminal does
    os.kill(worker, signal.SIGTERM)
    time.sleep(0.2)
    assert not gone(worker, 0), "signals are its parent's business"
    parent.send_signal(number)
    parent.wait()
    assert gone(worker)


def test_a_process_whose_workers_wait_for_more_work_ends():
    """The loader of a training that failed: nobody told its workers to end."""
    parent = start(
        """
        import multiprocessing, time
        from syncl.interrupts import servants_end_with_us, serve_parent
        def work(ready):
            serve_parent()
            ready.set()
            time.sleep(60)
        servants_end_with_us()
        ready = multiprocessing.Event()
        worker = multiprocessing.Process(target=work, args=(ready,), daemon=True)
        worker.start()
        ready.wait()
        print(worker.pid, flush=True)
        """
    )
    said, _ = parent.communicate(timeout=20)
    assert parent.returncode == 0 and gone(int(said))


def test_work_in_hand_is_finished_before_a_signal_is_obeyed():
    before = signal.getsignal(signal.SIGTERM)
    with finishing_first() as request:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # at once: a launcher hands it on, nobody is impatient
        assert request.signal == signal.SIGTERM
        with pytest.raises(Interrupted, match="stopped by SIGTERM"), request.obeyed_at_once():
            pytest.fail("it is there already")
        request._since -= 10
        with pytest.raises(Interrupted, match="stopped by Ctrl-C"):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
