"""Waiting for what one process of a training does while the others have nothing to do."""

import functools
from datetime import timedelta

from accelerate import Accelerator
from torch import distributed

_WORKING = timedelta(days=1)


def wait_for_main(accelerator: Accelerator) -> None:
    """Wait until all processes are here, where the main one may have worked alone for long.

    What processes train by gives up on one that is ten minutes late (NCCL) or thirty (gloo), as is right
    within a step; a validation and the features of a whole split take longer.
    """
    if accelerator.num_processes > 1:
        distributed.barrier(group=_patient(distributed.group.WORLD))


@functools.cache
def _patient(_: distributed.ProcessGroup | None) -> distributed.ProcessGroup:
    """All processes of this world, in a group that waits."""
    group: distributed.ProcessGroup = distributed.new_group(backend="gloo", timeout=_WORKING)
    return group
