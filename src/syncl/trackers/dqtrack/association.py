"""Decoupled queries and their affinity (DQTrack, Li et al., ICCV 2023).

One feature of a detection becomes two embeddings: an object query for the association of this frame, and a
track query that a track remembers.

Letters: D detections, N tracks, C channels, S segments of a piecewise linear function.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.layers.attention import Attention


class Residual(nn.Module):
    """Two linear layers beside the way through, behind them a norm: [..., C] to the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand, self.contract = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, states: Tensor) -> Tensor:
        """The states after the layers."""
        updated: Tensor = self.norm(states + self.contract(functional.relu(self.expand(states))))
        return updated


class DecoupledAssociation(nn.Module):
    """The module between a detector and its tracks; 0.8 million parameters at 256 channels."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.track_branch, self.object_branch = Residual(dim), Residual(dim)
        self.attention = Attention(dim, heads)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = Residual(dim)
        self.distance_embedding, self.distance_branch = nn.Linear(1, dim), Residual(dim)
        self.affinity = nn.Linear(dim, 1)

    def decouple(self, embeddings: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Track and object queries [D, C] of the detections of a frame, which all look at one another.

        Args:
            embeddings: [D, C] last features of the detections that take part, and of no others: what comes
                of one depends on all.
            positions: [D, C] added to queries and keys, where features do not know their place.
        """
        both = torch.cat([self.track_branch(embeddings), self.object_branch(embeddings)])[None]
        asked = both if positions is None else both + torch.cat([positions, positions])
        attended = self.attention(asked, asked, both)
        track, detected = self.feed_forward(self.attention_norm(both + attended))[0].chunk(2)
        return track, detected

    def forward(self, detected: Tensor, queries: Tensor, distances_m: Tensor) -> Tensor:
        """Logits [D, N] of object queries [D, C] for track queries [N, C] at distances [D, N] in metres.

        As published, a linear layer reads the sum of the queries' product and the embedded distance; so the
        two add up. The product is a matrix product, and the distance's part a function of one number.
        """
        looks = (detected * self.affinity.weight[0]) @ queries.T
        return looks + self.distance_logits(distances_m).to(looks.dtype)

    def distance_logits(self, distances_m: Tensor) -> Tensor:
        """What distances [...] of at least 0 add to the logits.

        Without gradients by the same function written out: the layers in front of the norm are piecewise
        linear in the distance, so numerator and variance of the normalised number are polynomials on each
        piece. That costs the same for a pair whatever the channels.
        """
        if torch.is_grad_enabled():
            embedded = self.distance_branch(self.distance_embedding(distances_m.to(self.dtype)[..., None]))
            direct: Tensor = self.affinity(embedded)[..., 0]
            return direct
        starts, line, square, constant = self._pieces()
        distance = distances_m.double().flatten()
        piece = torch.searchsorted(starts, distance, right=True)

        def of(numbers: Tensor) -> Tensor:
            return numbers.index_select(0, piece)

        numerator = torch.addcmul(of(line[1]), of(line[0]), distance)
        variance = torch.addcmul(of(square[1]), of(square[0]), distance).mul_(distance).add_(of(square[2]))
        deviation = variance.add_(self.distance_branch.norm.eps).sqrt_()
        return numerator.div_(deviation).add_(constant).view(distances_m.shape)

    def _pieces(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pieces of `distance_logits`, float64.

        Returns:
            Where all pieces but the first begin [S - 1]; slope and offset of the numerator [2, S];
            coefficients of the variance [3, S]; the constant.
        """
        branch = self.distance_branch
        slope, offset = self.distance_embedding.weight[:, 0].double(), self.distance_embedding.bias.double()
        expand, contract = branch.expand.weight.double(), branch.contract.weight.double()
        inner_slope, inner_offset = expand @ slope, expand @ offset + branch.expand.bias.double()
        # Where a hidden number begins or ceases to count.
        turns = -inner_offset / inner_slope
        turning = torch.isfinite(turns) & (turns > 0)
        order = turns[turning].argsort()
        counted = (inner_offset > 0) | ((inner_offset == 0) & (inner_slope > 0))
        change = torch.where(counted, -1.0, 1.0)[turning][order]
        columns = contract[:, turning][:, order] * change
        first_slope = slope + contract @ (counted * inner_slope)
        first_offset = offset + contract @ (counted * inner_offset) + branch.contract.bias.double()
        slopes = _running(first_slope, columns * inner_slope[turning][order])
        offsets = _running(first_offset, columns * inner_offset[turning][order])
        slopes, offsets = slopes - slopes.mean(0), offsets - offsets.mean(0)
        weight = self.affinity.weight[0].double()
        scaled = weight * branch.norm.weight.double()
        line = torch.stack([scaled @ slopes, scaled @ offsets])
        square = torch.stack(
            [slopes.square().mean(0), 2 * (slopes * offsets).mean(0), offsets.square().mean(0)]
        )
        constant = weight @ branch.norm.bias.double() + self.affinity.bias.double()
        return turns[turning][order], line, square, constant

    @property
    def dtype(self) -> torch.dtype:
        """Of the layers."""
        return self.affinity.weight.dtype


def _running(first: Tensor, changes: Tensor) -> Tensor:
    """[C, S] columns that begin with `first` [C] and change by `changes` [C, S - 1]."""
    return torch.cat([first[:, None], changes], 1).cumsum(1)
