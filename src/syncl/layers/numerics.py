"""Small numeric helpers shared by detectors, trackers and losses."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from syncl.geometry.precision import full_precision, rounds_products

REFERENCE_EPS = 1e-5
LARGEST_LOGIT = math.log((1 - REFERENCE_EPS) / REFERENCE_EPS)
"""Of references (`inverse_sigmoid`)."""


def inverse_sigmoid(value: Tensor, eps: float = REFERENCE_EPS) -> Tensor:
    """Logit of values clamped to [0, 1], numerator and denominator kept above `eps` (mmdet's form).

    Values outside [0, 1] saturate at about +-11.5, which trained weights rely on for reference points that
    left the range.
    """
    value = value.clamp(0, 1)
    return torch.log(value.clamp(min=eps) / (1 - value).clamp(min=eps))


def either(condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """`torch.where`, with truth values chosen among by the operators that every runtime has for them."""
    if one.dtype == torch.bool:
        return (condition & one) | (~condition & other)
    return torch.where(condition, one, other)


def at_full_precision(module: nn.Module, tensor: Tensor) -> Tensor:
    """Apply a module in float32 even under autocast.

    For what ends as metres or pixels: bfloat16 keeps eight bits, 0.2 m at 50 m.
    """
    output: Tensor
    if not rounds_products(tensor):
        output = module(tensor)
    else:
        with full_precision(tensor):
            output = module(tensor.float())
    return output


def prior_bias(probability: float) -> float:
    """Bias of a sigmoid classifier that starts out predicting `probability`."""
    return -math.log((1 - probability) / probability)


def mlp(*dims: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them (LayerNorm before each ReLU on request), none after the last."""
    layers: list[nn.Module] = []
    for position, (source, target) in enumerate(pairwise(dims)):
        layers.append(nn.Linear(source, target))
        if position < len(dims) - 2:
            if norm:
                layers.append(nn.LayerNorm(target))
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
