import copy

import pytest
import torch
from torch import nn

from syncl.layers.attention import Attention
from syncl.layers.recomputing import recomputed, run_checkpointed


@pytest.fixture
def block() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.ReLU(),
        nn.Conv2d(4, 2, 1),
        nn.BatchNorm2d(2),
    )


def test_gradients_and_running_statistics_are_those_of_a_plain_call(block: nn.Sequential) -> None:
    twin = copy.deepcopy(block)
    features = torch.randn(2, 3, 8, 8)
    for module, run in ((block, run_checkpointed), (twin, lambda module, x: module(x))):
        torch.manual_seed(0)  # for dropout
        inputs = features.clone().requires_grad_()
        run(module, inputs).square().sum().backward()
        module.input_gradient = inputs.grad

    torch.testing.assert_close(block.input_gradient, twin.input_gradient)
    for ours, plain in zip(block.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, plain.grad)
    for name, buffer in twin.named_buffers():
        torch.testing.assert_close(block.get_buffer(name), buffer, msg=f"{name} counted twice")
    assert block[1].num_batches_tracked == 1
    assert block[1].momentum == 0.1


def test_keeps_less_for_the_backward_pass(block: nn.Sequential) -> None:
    def kept(run: object) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            output = run(torch.randn(2, 3, 32, 32, requires_grad=True))
        assert output.requires_grad
        return sum(sizes)

    plain = kept(block)
    assert kept(lambda x: run_checkpointed(block, x)) < plain / 2


def test_without_gradients_it_is_a_plain_call(block: nn.Sequential) -> None:
    features = torch.randn(2, 3, 8, 8)
    block.eval()
    with torch.no_grad():
        torch.testing.assert_close(run_checkpointed(block, features), block(features))


def test_attention_with_dropout_keeps_no_maps_and_changes_nothing() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4, dropout=0.5)
    queries, keys = torch.randn(2, 10, 16, requires_grad=True), torch.randn(2, 300, 16)
    valid = torch.rand(2, 300) > 0.2
    sizes: list[int] = []
    results = []
    for plain in (False, True):
        torch.manual_seed(3)  # for dropout
        heads = attention.project(keys, keys)
        if plain:
            projected = torch.nn.functional.linear(
                queries, attention.in_proj_weight[:16], attention.in_proj_bias[:16]
            )
            split = projected.view(2, 10, 4, 4).transpose(1, 2)
            mask = valid[:, None, None]
            found = torch.nn.functional.scaled_dot_product_attention(split, *heads, mask, 0.5)
            output = attention.out_proj(found.transpose(1, 2).flatten(2))
        else:
            with torch.autograd.graph.saved_tensors_hooks(
                lambda x: sizes.append(x.numel()) or x, lambda x: x
            ):
                output = attention.attend(queries, *heads, valid)
        queries.grad = None
        attention.zero_grad()
        output.square().sum().backward()
        gradients = [queries.grad.clone(), *(p.grad.clone() for p in attention.parameters())]
        results.append([output.detach(), *gradients])
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)
    assert max(sizes) < 2 * 4 * 10 * 300, "a map was kept"


def test_recomputing_without_gradients_is_a_plain_call() -> None:
    with torch.no_grad():
        assert torch.equal(recomputed(torch.relu, torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))
