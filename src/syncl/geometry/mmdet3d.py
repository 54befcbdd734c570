"""Box codes of mmdetection3d and of the networks trained with it, both ways.

Before version 1.0 (DETR3D, PETR, PETRv2, PF-Track, MUTR3D) sizes come as width, length, height, and the
heading y' grows clockwise from the frame's negative y axis:

    y' = -yaw - pi/2        sin yaw = -cos y'        cos yaw = -sin y'

    box   x  y  z      w  l  h      y'       vx vy
    code  x  y  log w  log l  z  log h  sin y'  cos y'  vx  vy

From version 1.0 on (StreamPETR) size order and heading are the library's, and so is StreamPETR's code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CodeLayout:
    """A foreign box code in which each number is one of the library's, perhaps with the other sign.

    Because it only permutes and negates, a network that regresses the foreign code becomes one that regresses
    the library's when the rows of its last linear layer are converted.

    Attributes:
        source: for each of the library's ten numbers, the index of the foreign number it is.
        signs: for each of the library's ten numbers, 1 or -1.
    """

    source: tuple[int, ...]
    signs: tuple[float, ...]

    def to_library(self, code: Tensor, dim: int = -1) -> Tensor:
        """Foreign codes, ten numbers along `dim`, in the library's code (`geometry.boxes`)."""
        index = torch.tensor(self.source, device=code.device)
        return code.index_select(dim, index) * self._signs(code, dim)

    def from_library(self, code: Tensor, dim: int = -1) -> Tensor:
        """The inverse of `to_library`."""
        inverse = torch.tensor(self.source, device=code.device).argsort()
        return (code * self._signs(code, dim)).index_select(dim, inverse)

    def _signs(self, code: Tensor, dim: int) -> Tensor:
        shape = [1] * code.dim()
        shape[dim] = len(self.signs)
        return torch.tensor(self.signs, dtype=code.dtype, device=code.device).view(shape)


# x, y, log w, log l, z, log h, sin y', cos y', vx, vy
MMDET3D_0_CODE = CodeLayout((0, 1, 4, 3, 2, 5, 7, 6, 8, 9), (1, 1, 1, 1, 1, 1, -1, -1, 1, 1))
# x, y, z, log l, log w, log h, sin yaw, cos yaw, vx, vy
MMDET3D_1_CODE = CodeLayout((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 1, 1, 1, 1, 1, 1, 1, 1, 1))
