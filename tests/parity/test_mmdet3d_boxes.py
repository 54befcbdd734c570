"""Box conventions of mmdetection3d, both ways."""

import math

import pytest
import torch
from mmdet3d_boxes import boxes_from_mmdet3d_0, boxes_to_mmdet3d_0

from syncl.geometry.boxes import decode_boxes, encode_boxes
from syncl.geometry.mmdet3d import MMDET3D_0_CODE, MMDET3D_1_CODE, CodeLayout


def random_boxes(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.randn(count, 9, generator=generator)
    boxes[:, 3:6] = boxes[:, 3:6].exp()
    boxes[:, 6] = torch.rand(count, generator=generator) * 2 * math.pi - math.pi
    return boxes


def test_a_car_facing_the_frames_x_axis():
    # 4.5 m long, 1.8 m wide, heading along x; the old heading counts clockwise from the negative y axis.
    old = torch.tensor([[10.0, -2, 0.5, 1.8, 4.5, 1.6, -math.pi / 2, 3, 0]])
    assert boxes_from_mmdet3d_0(old)[0].tolist() == pytest.approx(
        [10, -2, 0.5, 4.5, 1.8, 1.6, 0, 3, 0], abs=1e-6
    )


@pytest.mark.parametrize(
    ("yaw", "old_yaw"), [(0.0, -math.pi / 2), (math.pi / 2, -math.pi), (-math.pi / 2, 0.0)]
)
def test_headings(yaw, old_yaw):
    box = torch.tensor([0.0, 0, 0, 4, 2, 1, yaw, 0, 0])
    heading = boxes_to_mmdet3d_0(box)[6]
    assert math.cos(float(heading) - old_yaw) == pytest.approx(1)


def test_bottom_centres_are_half_a_height_lower():
    box = torch.tensor([0.0, 0, 1, 4, 2, 1.5, 0, 0, 0])
    assert boxes_to_mmdet3d_0(box, bottom_centre=True)[2] == 0.25
    old = boxes_to_mmdet3d_0(box, bottom_centre=True)
    torch.testing.assert_close(boxes_from_mmdet3d_0(old, bottom_centre=True), box)


def test_boxes_there_and_back():
    boxes = random_boxes(50)
    torch.testing.assert_close(boxes_from_mmdet3d_0(boxes_to_mmdet3d_0(boxes)), boxes)


@pytest.mark.parametrize("layout", [MMDET3D_0_CODE, MMDET3D_1_CODE])
def test_codes_there_and_back(layout: CodeLayout):
    code = encode_boxes(random_boxes(20))
    assert torch.equal(layout.to_library(layout.from_library(code)), code)
    assert torch.equal(layout.from_library(layout.to_library(code)), code)


def test_the_old_code_is_that_of_the_old_box():
    boxes = random_boxes(20)
    old = boxes_to_mmdet3d_0(boxes)
    x, y, z, width, length, height, heading, vx, vy = old.unbind(-1)
    expected = torch.stack(
        [x, y, width.log(), length.log(), z, height.log(), heading.sin(), heading.cos(), vx, vy], dim=-1
    )
    torch.testing.assert_close(MMDET3D_0_CODE.from_library(encode_boxes(boxes)), expected)
    torch.testing.assert_close(decode_boxes(MMDET3D_0_CODE.to_library(expected)), boxes)


def test_rows_of_a_layer_are_converted_like_its_outputs():
    layer = torch.nn.Linear(4, 10)
    x = torch.randn(3, 4)
    converted = torch.nn.functional.linear(
        x, MMDET3D_0_CODE.to_library(layer.weight, dim=0), MMDET3D_0_CODE.to_library(layer.bias, dim=0)
    )
    torch.testing.assert_close(converted, MMDET3D_0_CODE.to_library(layer(x)))
