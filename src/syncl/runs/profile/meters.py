"""Charging what a step costs to its parts: time on clocks, operations, memory and waits by looking on.

What a part calls belongs to the part that is called, if it has a name, else to the caller.
"""

import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Counters = dict[str, float]

# Operators that read a value on the host, ask a device how large something is, or copy a list to it.
_WAITS = ("local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "lift_fresh")
# Methods that read values without an operator.
_READS = ("tolist", "numpy", "item", "__bool__", "__int__", "__float__", "__index__", "__array__", "cpu")


class Meter:
    """Charges counters that only grow to the part that runs.

    Args:
        read: gives the counters.
        switched: told which part goes on, whenever another does.

    Attributes:
        costs: part -> counter -> what it came to.
    """

    def __init__(
        self, read: Callable[[], Counters], switched: Callable[[str], None] = lambda _: None
    ) -> None:
        self.costs: dict[str, Counters] = defaultdict(lambda: defaultdict(float))
        self._read = read
        self._switched = switched
        self._running: list[str] = []
        self._last: Counters = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside belongs to this part."""
        self._charge()
        self._running.append(name)
        self._switched(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()
            self._switched(self._running[-1] if self._running else "")

    def _charge(self) -> None:
        now = self._read()
        if self._running:
            found = self.costs[self._running[-1]]
            for name, value in now.items():
                found[name] += value - self._last[name]
        self._last = now


@contextmanager
def metered(meter: Meter, parts: dict[str, list[tuple[object, str]]]) -> Iterator[None]:
    """Let methods of objects be charged to parts.

    Args:
        meter: that charges.
        parts: name of a part -> objects and the names of their methods.
    """
    with ExitStack() as stack:
        for name, methods in parts.items():
            for owner, method in methods:
                stack.enter_context(_replaced(owner, method, _charged(meter, name, getattr(owner, method))))
        yield


def _charged(meter: Meter, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        with meter.part(name):
            return method(*arguments, **named)

    return call


@contextmanager
def _replaced(owner: object, name: str, method: Callable[..., Any]) -> Iterator[None]:
    vars(owner)[name] = method
    try:
        yield
    finally:
        del vars(owner)[name]


def clocks(device: torch.device) -> Callable[[], Counters]:
    """Seconds on the wall and of this process, after waiting for a device."""

    def read() -> Counters:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}

    return read


class Watch(TorchDispatchMode):
    """Counts floating point operations, and what a device would be waited for; looking on takes its time.

    Operations are those of products, convolutions and attention; a multiplication and an addition are two.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.waits = 0
        self._reads = _Reads(self)

    def __enter__(self) -> "Watch":
        self._reads.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._reads.__exit__(*error)  # type: ignore[no-untyped-call]

    def read(self) -> Counters:
        """What it came to so far."""
        return {"flops": float(self.flops), "waits": float(self.waits)}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        made = operator(*args, **named)
        count = flop_registry.get(operator.overloadpacket)
        if count is not None:
            self.flops += count(*args, **named, out_val=made)
        elif operator.overloadpacket is _ATTENTION_ON_CPU:
            queries, keys, values = args[:3]
            pairs = queries.shape[:-1].numel() * keys.shape[-2]
            self.flops += 2 * pairs * (queries.shape[-1] + values.shape[-1])
        name = operator._schema.name.removeprefix("aten::").lstrip("_")
        self.waits += name.startswith(_WAITS)
        return made


# torch has counts for all but this.
_ATTENTION_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class _Reads(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._watch.waits += getattr(function, "__name__", "") in _READS
        return function(*args, **(kwargs or {}))


class Allocations(TorchDispatchMode):
    """The bytes of tensors that operators made and that are still there, and the most of them in each part.

    On any device alike, and of this process's tensors alone: weights and what was there before do not count.

    Attributes:
        peaks: part -> most bytes while it ran.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peaks: dict[str, int] = defaultdict(int)
        self.part = ""
        self._bytes = 0
        self._known: set[int] = set()

    def enter(self, part: str) -> None:
        """Say which part goes on."""
        self.part = part

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operator(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        self.peaks[self.part] = max(self.peaks[self.part], self._bytes)
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self._bytes += size
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._bytes -= size
