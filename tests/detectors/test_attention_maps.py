"""Recorded attention maps are the ones that attention used, and recording changes nothing."""

import pytest
import torch

from syncl.backbones import CpFpnConfig, FpnConfig, ResNetConfig
from syncl.detectors import Detr3dConfig, ImageEncoderConfig, PetrConfig, StreamPetrConfig
from syncl.detectors.attention_maps import TARGETS, attention_mass, recorded_self_attention
from syncl.layers.attention import Attention
from syncl.layers.decoder import PARALLEL
from syncl.structures import CameraRig, Frame

SIZES = {"dim": 16, "heads": 2, "layers": 2, "hidden": 16, "dropout": 0.0}


def encoder(all_levels: bool) -> ImageEncoderConfig:
    backbone = ResNetConfig(depth=None, blocks=(1, 1, 1, 1), stem_width=8, widths=(8, 8, 8, 8))
    return ImageEncoderConfig(backbone, FpnConfig(16) if all_levels else CpFpnConfig(16))


CLASSES = ("car", "bus")
DETECTORS = {
    "detr3d": Detr3dConfig(encoder(True), CLASSES, queries=6, cameras=1, **SIZES),
    "petr": PetrConfig(encoder(False), CLASSES, queries=6, **SIZES),
    "streampetr": StreamPetrConfig(
        encoder(False), CLASSES, queries=4, propagated=2, memory_slots=5, objects_a_frame=2, **SIZES
    ),
}


def make_frame() -> Frame:
    ahead = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 1.5], [1, 0, 0, 0], [0, 0, 0, 1]]).double()
    intrinsics = torch.tensor([[40.0, 0, 32], [0, 40, 16], [0, 0, 1]]).double()
    return Frame(
        torch.randint(0, 256, (1, 1, 3, 32, 64), generator=torch.Generator().manual_seed(0)).byte(),
        CameraRig(("FRONT",), intrinsics[None, None], ahead[None, None]),
        torch.ones(1, 1, dtype=torch.bool),
        torch.tensor([[[32, 64]]]),
        torch.eye(4, dtype=torch.float64)[None],
        torch.tensor([1.0], dtype=torch.float64),
        ("scene",),
        ("sample",),
    )


@pytest.mark.parametrize("kind", DETECTORS)
def test_maps_of_all_layers_beside_an_unchanged_pass(kind):
    torch.manual_seed(0)
    detector = DETECTORS[kind].build().eval()
    features = detector.encode(make_frame())
    queries = detector.initial_queries(features)
    with torch.no_grad():
        plain = detector.decode(queries, features, PARALLEL)
        with recorded_self_attention(detector) as maps:
            watched = detector.decode(queries, features, PARALLEL)
        detector.decode(queries, features)
    for before, after in zip(plain, watched, strict=True):
        assert torch.equal(before.logits, after.logits) and torch.equal(before.codes, after.codes)
    keys = queries.count + (3 if kind == "streampetr" else 0)
    assert [tuple(layer.shape) for layer in maps] == [(1, 2, queries.count, keys)] * 2, "kept on recording"
    assert all(torch.allclose(layer.sum(-1), torch.ones(())) for layer in maps)


def test_maps_are_what_attention_weighs_values_with():
    torch.manual_seed(0)
    attention = Attention(16, 4).eval()
    queries, keys, values = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[0, 3:] = False
    maps = attention.weights(queries, keys, valid)
    assert (maps[0, :, :, 3:] == 0).all()
    _, projected = attention.project(keys, values)
    expected = attention.out_proj((maps @ projected).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(queries, keys, values, valid), expected, atol=1e-6)


def test_shares_by_hand():
    # Two object queries, two track queries, one remembered object.
    maps = torch.tensor(
        [
            [0.5, 0.2, 0.1, 0.1, 0.1],
            [0.0, 0.6, 0.2, 0.2, 0.0],
            [0.1, 0.1, 0.7, 0.1, 0.0],
            [0.0, 0.0, 0.1, 0.8, 0.1],
        ]
    )
    assert TARGETS == ("itself", "other object queries", "other track queries", "memory")
    expected = torch.tensor([[0.55, 0.1, 0.3, 0.05], [0.75, 0.1, 0.1, 0.05]])
    assert torch.allclose(attention_mass(maps, 2), expected)
    alone = attention_mass(maps[:2, :2], 2)
    assert torch.allclose(alone[0], torch.tensor([0.55, 0.1, 0.0, 0.0])) and alone[1].isnan().all()
