"""A tracker for tracking alone: BatchNorm folded into convolutions, and layers in half precision if asked.

tracker = for_inference(tracker, "bfloat16")
"""

import copy
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from syncl.errors import SynclError
from syncl.layers.winograd import WinogradConv2d, suits_winograd
from syncl.trackers.base import Tracker

Precision = Literal["auto", "float32", "bfloat16", "float16"]
# Channels up to which CPUs take longer to cast a decoder's numbers, or to add up what Winograd's convolutions
# need, than they save in products.
_NARROW = 128
_DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def usable_device(name: torch.device | str) -> torch.device:
    """The device of this name.

    Raises:
        SynclError: torch does not know it or cannot use it here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SynclError(f"device {name}: cannot be used here ({error})") from error
    return device


def for_inference(tracker: Tracker, precision: Precision = "auto") -> Tracker:
    """A twin of a tracker that tracks in this precision, with BatchNorm folded into convolutions.

    With less than float32 products and convolutions are rounded; geometry, times, poses, boxes, scores and
    states stay float32 and float64, and so does all behind the encoder where a CPU would gain nothing. Fixed
    slots and weights are those of the tracker, which stays as it is. An exported program is what it is.

    Args:
        tracker: in inference mode, on its device.
        precision: auto is float32, by which trained models have been scored.

    Raises:
        SynclError: the precision is none, or the tracker is an exported program, which has its own.
    """
    if precision not in _DTYPES:
        raise SynclError(f"--precision {precision}: choose one of {', '.join(_DTYPES)}")
    half = _DTYPES[precision] != torch.float32
    if not tracker.takes_precision:
        if half:
            raise SynclError(
                f"--precision {precision}: this model's program has the precision it was exported with"
            )
        return tracker
    shared = [*tracker.parameters(), *tracker.buffers()]
    twin = copy.deepcopy(tracker, {id(tensor): tensor for tensor in shared})
    fold_norms(twin)
    if not half:
        return twin
    twin.precision = _DTYPES[precision]
    on_cpu = next(twin.parameters()).device.type == "cpu"
    twin.rounds_encoder_only = on_cpu and twin.detector.dim <= _NARROW
    wide = on_cpu and not twin.rounds_encoder_only and twin.precision == torch.bfloat16
    encoder = getattr(twin.detector, "image_encoder", None)
    if encoder is not None:
        for part in (encoder.backbone, encoder.neck):
            settle(part, twin.precision, winograd=wide)
    return twin


def fold_norms(module: nn.Module) -> int:
    """Fold BatchNorm in inference mode into the convolution in front of it, and say how often.

    The same up to rounding (1e-5 of features). Backbones and necks of this library are folded, and
    convolutions followed by BatchNorm in an `nn.Sequential`: in others nobody knows what is in front of what.
    Deformable convolutions keep theirs.

    Args:
        module: changed; weights that it shares with others are not.
    """
    folded = 0
    for parent in module.modules():
        known = isinstance(parent, nn.Sequential) or type(parent).__module__.startswith("syncl.backbones.")
        for (_, convolution), (name, norm) in pairwise(list(parent.named_children()) if known else []):
            plain = type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d)
            if plain and not norm.training:
                _fold(convolution, norm)  # type: ignore[arg-type]
                setattr(parent, name, nn.Identity())
                folded += 1
    return folded


def settle(module: nn.Module, dtype: torch.dtype, winograd: bool = False) -> None:
    """Keep the weights of convolutions as autocast to this type would make them again for every frame.

    Channels lie next to each other, as in images (`ImageEncoder`). What is computed is the same to the bit,
    but for Winograd's convolutions.

    Args:
        module: changed; weights that it shares with others are not. It then runs under autocast alone.
        dtype: half precision.
        winograd: whether convolutions that suit it are to take fewer products (`WinogradConv2d`).
    """
    for parent in list(module.modules()):
        for name, each in parent.named_children():
            if winograd and suits_winograd(each):
                setattr(parent, name, WinogradConv2d(each, dtype))
            elif type(each) is nn.Conv2d:
                weight = each.weight.detach().to(dtype, memory_format=torch.channels_last)
                each.weight = nn.Parameter(weight, False)
                if each.bias is not None:
                    each.bias = nn.Parameter(each.bias.detach().to(dtype), False)


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise TypeError("BatchNorm without running statistics cannot be folded")
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    bias = norm.bias.double() - mean.double() * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias.double() * scale
    weight = convolution.weight
    convolution.weight = nn.Parameter((weight.double() * scale[:, None, None, None]).to(weight.dtype), False)
    convolution.bias = nn.Parameter(bias.to(weight.dtype), False)
