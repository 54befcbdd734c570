"""What queries are told of the proposals around them."""

import pytest
import torch

from syncl.detectors.aids.nearby import NearbyProposals


@pytest.fixture
def module() -> NearbyProposals:
    torch.manual_seed(0)
    module = NearbyProposals(16, moves=True)
    for last in (module.out[-1], module.steps[-1]):
        torch.nn.init.normal_(last.weight)
    torch.nn.init.normal_(module.query.weight, std=0.1)
    return module


def _scene(queries: int = 3, proposals: int = 5) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    contents = torch.randn(2, queries, 16, generator=generator)
    references = torch.randn(2, queries, 3, generator=generator) * 3
    places = torch.randn(2, proposals, 3, generator=generator) * 3
    scores = torch.rand(2, proposals, generator=generator)
    return contents, references, places, scores, torch.randn(2, proposals, 16, generator=generator)


def test_it_says_where_proposals_are_relative_to_the_query(module):
    contents, references, places, scores, looks = _scene()
    told = module(contents, references, places, scores, looks)
    moved = torch.tensor([20.0, -7.0, 1.0])
    torch.testing.assert_close(module(contents, references + moved, places + moved, scores, looks), told)
    elsewhere = module(contents, references + 0.5, places, scores, looks)
    assert all((there - here).abs().max() > 1e-2 for there, here in zip(elsewhere, told, strict=True))


def test_the_order_of_proposals_does_not_matter_and_queries_do_not_see_each_other(module):
    contents, references, places, scores, looks = _scene()
    told = module(contents, references, places, scores, looks)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        module(contents, references, places[:, order], scores[:, order], looks[:, order]), told
    )
    alone = module(contents[:, 1:2], references[:, 1:2], places, scores, looks)
    torch.testing.assert_close(alone, tuple(part[:, 1:2] for part in told))


def test_far_and_weak_proposals_count_for_nothing(module):
    contents, references, places, scores, looks = _scene()
    nothing = module(contents, references, places, torch.zeros_like(scores), looks)
    far = module(contents, references, places + 60, scores, looks)
    torch.testing.assert_close(far, nothing, atol=1e-3, rtol=0)
    # One query is told the same nothing as any other, and none is moved.
    told, step = nothing
    torch.testing.assert_close(told, told[:1, :1].expand_as(told), atol=1e-3, rtol=0)
    assert step.abs().max() < 1e-3


def test_training_does_not_move_references(module):
    contents, references, places, scores, looks = _scene()
    references.requires_grad_()
    told, step = module(contents, references, places, scores, looks)
    (told.square().sum() + step.square().sum()).backward()
    assert references.grad is None
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_queries_learn_to_go_where_a_proposal_is():
    torch.manual_seed(0)
    module = NearbyProposals(16, moves=True)
    contents, references, *_ = _scene(queries=16)
    places = torch.tensor([[[0.0, 0.0, 0.0], [30.0, 0.0, 0.0]]]).expand(2, -1, -1)
    known = (places, torch.full((2, 2), 0.9), torch.zeros(2, 2, 16))
    assert not module(contents, references, *known)[1].any()
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(100):
        _, step = module(contents, references, *known)
        left = (references + step).norm(dim=-1).mean()
        optimiser.zero_grad()
        left.backward()
        optimiser.step()
    assert left < 0.2 * references.norm(dim=-1).mean()
