"""What boxes look like: an image network of its own, and an embedding of each box (CC-3DT, section 3.1).

Letters: C cameras, P boxes in images, D channels of levels, E of embeddings.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.image_encoder import ImageEncoderConfig

_BINS = 7
# A box of this side in pixels is looked up in the level of stride 16.
_USUAL_SIDE_PX, _USUAL_STRIDE = 224, 16


@dataclass(frozen=True)
class AppearanceConfig:
    """The image network and the similarity head; the defaults of the head are the published ones.

    Attributes:
        encoder: backbone and pyramid; the finest level first, each next one of twice the stride.
        dim: channels of embeddings.
        hidden: channels of the layer before.
        convolutions: of the head.
        groups: of its group norms.
    """

    encoder: ImageEncoderConfig
    dim: int = 256
    hidden: int = 1024
    convolutions: int = 4
    groups: int = 32

    def build(self) -> "Appearance":
        """Build the module."""
        return Appearance(self)


class Appearance(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: AppearanceConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.encoder = config.encoder.build()
        channels = self.encoder.neck.channels[0]
        layers: list[nn.Module] = []
        for _ in range(config.convolutions):
            convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(config.groups, channels), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * _BINS**2, config.hidden)
        self.embedding = nn.Linear(config.hidden, config.dim)

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature levels [C, D, H / stride, W / stride] of images [C, 3, H, W], RGB of 0 to 255.

        Unlike those of detectors, they are padded before they are normalised: padding is black.
        """
        height, width = images.shape[-2:]
        below, right = -height % self.encoder.divisor, -width % self.encoder.divisor
        images = self.encoder.normaliser(functional.pad(images, (0, right, 0, below)))
        maps: tuple[Tensor, ...] = self.encoder.neck(self.encoder.backbone(images))
        return maps

    def forward(self, levels: tuple[Tensor, ...], cameras: Tensor, boxes: Tensor) -> Tensor:
        """Embeddings [P, E] of boxes [P, 4] (x1 y1 x2 y2, pixels) in the images of these cameras [P]."""
        return self.embed(self.pooled(levels, cameras, boxes))

    def embed(self, pooled: Tensor) -> Tensor:
        """Embeddings [P, E] of what was pooled [P, D, 7, 7]; not normalised."""
        hidden = functional.relu(self.hidden(self.convolutions(pooled).flatten(1)))
        embedded: Tensor = self.embedding(hidden)
        return embedded

    def pooled(self, levels: tuple[Tensor, ...], cameras: Tensor, boxes: Tensor) -> Tensor:
        """[P, D, 7, 7] of the level that fits each box's size."""
        strides = self.encoder.strides[: len(levels)]
        chosen = level_of(boxes, strides)
        result = levels[0].new_zeros(len(boxes), levels[0].shape[1], _BINS, _BINS)
        for camera in cameras.unique().tolist():
            for number, (level, stride) in enumerate(zip(levels, strides, strict=True)):
                rows = ((cameras == camera) & (chosen == number)).nonzero()[:, 0]
                if len(rows):
                    result = result.index_copy(0, rows, roi_align(level[camera], boxes[rows] / stride - 0.5))
        return result


def level_of(boxes: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Number [P] of the level for boxes [P, 4], by their size (FPN, Lin et al. 2017, equation 1)."""
    side = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    usual = math.log2(_USUAL_STRIDE / strides[0])
    return (usual + (side / _USUAL_SIDE_PX + 1e-8).log2()).floor().clamp(0, len(strides) - 1).long()


def roi_align(level: Tensor, boxes: Tensor) -> Tensor:
    """[R, D, 7, 7] means of a level [D, H, W] over the bins of boxes [R, 4] in its own pixels.

    As the compiled operation with adaptive sampling: about a sample a pixel, bilinear (He et al. 2017). A bin
    is a weighted sum of pixels, which are gathered and summed in one go.
    """
    height, width = level.shape[1:]
    rows, row_weights = _samples(boxes[:, 1], boxes[:, 3], height)
    columns, column_weights = _samples(boxes[:, 0], boxes[:, 2], width)
    pixels = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    bags = functional.embedding_bag(
        pixels.flatten(3).flatten(0, 2),
        level.flatten(1).T,
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(level.dtype),
        mode="sum",
    )
    return bags.view(len(boxes), _BINS, _BINS, -1).permute(0, 3, 1, 2)


def _samples(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pixels [R, 7, S] of a side and their weights, summing to one where all samples lie inside."""
    length = (high - low)[:, None, None]
    count = (length / _BINS).ceil().clamp(min=1)
    most = int(count.amax())
    bins = torch.arange(_BINS, device=low.device)[:, None]
    within = torch.arange(most, device=low.device)
    place = low[:, None, None] + (bins + (within + 0.5) / count) * length / _BINS
    inside = (within < count) & (place >= -1) & (place <= size)
    place = place.clamp(min=0)
    first = place.floor().clamp(max=size - 1)
    second = (first + 1).clamp(max=size - 1)
    part = torch.where(first >= size - 1, 0.0, place - first)
    weights = torch.stack([1 - part, part], -1) * (inside / count)[..., None]
    return torch.stack([first, second], -1).long().flatten(2), weights.flatten(2)
