"""A process keeps the memory that it frees, where it is told to, and takes it in large pages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys
import numpy as np
from syncl.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="needs glibc")
def test_an_array_of_the_size_of_a_freed_one_costs_no_new_pages() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("kept", "handed back")
    }
    assert faults["kept"] < 200
    assert faults["handed back"] > 10 * faults["kept"]


NEW_PAGES = """
import resource
from syncl.allocation import keep_freed_memory
keep_freed_memory()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not PAGES.exists() or "[never]" in PAGES.read_text(), reason="this system has no large pages"
)
def test_large_tensors_come_in_large_pages() -> None:
    faults = subprocess.run([sys.executable, "-c", NEW_PAGES], capture_output=True, check=True, env=_told())
    assert int(faults.stdout) < 2**26 / 4096 / 4


def test_who_says_how_memory_comes_is_heard() -> None:
    script = NEW_PAGES + "import os; print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=_told("0"))
    assert found.stdout.split()[-1] == b"0"


def _told(large_pages: str | None = None) -> dict[str, str]:
    name = "THP_MEM_ALLOC_ENABLE"
    rest = {key: value for key, value in os.environ.items() if key != name}
    return rest if large_pages is None else {**rest, name: large_pages}
