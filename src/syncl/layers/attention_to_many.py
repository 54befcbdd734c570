"""Attention to many keys in bfloat16 on CPUs, forwards by torch's kernel and backwards in few passes.

What takes the time is not products but passes over the scores [B, H, Q, S]. The kernel (flash attention, Dao
et al. 2022) never forms them, and leaves their logarithmic sum of exponentials. From that the backward pass
has each weight again, exp(score - sum), and what is subtracted on the way rides along as channels of the
products, in two parts where one of eight bits would be too coarse:

    P  = exp([q, sum] [k, -1]^T)             dV = P^T dO
    dS = P * ([dO, delta] [v, -1]^T)         dQ = dS k,  dK = dS^T q,       delta = sum of dO * O

Letters: B batch, H heads, Q queries, S keys, D channels a head.
"""

from typing import Any

import torch
from torch import Tensor

MANY_KEYS = 512
"""From here on it is faster than plain steps; to 100 keys it is a tenth slower."""


def attend_many(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention as `scaled_dot_product_attention` has it.

    Args:
        queries: [B, H, Q, D] bfloat16.
        keys: [B, H, S, D] bfloat16.
        values: [B, H, S, D] bfloat16.
        mask: [B, 1, 1, S] bool, False = ignored; where all are, queries get 0. None = none is.

    Returns:
        [B, H, Q, D] bfloat16.
    """
    added = None
    if mask is not None:
        lowest = torch.finfo(queries.dtype).min / 2
        added = torch.zeros_like(mask, dtype=queries.dtype).masked_fill(~mask, lowest)
    attended: Tensor = _ToMany.apply(queries, keys, values, added)  # type: ignore[no-untyped-call]
    return attended if mask is None else attended * mask.any(-1, keepdim=True)


class _ToMany(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, added: Tensor | None) -> Tensor:
        spread = None if added is None else added.expand(-1, -1, queries.shape[2], -1)
        attended, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, attn_mask=spread
        )
        ctx.save_for_backward(queries, keys, values, added, attended, sums)
        return attended  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, keys, values, added, attended, sums = ctx.saved_tensors
        scale = queries.shape[-1] ** -0.5
        less = keys.new_full((*keys.shape[:-1], 2), -1)
        asked, known = [queries * scale, _two_parts(sums)], [keys, less]
        if added is not None:
            asked.append(queries.new_ones(*queries.shape[:-1], 1))
            known.append(added.transpose(-1, -2).expand(-1, keys.shape[1], -1, -1))
        weights = (torch.cat(asked, dim=-1) @ torch.cat(known, dim=-1).transpose(-1, -2)).exp_()
        of_values = weights.transpose(-1, -2) @ gradient
        delta = _two_parts((gradient.float() * attended).sum(-1))
        by_scores = torch.cat([gradient, delta], dim=-1) @ torch.cat([values, less], dim=-1).transpose(-1, -2)
        by_scores.mul_(weights)
        of_keys = by_scores.transpose(-1, -2) @ queries
        return (by_scores @ keys).mul_(scale), of_keys.mul_(scale), of_values, None


def _two_parts(numbers: Tensor) -> Tensor:
    """Float32 numbers [...] as sums of two in bfloat16 [..., 2], of sixteen bits together."""
    first = numbers.bfloat16()
    return torch.stack([first, (numbers - first).bfloat16()], dim=-1)
