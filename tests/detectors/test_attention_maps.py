"""Recorded attention maps are the ones that attention used, and recording changes nothing."""

import pytest
import torch

from rig import DETECTORS, make_frame
from syncl.detectors.attention_maps import TARGETS, attention_mass, recorded_self_attention
from syncl.layers.attention import Attention
from syncl.layers.decoder import PARALLEL


@pytest.mark.parametrize("kind", DETECTORS)
def test_maps_of_all_layers_beside_an_unchanged_pass(kind):
    torch.manual_seed(0)
    detector = DETECTORS[kind].build().eval()
    features = detector.encode(make_frame(1.0))
    queries = detector.initial_queries(features)
    with torch.no_grad():
        plain = detector.decode(queries, features, PARALLEL)
        with recorded_self_attention(detector) as maps:
            watched = detector.decode(queries, features, PARALLEL)
        detector.decode(queries, features)
    for before, after in zip(plain, watched, strict=True):
        assert torch.equal(before.logits, after.logits) and torch.equal(before.codes, after.codes)
    remembered = detector.config.memory_slots - detector.config.propagated if kind == "streampetr" else 0
    keys = queries.count + remembered
    assert [tuple(layer.shape) for layer in maps] == [
        (1, detector.config.heads, queries.count, keys)
    ] * detector.config.layers, "kept on recording"
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
