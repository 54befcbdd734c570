"""Motion-aware norm, feature gate, NeRF harmonics, ray points and temporal keys of the decoder layer."""

import torch

from syncl.layers.attention import Attention
from syncl.layers.conditioning import FeatureGate, MotionNorm
from syncl.layers.decoder import PARALLEL, STANDARD, TokenLayer, TokenSequence, token_layers
from syncl.layers.frustum import depth_bins, frustum_points
from syncl.layers.positional import encode_harmonics


def test_a_new_motion_norm_is_a_layer_norm():
    torch.manual_seed(0)
    norm = MotionNorm(16, 5)
    x = torch.randn(2, 3, 16)
    assert torch.allclose(norm(x, torch.randn(2, 3, 5)), torch.nn.functional.layer_norm(x, (16,)), atol=1e-6)


def test_motion_norm_of_zeros_is_the_shift_alone():
    norm = MotionNorm(4, 2)
    torch.nn.init.normal_(norm.shift.weight)
    condition = torch.randn(7, 2)
    expected = norm.shift(torch.relu(norm.reduce(condition)))
    assert torch.allclose(norm(torch.zeros(7, 4), condition), expected)


def test_feature_gate_by_hand():
    gate = FeatureGate(1)
    with torch.no_grad():
        gate.reduce.weight.fill_(2.0), gate.reduce.bias.zero_()
        gate.expand.weight.fill_(1.0), gate.expand.bias.fill_(-1.0)
    inputs = torch.tensor([[3.0], [3.0]])
    gated = gate(inputs, torch.tensor([[0.5], [-4.0]]))
    # relu(1) - 1 = 0 gives one half; a negative feature leaves sigmoid(-1).
    assert torch.allclose(gated, 3 * torch.tensor([[0.0], [-1.0]]).sigmoid())


def test_harmonics_by_hand():
    values = torch.tensor([0.1, -0.4])
    expected = torch.stack([f(k * values) for k in (1.0, 2.0) for f in (torch.sin, torch.cos)]).flatten()
    assert torch.allclose(encode_harmonics(values, 2), expected)
    assert encode_harmonics(torch.zeros(3, 15), 6).shape == (3, 180)


def test_ray_points_project_back_to_their_pixels():
    camera = torch.tensor([[50.0, 0, 24, 0], [0, 50, 16, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    extrinsics = torch.tensor([[0.0, -1, 0, 0.2], [0, 0, -1, 1.5], [1, 0, 0, -0.3], [0, 0, 0, 1]]).double()
    projection = camera @ extrinsics
    depths = depth_bins(8, 1.0, 60.0)
    for offset in (0.0, 0.5):
        points = frustum_points(projection.inverse()[None, None], (32, 48), (4, 6), depths, offset).double()
        seen = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1) @ projection.T
        assert torch.allclose(seen[..., 2], depths.double().expand(1, 1, 4, 6, 8), atol=1e-3)
        u = seen[0, 0, 0, :, -1, 0] / seen[0, 0, 0, :, -1, 2]
        assert torch.allclose(u, (torch.arange(6).double() + offset) * 8, atol=1e-3)


def test_temporal_keys_reach_the_standard_decoder_only():
    torch.manual_seed(0)
    (layer,) = token_layers(1, 16, 2, 32, 0.0).eval()
    x, positions = torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    memory = torch.randn(2, 3, 16), torch.randn(2, 3, 16)
    tokens = TokenSequence(torch.randn(2, 4, 16), torch.randn(2, 4, 16), None)

    alone = layer(x, positions, None, STANDARD, tokens, memory)
    both = layer(torch.cat([x, x]), torch.cat([positions, positions]), None, PARALLEL, tokens, memory)
    without = layer(torch.cat([x, x]), torch.cat([positions, positions]), None, PARALLEL, tokens)
    assert torch.equal(both[:2], alone)
    assert torch.equal(both[2:], without[2:])
    assert not torch.allclose(both[:2], without[:2], atol=1e-3)
    hidden = torch.cat([torch.ones(2, 5), torch.zeros(2, 3)], dim=1).bool()
    masked = layer(x, positions, hidden, STANDARD, tokens, memory)
    assert torch.allclose(masked, without[:2], atol=1e-6)


def test_seeds_draw_layers_before_any_cross_attention():
    torch.manual_seed(3)
    layers = [TokenLayer(8, 2, 16, 0.0) for _ in range(2)]
    attentions = [Attention(8, 2) for _ in range(2)]
    torch.manual_seed(3)
    for layer, own, attention in zip(token_layers(2, 8, 2, 16, 0.0), layers, attentions, strict=True):
        assert torch.equal(layer.feed_forward.expand.weight, own.feed_forward.expand.weight)
        assert torch.equal(layer.cross_attention.in_proj_weight, attention.in_proj_weight)
