import math

import numpy as np
import pytest
import torch

from syncl.geometry.overlap import bev_intersection, bev_iou


def box(x=0.0, y=0.0, length=4.0, width=2.0, yaw=0.0, dtype=torch.float64):
    return torch.tensor([x, y, 0, length, width, 1.5, yaw, 0, 0], dtype=dtype)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (box(), box(), 8.0),
        (box(), box(x=1), 6.0),
        (box(), box(x=1, y=1), 3.0),
        (box(), box(x=4), 0.0),  # they touch
        (box(), box(x=9), 0.0),
        (box(), box(yaw=math.pi), 8.0),
        (box(), box(yaw=math.pi / 2), 4.0),
        (box(), box(length=1, width=1), 1.0),
        (box(), box(length=20, width=20, yaw=0.3), 8.0),
        # A unit square and itself turned by 45 degrees share a regular octagon.
        (box(length=1, width=1), box(length=1, width=1, yaw=math.pi / 4), 2 * (math.sqrt(2) - 1)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shared_area_by_hand(first, second, shared, dtype):
    first, second = first.to(dtype), second.to(dtype)
    for a, b in ((first, second), (second, first)):
        assert bev_intersection(a, b).item() == pytest.approx(shared, abs=2e-5)


def test_overlap_agrees_with_counting_points():
    rng = np.random.default_rng(3)
    boxes = np.zeros((2, 60, 9))
    boxes[..., :2] = rng.uniform(-2, 2, (2, 60, 2))
    boxes[..., 3:6] = rng.uniform(0.5, 5, (2, 60, 3))
    boxes[..., 6] = rng.uniform(-4, 4, (2, 60))
    found = bev_iou(*torch.from_numpy(boxes)).numpy()
    axis = np.linspace(-6, 6, 601)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

    def covers(item):
        offset = points - item[:2]
        cos, sin = np.cos(item[6]), np.sin(item[6])
        along, across = offset @ [cos, sin], offset @ [-sin, cos]
        return (abs(along) <= item[3] / 2) & (abs(across) <= item[4] / 2)

    for pair in range(60):
        a, b = covers(boxes[0, pair]), covers(boxes[1, pair])
        assert found[pair] == pytest.approx((a & b).sum() / (a | b).sum(), abs=0.02)
