"""How many CPU threads a command computes with."""

import torch

from syncl.errors import SynclError


def use_threads(count: int | None) -> None:
    """Compute with so many threads; None leaves torch's choice.

    Raises:
        SynclError: below 1.
    """
    if count is None:
        return
    if count < 1:
        raise SynclError(f"--threads {count}: at least 1; without the option torch chooses")
    torch.set_num_threads(count)
