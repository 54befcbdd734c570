"""Keeping metres and pixels exact where the network around them computes in half precision.

Autocast rounds the factors of every float32 matrix product, small transforms of points included: bfloat16
keeps eight bits, 0.2 m at 50 m.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def rounds_products(tensor: Tensor) -> bool:
    """Whether matrix products with this tensor are computed in half precision here."""
    device = tensor.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which matrix products on this tensor's device keep the precision of their factors."""
    return torch.autocast(tensor.device.type, enabled=False) if rounds_products(tensor) else nullcontext()
