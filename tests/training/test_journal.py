"""What the log of a run says of the process."""

import mmap
import sys

import numpy as np
import pytest
import torch

from syncl.training.journal import own_memory_gb


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="memory as Linux counts it")
def test_memory_is_the_process_own_and_does_not_count_mapped_files(tmp_path):
    size = 64 * 2**20
    path = tmp_path / "features.bin"
    np.ones(size, np.uint8).tofile(path)
    before = own_memory_gb()
    mapped = np.memmap(path, np.uint8, "c")
    assert mapped.sum(dtype=np.int64) == size
    assert own_memory_gb() - before < 0.01
    # Pages of its own: an array might be given memory that earlier tests have freed.
    own = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(own, np.uint8)[:] = 1
    assert own_memory_gb() - before > 0.05
    assert len(own) == size
