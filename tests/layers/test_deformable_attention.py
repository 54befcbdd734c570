"""Deformable attention: both forms alike, borders, tiny levels, half precision, the compiled operator."""

import sys
import types

import pytest
import torch

from syncl.layers import deformable_attention as module
from syncl.layers.deformable_attention import (
    DeformableAttention,
    attend_grids,
    attend_rows,
    deformable_attention,
)

SHAPES = ((5, 7), (3, 2))


def inputs(shapes=SHAPES, queries=9, spread=0.5):
    torch.manual_seed(0)
    cells = sum(height * width for height, width in shapes)
    values = torch.randn(2, cells, 4, 8)
    locations = 0.5 + spread * torch.randn(2, queries, 4, len(shapes), 3, 2)
    weights = torch.rand(2, queries, 4, len(shapes), 3)
    return values, shapes, locations, weights


@pytest.mark.parametrize("at_a_time", [1, 40, 1 << 16])
def test_looking_rows_up_and_sampling_grids_give_the_same_inside_and_outside(at_a_time, monkeypatch):
    monkeypatch.setattr(module, "_AT_A_TIME", at_a_time)
    given = inputs()
    outside = (given[2] < 0) | (given[2] > 1)
    assert outside.any() and not outside.all()
    assert torch.allclose(attend_rows(*given), attend_grids(*given), atol=1e-5)


def test_wild_locations_read_nothing():
    values, shapes, locations, weights = inputs()
    for wild in (1e9, -1e9, 1e30):
        assert not attend_rows(values, shapes, torch.full_like(locations, wild), weights).any()


def test_a_level_of_one_cell_is_a_tent_around_it():
    values = torch.ones(1, 1, 1, 1)
    locations = torch.tensor([0.5, 0.75, 1.0, 1.5, 1.7]).view(1, 5, 1, 1, 1, 1).repeat(1, 1, 1, 1, 1, 2)
    locations[..., 1] = 0.5
    found = deformable_attention(values, ((1, 1),), locations, torch.ones(1, 5, 1, 1, 1))
    assert torch.allclose(found.flatten(), torch.tensor([1.0, 0.75, 0.5, 0.0, 0.0]))


def test_a_location_in_the_middle_of_a_cell_reads_that_cell_of_its_head_and_stream():
    values = torch.arange(2 * 6 * 2 * 3.0).view(2, 6, 2, 3)
    # Row 1, column 2 of a 2 x 3 level.
    locations = torch.tensor([2.5 / 3, 1.5 / 2]).expand(2, 1, 2, 1, 1, 2)
    found = deformable_attention(values, ((2, 3),), locations, torch.ones(2, 1, 2, 1, 1))
    assert torch.allclose(found[:, 0], values[:, 5].flatten(1), atol=1e-3)


def test_gradients_reach_values_locations_and_weights():
    values, shapes, locations, weights = inputs((((3, 4)),), queries=2, spread=0.2)
    values, locations, weights = (part[:1].double() for part in (values, locations, weights))

    def attend(*parts):
        return attend_grids(parts[0], shapes, *parts[1:])

    parts = tuple(part.requires_grad_() for part in (values, locations, weights))
    assert torch.autograd.gradcheck(attend, parts, eps=1e-6, atol=1e-4)


def test_positions_and_sums_keep_full_precision_in_half_precision():
    values, shapes, locations, weights = inputs()
    attention = DeformableAttention(32, 4, len(shapes), 3).eval()
    queries = torch.randn(2, 9, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert attention.offsets(queries, shapes).dtype == attention.logits(queries).dtype == torch.float32
        found = deformable_attention(values.bfloat16(), shapes, locations, weights)
    assert found.dtype == torch.float32
    assert torch.allclose(
        found, attend_grids(values.bfloat16().float(), shapes, locations, weights), atol=1e-5
    )


def test_fresh_heads_look_in_directions_of_their_own_a_cell_further_each_point():
    attention = DeformableAttention(32, 8, 2, 3)
    cells = attention.offsets(torch.zeros(1, 1, 32), ((1, 1), (1, 1)))[0, 0]
    assert torch.allclose(cells.abs().amax(-1)[:, 0], torch.arange(1.0, 4).expand(8, -1))
    assert torch.equal(cells[:, 0], cells[:, 1])
    assert torch.allclose(cells[0, 0, 0], torch.tensor([1.0, 0]), atol=1e-6)
    assert torch.allclose(cells[2, 0, 0], torch.tensor([0, 1.0]), atol=1e-6)


def test_mmcvs_operator_is_used_where_it_imports_and_is_given_what_it_takes(monkeypatch):
    class Function:
        @staticmethod
        def apply(values, shapes, starts, locations, weights, step):
            assert starts.tolist() == [0, 35] and shapes.tolist() == [[5, 7], [3, 2]]
            assert values.shape[0] % step == 0
            return attend_grids(values, tuple(map(tuple, shapes.tolist())), locations, weights)

    operators = types.ModuleType("mmcv.ops.multi_scale_deform_attn")
    operators.MultiScaleDeformableAttnFunction = Function
    for name in ("mmcv", "mmcv.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, operators.__name__, operators)
    module._fused_kernel.cache_clear()
    kernel = module._fused_kernel()
    module._fused_kernel.cache_clear()
    assert kernel is Function.apply
    given = inputs()
    areas = torch.tensor(SHAPES)
    starts = areas.prod(1).cumsum(0) - areas.prod(1)
    assert torch.equal(kernel(given[0], areas, starts, *given[2:], 1), attend_grids(*given))


def test_without_mmcv_there_is_no_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    module._fused_kernel.cache_clear()
    assert module._fused_kernel() is None
    module._fused_kernel.cache_clear()
