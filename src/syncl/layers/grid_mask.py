"""GridMask augmentation (Chen et al., 2020) as the DETR3D and PETR families use it."""

import torch
from torch import Tensor, nn


class GridMask(nn.Module):
    """Zeroes a grid of squares in training images; one mask for every image of a call.

    The grid's period is uniform in [2, H), the phase uniform, the kept stripes half a period wide in both
    directions. What lies between the stripes is zeroed.
    """

    def __init__(self, probability: float = 0.7, ratio: float = 0.5) -> None:
        super().__init__()
        self.probability = probability
        self.ratio = ratio

    def forward(self, images: Tensor) -> Tensor:
        """[..., H, W] normalised images to the same shape; unchanged outside training."""
        if not self.training or float(torch.rand(())) >= self.probability:
            return images
        height, width = images.shape[-2:]
        period = int(torch.randint(2, max(height, 3), ()))
        stripe = min(max(int(period * self.ratio + 0.5), 1), period - 1)
        phases = torch.randint(0, period, (2,)).tolist()
        rows = (torch.arange(height, device=images.device) - phases[0]) % period < stripe
        columns = (torch.arange(width, device=images.device) - phases[1]) % period < stripe
        masked: Tensor = images * (rows[:, None] | columns[None, :])
        return masked
