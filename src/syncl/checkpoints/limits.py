"""What configurations may hold: values of the fields' types, and no sizes that no machine holds."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping

import torch
from torch import Tensor

from syncl.errors import SynclError, shown
from syncl.trackers.model import ModelConfig

Bounds = tuple[float, float]

# Whole numbers of which modules are made one by one; others only size tensors.
_LOOPED: Bounds = (1, 64)
_SIZE: Bounds = (1, 100_000)
_COUNT: Bounds = (0, 100_000)
_SHARE: Bounds = (0, 1)
_BOUNDS: dict[str, Bounds] = {
    **dict.fromkeys(("layers", "blocks", "num_outs"), _LOOPED),
    **dict.fromkeys(("dim", "heads", "hidden", "queries", "cameras", "depth_count", "max_objects"), _SIZE),
    **dict.fromkeys(("stem_width", "widths", "out_channels", "divisor", "max_tracks"), _SIZE),
    **dict.fromkeys(("memory_slots", "propagated", "objects_a_frame", "count", "max_detections"), _COUNT),
    **dict.fromkeys(("dropout", "drop_probability", "grid_mask"), _SHARE),
    **dict.fromkeys(("birth_score", "keep_score", "output_score", "record_score", "carry_score"), _SHARE),
    **dict.fromkeys(("detection_score", "pair_score", "object_score", "mask_score", "min_score"), _SHARE),
    **dict.fromkeys(("history", "future"), (0, 64)),
    "image_size": (1, 8192),
    "std": (1e-6, 1e6),
    **dict.fromkeys(("steps", "checkpoint_every", "keep_checkpoints", "log_every"), (1, 10**9)),
    **dict.fromkeys(("warmup_steps", "validate_every", "weight"), (0, 10**9)),
    **dict.fromkeys(("scenes", "validation_scenes", "min_points", "depth_stride"), _COUNT),
    **dict.fromkeys(("warmup_start", "final_scale", "ema"), _SHARE),
    **dict.fromkeys(("spare_frames", "context_frames"), (0, 64)),
    **dict.fromkeys(("groups", "queries_per_object"), (1, 1000)),
    **dict.fromkeys(("scene_parts", "pair_gap"), _SIZE),
    "batch_size": (1, 4096),
    "clip_length": _LOOPED,
    "workers": (0, 256),
    "prefetch": (1, 256),
    "learning_rate": (1e-12, 10),
    "backbone_scale": (0, 100),
    "weight_decay": (0, 10),
    "clip_norm": (1e-6, 1e9),
    "temperature": (1e-6, 1e6),
    "seed": (0, 2**32 - 1),  # more, numpy does not take
}
_OTHERS: Bounds = (-1e9, 1e9)
_NOUNS: dict[object, str] = {int: "whole number", float: "number", bool: "truth value", str: "text"}
_UNBUILDABLE = (
    TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, LookupError, AttributeError,
)  # fmt: skip


def model_shapes(config: ModelConfig, source: str, device: str = "meta") -> dict[str, torch.Size]:
    """The shapes of a model's state dict, after a check that it can be built.

    Args:
        config: of the model.
        source: where it comes from, for messages.
        device: where to build it; `meta` takes no memory.

    Raises:
        SynclError: naming the field that is out of bounds, or why the model cannot be built.
    """
    check_bounds(config, f"{source}: model")
    try:
        with torch.device(device):
            return {name: tensor.shape for name, tensor in config.build().state_dict().items()}
    except (SynclError, *_UNBUILDABLE) as error:
        raise SynclError(f"{source}: this configuration cannot be built: {error}") from error


def check_bounds(value: object, place: str, name: str = "") -> None:
    """Make sure that no number in a configuration is beyond what it can mean, or any machine holds.

    Args:
        value: a configuration, or a value of the field `name`.
        place: of it, for messages.
        name: of the field.

    Raises:
        SynclError: naming the field.
    """
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner, usual = getattr(value, field.name), field.default
            if field.name == "code_weights" and isinstance(usual, tuple) and len(inner) != len(usual):
                raise SynclError(f"{place}.{field.name}: has {len(inner)} numbers, expected {len(usual)}")
            check_bounds(inner, f"{place}.{field.name}", field.name)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            check_bounds(item, f"{place}[{number}]", name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = _BOUNDS.get(name, _OTHERS)
        if not low <= value <= high:
            raise SynclError(f"{place}: is {shown(value)}, expected {low:,} to {high:,}")


def fitted(value: object, expected: object) -> tuple[bool, object]:
    """Whether a value fits a type hint, and the value as that type (whole numbers become floats)."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Literal:
        # True equals 1.
        return any(value == item and type(value) is type(item) for item in arguments), value
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            accepted, converted = fitted(value, option)
            if accepted:
                return True, converted
        return False, value
    if origin is tuple:
        if not isinstance(value, tuple):
            return False, value
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        results = [fitted(item, hint) for item, hint in zip(value, arguments)]
        fits = len(value) == len(arguments) and all(accepted for accepted, _ in results)
        return fits, tuple(item for _, item in results)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1e300, float(value) if abs(value) < 1e300 else value
    if expected is float:
        return isinstance(value, float) and math.isfinite(value), value
    if expected is int and isinstance(value, bool):
        return False, value
    if expected in (None, type(None)):
        return value is None, value
    if getattr(expected, "_is_protocol", False):
        return dataclasses.is_dataclass(value) and hasattr(value, "build"), value
    return not isinstance(expected, type) or isinstance(value, expected), value


def described(expected: object) -> str:
    """What values a type hint takes, in words: `a whole number`, `one of a, b`, `a list of 2 numbers`."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(described(option) for option in arguments)
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        example = ', such as ["a", "b"]' if arguments[0] is str else ""
        return f"a list of {count}{_NOUNS.get(arguments[0], 'value')}s{example}"
    if expected in (None, type(None), bool):
        return "true or false" if expected is bool else "null"
    return f"a {_NOUNS.get(expected, 'group of settings')}"


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Make sure that no weight is nan or infinite.

    Raises:
        SynclError: naming the first that is.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.numel():
            extremes = torch.stack(torch.aminmax(tensor if tensor.itemsize > 1 else tensor.float()))
            if not bool(extremes.isfinite().all()):
                raise SynclError(f"{source}: {name} has values that are not finite; it cannot be used")
