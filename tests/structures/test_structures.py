"""Frozen dataclasses of tensors: mapping, moving, joining."""

import dataclasses

import pytest
import torch

from syncl.structures import CameraRig, Queries
from syncl.structures.tensors import TensorStructure


@dataclasses.dataclass(frozen=True)
class Nested(TensorStructure):
    rig: CameraRig
    levels: tuple[torch.Tensor, ...]
    count: int


def make_rig() -> CameraRig:
    intrinsics = torch.tensor([[2.0, 0, 3], [0, 4, 5], [0, 0, 1]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([1.0, 2, 3])
    return CameraRig(("a",), intrinsics[None, None], pose[None, None])


def test_mapping_reaches_nested_tensors_and_leaves_the_rest():
    nested = Nested(make_rig(), (torch.ones(2), torch.zeros(3)), 7)
    doubled = nested.map(lambda tensor: tensor * 2)
    assert doubled.count == 7 and doubled.rig.names == ("a",)
    assert torch.equal(doubled.levels[0], torch.full((2,), 2.0))
    assert torch.equal(doubled.rig.image_from_camera, 2 * nested.rig.image_from_camera)
    with pytest.raises(dataclasses.FrozenInstanceError):
        doubled.count = 3


def test_image_from_vehicle_is_intrinsics_times_extrinsics():
    point = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64)
    u, v, depth, one = (make_rig().image_from_vehicle[0, 0] @ point).tolist()
    assert (u, v, depth, one) == (2 * 1 + 3 * 4, 4 * 2 + 5 * 4, 4, 1)


def test_tracks_come_behind_object_queries():
    def queries(count: int, value: float, objects: int) -> Queries:
        full = torch.full((1, count, 4), value)
        return Queries(full, full, full[..., :3], torch.ones(1, count, dtype=torch.bool), objects)

    joined = queries(3, 1.0, 3).with_tracks(queries(2, 5.0, 0))
    assert joined.object_count == 3 and joined.count == 5
    assert joined.embeddings[0, :, 0].tolist() == [1, 1, 1, 5, 5]


def test_detaching_cuts_gradients():
    tensor = torch.ones(2, requires_grad=True) * 2
    assert not Nested(make_rig(), (tensor,), 1).detach().levels[0].requires_grad
