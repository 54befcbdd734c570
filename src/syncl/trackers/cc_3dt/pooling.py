"""What lies in boxes of images, pooled to 7 x 7 bins of the level that fits each box's size.

Letters: C cameras, P boxes in images, D channels of levels, S samples of a bin.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

BINS = 7
# A box of this side in pixels is looked up in the level of stride 16.
_USUAL_SIDE_PX, _USUAL_STRIDE = 224, 16
_USUAL_CELLS = _USUAL_SIDE_PX // _USUAL_STRIDE


def pooled(levels: tuple[Tensor, ...], strides: tuple[int, ...], cameras: Tensor, boxes: Tensor) -> Tensor:
    """[P, D, 7, 7] of boxes [P, 4] (x1 y1 x2 y2, pixels) in the images of these cameras [P].

    Args:
        levels: [C, D, H / stride, W / stride], the finest first.
        strides: of the levels, each twice that before.
        cameras: of the boxes.
        boxes: inside the images.
    """
    chosen = level_of(boxes, strides)
    result = levels[0].new_zeros(len(boxes), levels[0].shape[1], BINS, BINS)
    for camera in cameras.unique().tolist():
        for number, (level, stride) in enumerate(zip(levels, strides, strict=True)):
            rows = ((cameras == camera) & (chosen == number)).nonzero()[:, 0]
            if len(rows):
                result = result.index_copy(0, rows, roi_align(level[camera], boxes[rows] / stride - 0.5))
    return result


def pooled_anywhere(
    levels: tuple[Tensor, ...], strides: tuple[int, ...], cameras: Tensor, boxes: Tensor
) -> Tensor:
    """The same up to rounding, without asking where boxes lie or how large they are; see `pooled`.

    Every bin gets as many samples as any could need: much more work, but a device need not be waited for.
    """
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    sizes = [len(levels[0]) * rows * columns for rows, columns in shapes]
    first = [0, *accumulate(sizes)]
    forms = [(*shape, stride, start) for shape, stride, start in zip(shapes, strides, first)]
    forms_of = torch.tensor(forms, device="cpu").to(boxes.device, non_blocking=True)
    rows, columns, stride, start = forms_of[level_of(boxes, strides)].T
    left, top, right, bottom = (boxes / stride[:, None] - 0.5).T
    down, along = _count(top, bottom), _count(left, right)
    sample = torch.arange(_most_samples(shapes), device=boxes.device)
    counted = sample < down * along
    row, row_weights = _taps(top, bottom, down, sample // along, counted, rows[:, None, None])
    column, column_weights = _taps(left, right, along, sample % along, counted, columns[:, None, None])
    # [P, bins down, bins along, S, taps down, taps along]
    row, row_weights = (part[:, :, None, :, :, None] for part in (row, row_weights))
    column, column_weights = (part[:, None, :, :, None, :] for part in (column, column_weights))
    begin = start + cameras * rows * columns
    pixels = row * columns.view(-1, 1, 1, 1, 1, 1) + column + begin.view(-1, 1, 1, 1, 1, 1)
    table = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])
    return _summed(table, pixels, row_weights * column_weights)


def _most_samples(shapes: list[tuple[int, int]]) -> int:
    """How many samples a bin can have.

    Levels but the last have boxes of less than twice the usual side in the geometric mean, the last has any
    that its map holds.
    """
    (rows, columns), (last_rows, last_columns) = shapes[0], shapes[-1]
    usual = math.ceil((2 * _USUAL_CELLS / BINS) ** 2 + (rows + columns) / BINS + 1)
    return max(usual, math.ceil(last_rows / BINS) * math.ceil(last_columns / BINS))


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
    return _summed(level.flatten(1).T, pixels, weights)


def _summed(table: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """[R, D, 7, 7] sums of rows of a table [X, D] by indices and weights [R, 7, 7, ...]."""
    bags = functional.embedding_bag(
        pixels.flatten(3).flatten(0, 2),
        table,
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(table.dtype),
        mode="sum",
    )
    return bags.view(len(pixels), BINS, BINS, -1).permute(0, 3, 1, 2)


def _samples(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pixels [R, 7, S] of a side and their weights, summing to one where all samples lie inside."""
    count = _count(low, high)
    within = torch.arange(int(count.amax()), device=low.device)
    pixels, weights = _taps(low, high, count, within, within < count, size)
    return pixels.flatten(2), weights.flatten(2)


def _count(low: Tensor, high: Tensor) -> Tensor:
    """[R, 1, 1] samples of a bin along a side: about one a pixel."""
    return ((high - low)[:, None, None] / BINS).ceil().clamp(min=1)


def _taps(
    low: Tensor, high: Tensor, count: Tensor, within: Tensor, counted: Tensor, size: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Pixels [R, 7, S, 2] that samples lie between along a side, and their weights.

    Args:
        low: [R] where boxes begin.
        high: [R] where they end.
        count: [R, 1, 1] samples of a bin.
        within: [S] or [R, 1, S] number of a sample in its bin.
        counted: the same shape, False = there is no such sample.
        size: of the level, or [R, 1, 1].
    """
    length = (high - low)[:, None, None]
    bins = torch.arange(BINS, device=low.device)[:, None]
    place = low[:, None, None] + (bins + (within + 0.5) / count) * length / BINS
    inside = counted & (place >= -1) & (place <= size)
    place = place.clamp(min=0)
    first = place.floor().clamp(max=size - 1)
    second = (first + 1).clamp(max=size - 1)
    part = torch.where(first >= size - 1, 0.0, place - first)
    weights = torch.stack([1 - part, part], -1) * (inside / count)[..., None]
    return torch.stack([first, second], -1).long(), weights
