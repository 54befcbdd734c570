"""What lies between the splatted view and the heads: time and a residual net over the ground.

Letters: B streams, D channels, Y X cells of the view.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.bevdepth.blocks import residual_stage
from syncl.detectors.bevdepth.view_transform import BevGrid

_STAGES = 3
_BLOCKS = 2


def shifted(bev: Tensor, past_from_now: Tensor, grid: BevGrid) -> Tensor:
    """Views [N, D, Y, X] of the past as seen from where the vehicle is now, bilinear, 0 outside.

    Only the ground plane's motion is looked at. As published, a cell's place is its lower corner: views of a
    vehicle that turned are half a cell times the turn off.

    Args:
        bev: views, each in its own vehicle frame.
        past_from_now: [N, 4, 4] float64.
        grid: of the views.
    """
    rows, columns = grid.shape
    column = torch.arange(columns, dtype=past_from_now.dtype, device=bev.device) * grid.cell_m + grid.low_x
    row = torch.arange(rows, dtype=past_from_now.dtype, device=bev.device) * grid.cell_m + grid.low_y
    x, y = column.expand(rows, -1), row[:, None].expand(-1, columns)
    a, b = past_from_now[:, 0, :, None, None], past_from_now[:, 1, :, None, None]
    past_x, past_y = a[:, 0] * x + a[:, 1] * y + a[:, 3], b[:, 0] * x + b[:, 1] * y + b[:, 3]
    places = torch.stack(
        [
            (past_x - grid.low_x) / (grid.cell_m * (columns - 1)) * 2 - 1,
            (past_y - grid.low_y) / (grid.cell_m * (rows - 1)) * 2 - 1,
        ],
        dim=-1,
    )
    return functional.grid_sample(bev, places.to(bev.dtype), padding_mode="zeros", align_corners=True)


class BevBackbone(nn.Module):
    """Three residual stages at half, quarter and eighth resolution, and a pyramid of first and last.

    Args:
        channels: of the view.
        out_channels: of what comes out.
        full_resolution: the last part reads the view itself as well. Published ones see nothing finer than
            half resolution, which has many channels to say where between two cells something is.
    """

    def __init__(self, channels: int, out_channels: int, full_resolution: bool = False) -> None:
        super().__init__()
        self.full_resolution = full_resolution
        widths = [channels * 2**stage for stage in range(_STAGES)]
        inputs = [channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            residual_stage(source, width, _BLOCKS, stride=2) for source, width in zip(inputs, widths)
        )
        hidden = 2 * out_channels
        self.join = nn.Sequential(
            nn.Conv2d(widths[0] + widths[-1], hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
        )
        self.refine = nn.Sequential(
            nn.Conv2d(hidden + channels * full_resolution, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 1),
        )

    def forward(self, bev: Tensor) -> Tensor:
        """Map [N, channels, Y, X] to [N, out_channels, Y, X]; Y and X are multiples of 8."""
        outputs, x = [], bev
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        coarse = _enlarged(outputs[-1], 4)
        joined = self.join(torch.cat([outputs[0], coarse], dim=1))
        fine = _enlarged(joined, 2)
        out: Tensor = self.refine(torch.cat([fine, bev], dim=1) if self.full_resolution else fine)
        return out


def _enlarged(bev: Tensor, times: int) -> Tensor:
    return functional.interpolate(bev, scale_factor=times, mode="bilinear", align_corners=True)
