"""A process keeps the memory that it frees, where it is told to."""

import os
import subprocess
import sys

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
