"""What a tracker puts between a detector's decoder layers.

Letters: B batch, Q queries, D channels, G groups of decoders.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from syncl.layers.decoder import Groups, split_groups


class Interaction(ABC):
    """What a tracker puts between a detector's decoder layers, made anew for each frame.

    It acts on the standard decoder alone. What it learns about the frame on its way it keeps for its tracker,
    whose `reason` reads it.

    Attributes:
        boxes: which boxes are made for it, those of the layer's own `states`, those that `heads` make of
            `Detector.head_states`, or `none`.
    """

    boxes: Literal["states", "heads", "none"] = "states"

    def mask(self, layer: int) -> Tensor | None:  # noqa: ARG002
        """[B, Q, Q] bool, what a query may look at in this layer's self-attention; None = as queries say."""
        return None

    @abstractmethod
    def __call__(self, layer: int, states: Tensor, codes: Tensor) -> Tensor:
        """States [B, Q, D] that this layer's heads and the next layer see.

        Args:
            layer: number of the layer, from 0.
            states: [B, Q, D] the layer's own output.
            codes: [B, Q, 10] boxes that the layer's head makes of them, vehicle frame, metres; [B, Q, 0]
                where it wants none.
        """


def interact(interaction: Interaction, layer: int, x: Tensor, codes: Tensor, groups: Groups) -> Tensor:
    """States [G B, Q, D] whose standard part an interaction has changed.

    Args:
        interaction: what happens.
        layer: number of the layer.
        x: [G B, Q, D] the layer's own output.
        codes: [B, Q, 10] boxes made of its standard part.
        groups: the decoders in `x`.
    """
    parts = list(split_groups(x, groups))
    standard = groups.index("standard")
    parts[standard] = interaction(layer, parts[standard], codes)
    return torch.cat(parts)
