"""Headings that detectors may have turned round by half a turn. Radians, counter-clockwise."""

import math

import torch
from torch import Tensor

_TURN = 2 * math.pi


def normalised(yaw: Tensor) -> Tensor:
    """The same headings in [-pi, pi)."""
    return (yaw + math.pi).remainder(_TURN) - math.pi


def turned_towards(yaw: Tensor, seen: Tensor) -> Tensor:
    """Headings turned by half a turn where that brings them nearer to the ones seen, and by a whole one.

    So a detector that takes the front for the back turns the track, not what is seen (CC-3DT, as AB3DMOT).

    Args:
        yaw: [N] in [-pi, pi).
        seen: [N] in [-pi, pi).
    """
    away = (seen - yaw).abs()
    half = yaw + math.pi
    half = torch.where(half > math.pi, half - _TURN, half)
    yaw = torch.where((away > math.pi / 2) & (away < 1.5 * math.pi), half, yaw)
    far = (seen - yaw).abs() >= 1.5 * math.pi
    return torch.where(far, yaw + torch.where(seen > 0, _TURN, -_TURN), yaw)
