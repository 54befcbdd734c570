"""Layers that change one input by what a second one says.

Letters: D channels, K channels of the condition.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeatureGate(nn.Module):
    """Scales channels by a gate computed from other features (PETRv2's feature-guided position encoder).

    `inputs * sigmoid(expand(relu(reduce(features))))`, as squeeze-and-excitation without pooling.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(dim, dim)
        self.expand = nn.Linear(dim, dim)

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Inputs [..., D] gated by features [..., D]."""
        gate: Tensor = self.expand(torch.relu(self.reduce(features))).sigmoid()
        return inputs * gate


class MotionNorm(nn.Module):
    """Motion-aware layer normalisation (StreamPETR, Wang et al. 2023, section 3.4).

    LayerNorm whose scale and shift are computed from a condition, such as encoded velocity, time and pose. A
    new layer is a plain LayerNorm. An input of zeros gives the shift alone.
    """

    def __init__(self, dim: int, condition: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(condition, dim)
        self.scale = nn.Linear(dim, dim)
        self.shift = nn.Linear(dim, dim)
        nn.init.zeros_(self.scale.weight)
        nn.init.ones_(self.scale.bias)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    def forward(self, inputs: Tensor, condition: Tensor) -> Tensor:
        """Inputs [..., D] under conditions [..., K] (leading dimensions may broadcast)."""
        hidden = torch.relu(self.reduce(condition))
        normalised = functional.layer_norm(inputs, inputs.shape[-1:])
        out: Tensor = self.scale(hidden) * normalised + self.shift(hidden)
        return out
