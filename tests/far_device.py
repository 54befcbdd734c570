"""A device that is not there: tensors say that they are on it, and whoever waits for it is counted.

What a GPU refuses it refuses too: operands on two devices, and tensors made of lists in the middle of a step.
"""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from syncl.structures.tensors import TensorStructure

# No device that computes; of those the only one whose tensors can be sliced without it.
DEVICE = torch.device("meta")
# Operators whose result's size the device has to say, or whose result is a value on the host.
_WAITING = ("local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "bincount")
_CHOOSING = ("index", "index_put", "index_put_")

Structure = TypeVar("Structure", bound=TensorStructure)


class FarTensor(Tensor):
    """A tensor whose values are on the host, and which says otherwise."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "FarTensor":
        return Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=DEVICE
        )

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"FarTensor({self.values})"

    @classmethod
    def __torch_dispatch__(
        cls, operator: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        raise RuntimeError(f"{operator} on a far tensor outside of a FarDevice")


class FarDevice(TorchDispatchMode):
    """Runs what is asked of far tensors. `reads` counts transfers to the host, `waits` all other waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.uploads = 0, 0
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operator: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        name = operator._schema.name.removeprefix("aten::").lstrip("_")
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        far = any(isinstance(leaf, FarTensor) for leaf in leaves)
        target = kwargs.get("device")
        ends_far = far if target is None else target == DEVICE
        if far and ends_far and any(type(leaf) is Tensor and leaf.dim() for leaf in leaves):
            raise RuntimeError(f"{operator}: operands on the host and on the device")
        if far and (name.startswith(_WAITING) or (name in _CHOOSING and _by_mask(args[1]))):
            self.waits[name] += 1
        self.reads += far and not ends_far
        if ends_far and not far and leaves:
            self.uploads += 1
            if not kwargs.get("non_blocking"):
                self.waits[f"{name} to the device"] += 1
        args, kwargs = tree_map(_near, (args, kwargs))
        result = operator(*args, **(kwargs | ({} if target is None else {"device": "cpu"})))
        return tree_map(_far, result) if ends_far else result


def _by_mask(indices: object) -> bool:
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in tree_leaves(indices))


def _near(value: object) -> object:
    return value.values if isinstance(value, FarTensor) else value


def _far(value: object) -> object:
    return FarTensor(value) if isinstance(value, Tensor) and not isinstance(value, FarTensor) else value


def far(structure: Structure) -> Structure:
    """The structure on the device."""
    return structure.map(_far)


def near(structure: Structure) -> Structure:
    """The structure on the host, which nobody counts."""
    return structure.map(_near)


def move_far(module: nn.Module) -> None:
    """Put a module's weights onto the device."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: _far(value) for name, value in tensors.items() if value is not None})
        if isinstance(part, nn.RNNBase):
            part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
