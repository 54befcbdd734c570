"""Locks end with their holders, outputs appear whole, and what cannot be written is said before the work."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from full_disks import file_limit
from syncl.errors import SynclError
from syncl.files import (
    atomic_folder,
    atomic_path,
    atomic_write,
    check_output,
    scratch_folder,
    write_tensors,
)
from syncl.locks import LOCK, only_one

HOLDING = """
import sys, time
from pathlib import Path
from syncl.files import atomic_folder, atomic_path
from syncl.locks import only_one
kind, target = sys.argv[1], Path(sys.argv[2])
with {"lock": only_one, "file": atomic_path, "folder": atomic_folder}[kind](target) as place:
    if place is not None:
        (place / "half" if place.is_dir() else place).write_text("half")
    print("holding", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(kind: str, target: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLDING, kind, target], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"holding\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_process_is_told_who_works_in_a_folder_and_a_dead_one_does_not_bind(tmp_path):
    folder = tmp_path / "run"
    with holder("lock", folder) as process:
        said = rf"run: process {process.pid} on .* is at work in it; wait"
        with pytest.raises(SynclError, match=said), only_one(folder):
            pytest.fail("both are in")
    assert (folder / LOCK).exists(), "it was killed"
    with only_one(folder), pytest.raises(SynclError, match=f"process {os.getpid()} "), only_one(folder):
        pass
    assert not (folder / LOCK).exists()


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    with only_one(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with only_one(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_made_for_a_lock_alone_goes_with_it(tmp_path):
    with only_one(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", ["world.bin", "world"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path, kind, name):
    target = tmp_path / name
    atomic = atomic_path if kind == "file" else atomic_folder
    with holder(kind, target):
        with atomic(target) as place:
            (place if kind == "file" else place / "a").write_text("whole")
        assert len(list(tmp_path.iterdir())) == 2, "the other is still writing"
    with atomic(target) as place:
        (place if kind == "file" else place / "a").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (target if kind == "file" else target / "a").read_text() == "whole"


def test_a_folder_that_was_about_to_be_replaced_comes_back(tmp_path):
    target = tmp_path / "world"
    (tmp_path / ".world.replaced").mkdir()
    (tmp_path / ".world.replaced" / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as place:
        (place / "a").write_text("new")
        _ = 1 / 0
    assert (target / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["world"]


def test_bad_places_for_outputs_are_named_and_nothing_is_created(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    for target, kind, said in (
        (file / "x" / "results.json", "file", rf"{file} is a file, where a folder would have to be"),
        (file / "x", "folder", rf"{file} is a file, where a folder would have to be"),
        (file, "folder", "is a file, where a folder is to be written"),
        (folder, "file", "is a folder, where a file is to be written"),
    ):
        with pytest.raises(SynclError, match=said):
            check_output(target, True, kind)
    with file_limit(100), pytest.raises(SynclError, match=r"results\.json: file too large; allow larger"):
        check_output(tmp_path / "new" / "results.json", False)
    check_output(tmp_path / "new" / "results.json", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_where_nothing_may_be_written_the_output_is_named_not_what_tries(tmp_path: Path, monkeypatch) -> None:
    def refused(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{dir}/tmpdqplxh71")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(SynclError, match=r"/new/results\.json: permission denied; allow it"):
        check_output(tmp_path / "new" / "results.json", False)


def write_numbers(path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, numbers=np.zeros(10_000))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: atomic_write(path, bytes(10_000)),
        lambda path: write_tensors(path, {"a": torch.zeros(10_000)}, {}),
        write_numbers,
    ],
    ids=["bytes", "tensors", "numpy"],
)
def test_a_full_disk_is_said_with_the_path_and_the_earlier_file_stays(tmp_path, write):
    path = tmp_path / "model.safetensors"
    path.write_text("earlier")
    with file_limit(1000), pytest.raises(SynclError, match=r"model\.safetensors: file too large; allow"):
        write(path)
    assert path.read_text() == "earlier" and len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_call_left_of_a_scratch_folder_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / ".syncl-some.partial-abcdefgh"
    left.mkdir()
    with scratch_folder("some") as folder, scratch_folder("some") as other:
        assert {*tmp_path.iterdir()} == {folder, other}, "one that is held is not left"
    assert not list(tmp_path.iterdir())
