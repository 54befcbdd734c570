"""Multi-head attention, the one module behind every attention in the package."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.errors import SynclError
from syncl.layers.recomputing import recomputed


def attend_heads(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """`scaled_dot_product_attention`, or where its kernel is slow the same in plain steps.

    In bfloat16 on CPUs its backward pass takes four times as long as the three products it consists of.

    Args:
        queries: [B, H, Q, D].
        keys: [B, H, S, D].
        values: [B, H, S, D].
        mask: bool, False = ignored, broadcast to [B, H, Q, S]; queries without any key get 0.
        dropout: probability.
    """
    slow = keys.device.type == "cpu" and keys.dtype == torch.bfloat16 and torch.is_grad_enabled()
    if not slow or dropout > 0:
        return functional.scaled_dot_product_attention(queries, keys, values, mask, dropout)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is not None:
        # Added, since masks are smaller than scores and filling them in would take as long as the products.
        lowest = torch.finfo(scores.dtype).min / 2
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, lowest)
    # Cast apart from the softmax, which is a third faster and the same to the last bit.
    weights = scores.float().softmax(-1).to(values.dtype)
    attended: Tensor = weights @ values
    return attended if mask is None else attended * mask.any(-1, keepdim=True)


class Attention(nn.Module):
    """Multi-head attention over `scaled_dot_product_attention`, batch first.

    Parameters carry `nn.MultiheadAttention`'s names and layout (`in_proj_weight` [3D, D], `in_proj_bias`,
    `out_proj`), which is what published checkpoints hold. Keys and values can be projected once and attended
    several times: `attend(queries, *project(keys, values))`.

    Letters: B batch, Q queries, S keys, D channels, H heads.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise SynclError(f"attention: {dim} channels cannot be split over {heads} heads")
        self.dim = dim
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S, D] as heads see them: two tensors [B, H, S, D / H]."""
        dim = self.dim
        projected_keys = functional.linear(
            keys, self.in_proj_weight[dim : 2 * dim], self.in_proj_bias[dim : 2 * dim]
        )
        projected_values = functional.linear(
            values, self.in_proj_weight[2 * dim :], self.in_proj_bias[2 * dim :]
        )
        return self._split(projected_keys), self._split(projected_values)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, key_valid: Tensor | None = None
    ) -> Tensor:
        """Attend with already projected keys and values.

        Args:
            queries: [B, Q, D], not yet projected; or [1, Q, D], the same for all rows.
            keys: [B, H, S, D / H] from `project`.
            values: [B, H, S, D / H] from `project`.
            key_valid: [B, S] bool (False = ignored), or [B, Q, S] for a mask of its own per query.

        Returns:
            [B, Q, D].
        """
        projected = functional.linear(queries, self.in_proj_weight[: self.dim], self.in_proj_bias[: self.dim])
        mask = None
        if key_valid is not None:
            mask = key_valid[:, None, None, :] if key_valid.dim() == 2 else key_valid[:, None]
        dropout = self.dropout if self.training else 0.0
        heads = self._split(projected).expand(keys.shape[0], -1, -1, -1)
        arguments = (heads, keys, values, mask, dropout)
        if dropout > 0 and queries.device.type == "cpu":
            # No kernel for CPUs drops out without forming the maps [B, H, Q, S]. They are formed again for
            # the backward pass instead of being kept: a clip's would fill gigabytes.
            attended = recomputed(attend_heads, *arguments)
        else:
            attended = attend_heads(*arguments)
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, key_valid: Tensor | None = None
    ) -> Tensor:
        """Project keys and values [B, S, D] and attend with queries [B, Q, D]; returns [B, Q, D]."""
        return self.attend(queries, *self.project(keys, values), key_valid)

    def weights(self, queries: Tensor, keys: Tensor, key_valid: Tensor | None = None) -> Tensor:
        """Attention maps [B, H, Q, S] for looking at; `forward` never forms them."""
        projected = functional.linear(queries, self.in_proj_weight[: self.dim], self.in_proj_bias[: self.dim])
        split_keys, _ = self.project(keys, keys)
        scores = self._split(projected) @ split_keys.transpose(-1, -2) / (self.dim // self.heads) ** 0.5
        if key_valid is not None:
            mask = key_valid[:, None, None, :] if key_valid.dim() == 2 else key_valid[:, None]
            scores = scores.masked_fill(~mask, float("-inf"))
        maps: Tensor = scores.softmax(-1)
        return maps

    def _split(self, tensor: Tensor) -> Tensor:
        batch, count, _ = tensor.shape
        split: Tensor = tensor.view(batch, count, self.heads, self.dim // self.heads).transpose(1, 2)
        return split
