"""Frozen dataclasses of tensors: mapping, moving, joining."""

import dataclasses

import pytest
import torch

from syncl.structures import CameraRig, Predictions, Queries, object_queries
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


def make_queries(count: int, value: float, objects: int, identity: int = -1) -> Queries:
    full = torch.full((1, count, 10), value)
    identities = torch.full((1, count), identity)
    return Queries(full[..., :4], full[..., :4], full, identities, identities > -2, objects)


def test_tracks_come_behind_object_queries():
    joined = make_queries(3, 1.0, 3).followed_by(make_queries(2, 5.0, 0, identity=7))
    assert joined.object_count == 3 and joined.count == 5
    assert joined.embeddings[0, :, 0].tolist() == [1, 1, 1, 5, 5]
    assert joined.references[0, :, 2].tolist() == [1, 1, 1, 5, 5]
    assert joined.identities.tolist() == [[-1, -1, -1, 7, 7]]
    assert joined.attention is None and torch.equal(joined.looked_at, joined.valid)


def test_object_queries_alone_look_at_everything():
    assert make_queries(3, 1.0, 3).looked_at is None


def seen_by(queries: Queries) -> list[str]:
    """For each query of the first stream, the queries it looks at, as a row of x and dots."""
    mask = queries.looked_at
    mask = mask[:, None].expand(-1, queries.count, -1) if mask.dim() == 2 else mask
    return ["".join(".x"[look] for look in row) for row in mask[0].int().tolist()]


def test_others_with_attention_look_at_all_and_are_seen_by_nobody_else():
    first = make_queries(2, 1.0, 2).followed_by(make_queries(2, 2.0, 0))
    first = dataclasses.replace(first, valid=torch.tensor([[True, True, True, False]]))
    apart = torch.eye(2, dtype=torch.bool)[None]
    joined = first.followed_by(dataclasses.replace(make_queries(2, 3.0, 0), attention=apart))
    assert seen_by(joined) == ["xxx...", "xxx...", "xxx...", "xxx...", "xxx.x.", "xxx..x"]


def test_queries_with_attention_keep_it_before_others_of_either_kind():
    apart = torch.eye(2, dtype=torch.bool)[None]
    first = dataclasses.replace(make_queries(2, 1.0, 2), attention=apart)
    absent = dataclasses.replace(make_queries(2, 2.0, 0), valid=torch.tensor([[True, False]]))
    # Others without attention are like any query: they look at all that is valid, and all look at them.
    joined = first.followed_by(absent)
    assert seen_by(joined) == ["x.x.", ".xx.", "xxx.", "xxx."]
    further = dataclasses.replace(make_queries(1, 3.0, 0), attention=torch.ones(1, 1, 1).bool())
    assert seen_by(joined.followed_by(further)) == ["x.x..", ".xx..", "xxx..", "xxx..", "xxx.x"]


def test_object_queries_know_nothing_but_their_place():
    references, nothing = torch.tensor([[[1.0, 2, 3]]]), torch.zeros(1, 1, 4)
    plain = object_queries(nothing, nothing, references)
    assert plain.codes.tolist() == [[[1, 2, 3, 0, 0, 0, 0, 0, 0, 0]]]
    assert plain.identities.tolist() == [[-1]] and plain.valid.all() and plain.object_count == 1


def test_rows_of_predictions_are_those_of_some_queries():
    numbers = torch.arange(5.0)[None, None, :, None]
    valid = torch.ones(1, 5, dtype=torch.bool)
    made = Predictions(numbers, numbers, numbers, numbers, valid, 3, detection_logits=numbers)
    part = made.rows(slice(3, None))
    for name in ("logits", "codes", "embeddings", "references", "detection_logits"):
        assert getattr(part, name).flatten().tolist() == [3, 4], name
    assert part.valid.shape == (1, 2)
    assert dataclasses.replace(made, detection_logits=None).rows(slice(1)).detection_logits is None


def test_detaching_cuts_gradients():
    tensor = torch.ones(2, requires_grad=True) * 2
    assert not Nested(make_rig(), (tensor,), 1).detach().levels[0].requires_grad
