"""Sampling at projected points, in the precision of the originals."""

import torch

from syncl.layers.sampling import sample_features


def camera(scale: float = 1.0) -> torch.Tensor:
    """Looks along z: u = 8 x / z + 8, v = 8 y / z + 8 on a 16 x 16 image."""
    matrix = torch.tensor([[8.0, 0, 8, 0], [0, 8, 8, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double()
    matrix[:3] *= scale
    return matrix[None, None]


def test_the_middle_of_a_cell_reads_that_cell():
    level = torch.arange(16.0).view(1, 1, 1, 4, 4)
    # Pixel (6, 2) is the middle of column 1, row 0.
    points = torch.tensor([[[-0.25, -0.75, 1.0]]])
    samples, inside = sample_features((level,), points, camera(), (16, 16))
    assert inside.tolist() == [[[True]]]
    assert samples.flatten().tolist() == [1.0]


def test_points_behind_on_the_border_and_outside_do_not_count():
    points = torch.tensor([[[0.0, 0, 1], [0, 0, -1], [0, 0, 0], [-1, 0, 1], [1, 0, 1], [0.999, 0, 1]]])
    _, inside = sample_features((torch.zeros(1, 1, 1, 4, 4),), points, camera(), (16, 16))
    assert inside.tolist() == [[[True, False, False, False, False, True]]]


def test_projections_are_rounded_to_the_points_precision_first():
    # 1 - 1e-9 is 1 in float32: double precision places the point inside, float32 on the edge.
    matrix = camera()
    matrix[0, 0, 0, 0] = 8 * (1 - 1e-9)
    point = torch.tensor([[[1.0, 0, 1]]])
    level = torch.zeros(1, 1, 1, 4, 4)
    assert not sample_features((level,), point, matrix, (16, 16))[1].any()
    assert sample_features((level.double(),), point.double(), matrix, (16, 16))[1].all()


def test_wild_projections_stay_finite():
    points = torch.tensor([[[1e30, 1, 1e-4], [1, 1, 1e-6]]])
    samples, inside = sample_features((torch.ones(1, 1, 2, 4, 4),), points, camera(), (16, 16))
    assert torch.isfinite(samples).all() and not inside.any()
