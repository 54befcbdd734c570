"""What ends as metres or pixels stays float32 under autocast."""

import torch

from syncl.detectors.streampetr.focal_head import FocalHead, FocalHeadConfig, cell_centres
from syncl.geometry.transforms import invert_rigid, rotate_planar, transform_points
from syncl.layers.frustum import depth_bins, frustum_points
from syncl.layers.positional import encode_plane

HALF = {"device_type": "cpu", "dtype": torch.bfloat16}


def rig() -> torch.Tensor:
    """[1, 1, 4, 4] a camera that looks ahead."""
    camera = torch.tensor([[50.0, 0, 24, 0], [0, 50, 16, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double()
    extrinsics = torch.tensor([[0.0, -1, 0, 0.2], [0, 0, -1, 1.5], [1, 0, 0, -0.3], [0, 0, 0, 1]]).double()
    return (camera @ extrinsics)[None, None]


def test_points_and_vectors_move_exactly():
    pose = torch.eye(4)
    pose[:2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    pose[0, 3] = 123.4
    points, velocities = torch.tensor([[47.3, -21.7, 1.1]]), torch.tensor([[13.7, -3.3]])
    expected = [transform_points(pose, points), rotate_planar(pose, velocities), invert_rigid(pose)]
    with torch.autocast(**HALF):
        found = [transform_points(pose, points), rotate_planar(pose, velocities), invert_rigid(pose)]
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def test_viewing_rays_pass_where_they_pass():
    arguments = (rig().inverse(), (32, 48), (4, 6), depth_bins(8, 1.0, 60.0))
    expected = frustum_points(*arguments)
    with torch.autocast(**HALF):
        assert torch.equal(frustum_points(*arguments), expected)


def test_cells_of_a_wide_image_have_places_of_their_own():
    encoded = encode_plane(4, 400, 16, torch.zeros(1))
    half = encode_plane(4, 400, 16, torch.zeros(1, dtype=torch.bfloat16))
    assert torch.equal(half, encoded.to(torch.bfloat16))


def test_the_image_head_places_its_boxes_exactly():
    torch.manual_seed(0)
    head = FocalHead(FocalHeadConfig(), 8, 3, 1)
    with torch.autocast(**HALF):
        found = head(torch.randn(1, 1, 8, 3, 300))
    assert found.boxes.dtype == found.centres.dtype == torch.float32
    torch.nn.init.zeros_(head.centre.weight), torch.nn.init.zeros_(head.centre.bias)
    with torch.autocast(**HALF):
        centres = head(torch.randn(1, 1, 8, 3, 300)).centres
    assert torch.allclose(centres[0, 0], cell_centres(3, 300, torch.zeros(1)), atol=1e-6)
