"""Sampling at projected points, in the precision of the originals."""

import torch
from torch.nn import functional

from syncl.geometry.projection import project_points
from syncl.layers.sampling import Taps, tables_of, taps_of, weighted_samples


def camera(scale: float = 1.0) -> torch.Tensor:
    """Looks along z: u = 8 x / z + 8, v = 8 y / z + 8 on a 16 x 16 image."""
    matrix = torch.tensor([[8.0, 0, 8, 0], [0, 8, 8, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double()
    matrix[:3] *= scale
    return matrix[None, None]


def look(level: torch.Tensor, points: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, Taps]:
    """Samples [B, Q, D] of a level of one camera's 16 x 16 image, and the taps."""
    shape = (level.shape[-2], level.shape[-1])
    taps = taps_of(points, matrix, torch.ones(1, 1, dtype=torch.bool), (16, 16), (shape,))
    weights = torch.ones(*points.shape[:2], 1, 1, dtype=points.dtype)
    return weighted_samples(tables_of((level,), points.dtype), taps, weights), taps


def test_the_middle_of_a_cell_reads_that_cell():
    level = torch.arange(16.0).view(1, 1, 1, 4, 4)
    # Pixel (6, 2) is the middle of column 1, row 0.
    points = torch.tensor([[[-0.25, -0.75, 1.0]]])
    samples, taps = look(level, points, camera())
    assert taps.visible.tolist() == [[[True]]]
    assert samples.flatten().tolist() == [1.0]


def test_points_behind_on_the_border_and_outside_do_not_count():
    points = torch.tensor([[[0.0, 0, 1], [0, 0, -1], [0, 0, 0], [-1, 0, 1], [1, 0, 1], [0.999, 0, 1]]])
    _, taps = look(torch.zeros(1, 1, 1, 4, 4), points, camera())
    assert taps.visible.tolist() == [[[True, False, False, False, False, True]]]


def test_projections_are_rounded_to_the_points_precision_first():
    # 1 - 1e-9 is 1 in float32: double precision places the point inside, float32 on the edge.
    matrix = camera()
    matrix[0, 0, 0, 0] = 8 * (1 - 1e-9)
    point = torch.tensor([[[1.0, 0, 1]]])
    level = torch.zeros(1, 1, 1, 4, 4)
    assert not look(level, point, matrix)[1].visible.any()
    assert look(level.double(), point.double(), matrix)[1].visible.all()


def test_wild_projections_stay_finite():
    points = torch.tensor([[[1e30, 1, 1e-4], [1, 1, 1e-6]]])
    samples, taps = look(torch.ones(1, 1, 2, 4, 4), points, camera())
    assert not samples.any() and not taps.visible.any()


def test_sums_and_gradients_are_those_of_torch_s_own_sampler():
    torch.manual_seed(0)
    turned = camera()
    turned[..., :3, :3] = turned[..., :3, :3] @ torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]).double()
    cameras = torch.cat([camera(), turned], dim=1).expand(2, -1, -1, -1)
    levels = torch.randn(2, 2, 3, 4, 4), torch.randn(2, 2, 3, 2, 2)
    valid = torch.tensor([[True, True], [True, False]])
    points = (torch.randn(2, 40, 3) * 2).requires_grad_()
    weights = torch.rand(2, 40, 2, 2, requires_grad=True)

    taps = taps_of(points, cameras, valid, (16, 16), ((4, 4), (2, 2)))
    ours = weighted_samples(tables_of(levels, torch.float32), taps, weights)

    pixels, _ = project_points(cameras.float(), points)
    grid = (pixels / 16 * 2 - 1).clamp(-2, 2).flatten(0, 1)[:, None]
    samples = torch.stack(
        [functional.grid_sample(level.flatten(0, 1), grid, align_corners=False)[:, :, 0] for level in levels]
    ).unflatten(1, (2, 2))
    theirs = torch.einsum("lbcdq,bqcl->bqd", samples, weights * taps.visible.transpose(1, 2)[..., None])

    assert 20 < taps.visible.sum() < 100
    torch.testing.assert_close(ours, theirs)
    for our, their in zip(
        torch.autograd.grad(ours.square().sum(), (points, weights)),
        torch.autograd.grad(theirs.square().sum(), (points, weights)),
    ):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)
