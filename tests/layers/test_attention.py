"""Attention in plain steps, where the fused kernel is slow, against the fused kernel."""

import pytest
import torch
from torch.nn import functional

from syncl.layers.attention import Attention, attend_heads


def draw(queries=5, keys=7, dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 4, queries, 8), (2, 4, keys, 8), (2, 4, keys, 8))
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("masked", ["none", "keys", "pairs"])
def test_plain_steps_equal_the_kernel_in_values_and_gradients(masked):
    mask = None
    if masked == "keys":
        mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
        mask[0, ..., 4:] = False
    if masked == "pairs":
        mask = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.4
        mask[..., 0] = True
    queries, keys, values = draw()
    weight = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(4))
    plain = attend_heads(queries, keys, values, mask, 0.0)
    ours = torch.autograd.grad((plain.float() * weight).sum(), (queries, keys, values))
    exact = [tensor.detach().float().requires_grad_() for tensor in (queries, keys, values)]
    kernel = functional.scaled_dot_product_attention(*exact, mask)
    expected = torch.autograd.grad((kernel * weight).sum(), exact)
    assert plain.dtype == torch.bfloat16
    torch.testing.assert_close(plain.float(), kernel, atol=2e-2, rtol=2e-2)
    for found, wanted in zip(ours, expected):
        torch.testing.assert_close(found.float(), wanted, atol=4e-2, rtol=4e-2)


def test_a_query_without_any_key_gets_nothing_and_no_nan():
    queries, keys, values = draw()
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    mask[1, :, 2] = False
    attended = attend_heads(queries, keys, values, mask, 0.0)
    assert (attended[1, :, 2] == 0).all()
    gradients = torch.autograd.grad(attended.float().sum(), (queries, keys, values))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_maps_are_what_forward_attends_with():
    torch.manual_seed(0)
    attention = Attention(16, 4)
    queries, keys = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    maps = attention.weights(queries, keys)
    _, values = attention.project(keys, keys)
    expected = attention.out_proj((maps @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(queries, keys, keys), expected)
