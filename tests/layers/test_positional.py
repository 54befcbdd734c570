"""Encodings of grids and rays where goldens leave gaps: padding below, depth bins."""

import math

import torch

from syncl.layers.frustum import depth_bins
from syncl.layers.positional import encode_grid, encode_points, sinusoid


def test_grid_coordinates_count_unpadded_cells_on_every_axis():
    valid = torch.zeros(1, 2, 4, 5, dtype=torch.bool)
    valid[:, :, :3, :4] = True
    # Two channels an axis: sine and cosine of the plain angle.
    encoded = encode_grid(valid, channels=2)
    assert encoded.shape == (1, 2, 4, 5, 6)

    def angle(axis: int, camera: int, row: int, column: int) -> float:
        sine, cosine = encoded[0, camera, row, column, 2 * axis : 2 * axis + 2].tolist()
        return math.atan2(sine, cosine) % (2 * math.pi) / (2 * math.pi)

    assert abs(angle(0, 0, 0, 0) - 1 / 2) < 1e-5
    assert abs(angle(1, 1, 0, 0) - 1 / 3) < 1e-5
    assert abs(angle(1, 0, 1, 3) - 2 / 3) < 1e-5
    assert abs(angle(2, 0, 2, 0) - 1 / 4) < 1e-5
    # Padding rows count on: they hold the last row's number. Rows of padding alone have no columns to count.
    assert torch.equal(encoded[0, 0, 3, 0, 2:4], encoded[0, 0, 2, 0, 2:4])
    assert encoded[0, 0, 3, 0, 4:].tolist() == [0, 1]


def test_grid_encoding_is_not_interleaved_but_points_are():
    valid = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    channels = 4
    column = encode_grid(valid, channels)[0, 0, 0, 0, 2 * channels :]
    angle = 2 * math.pi / 3
    slow = angle / 10000 ** (2 / channels)
    expected = [math.sin(angle), math.sin(slow), math.cos(angle), math.cos(slow)]
    torch.testing.assert_close(column, torch.tensor(expected), atol=1e-5, rtol=0)
    interleaved = sinusoid(torch.tensor(1 / 3), channels)
    expected = [math.sin(angle), math.cos(angle), math.sin(slow), math.cos(slow)]
    torch.testing.assert_close(interleaved, torch.tensor(expected), atol=1e-5, rtol=0)


def test_points_are_encoded_in_the_order_y_x_z():
    point = torch.tensor([0.1, 0.2, 0.3])
    parts = encode_points(point, 6).split(6)
    for part, value in zip(parts, (0.2, 0.1, 0.3), strict=True):
        torch.testing.assert_close(part, sinusoid(torch.tensor(value), 6))


def test_depth_bins_grow_linearly_from_the_first_to_before_the_last_depth():
    depths = depth_bins(64, 1.0, 61.2)
    assert depths.dtype == torch.float32 and depths[0] == 1
    steps = depths.diff()
    torch.testing.assert_close(steps.diff(), torch.full((62,), 2 * 60.2 / (64 * 65)), atol=2e-5, rtol=0)
    assert 59 < float(depths[-1]) < 61.2
