"""Decoupled queries and their affinity (DQTrack, Li et al., ICCV 2023).

One feature of a detection becomes two embeddings: an object query for the association of this frame, and a
track query that a track remembers.

Letters: D detections, N tracks, C channels, S segments of a piecewise linear function.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.layers.attention import Attention
from syncl.trackers.rows import rows_at_hand


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

    def decouple(
        self, embeddings: Tensor, positions: Tensor | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Track and object queries [D, C] of the detections of a frame, which all look at one another.

        Args:
            embeddings: [D, C] last features of the detections that take part: what comes of one depends on
                all.
            positions: [D, C] added to queries and keys, where features do not know their place.
            valid: [D] bool; False = a row that takes no part, and what comes of it means nothing.
        """
        both = torch.cat([self.track_branch(embeddings), self.object_branch(embeddings)])[None]
        asked = both if positions is None else both + torch.cat([positions, positions])
        attended = self.attention(asked, asked, both, None if valid is None else valid.repeat(2)[None])
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
        if torch.is_grad_enabled() or not distances_m.numel():
            embedded = self.distance_branch(self.distance_embedding(distances_m.to(self.dtype)[..., None]))
            direct: Tensor = self.affinity(embedded)[..., 0]
            return direct
        starts, *curves, constant = self._pieces()
        # From where its piece begins, a distance keeps its digits in the layers' own precision.
        dtype = torch.promote_types(self.dtype, torch.float32)
        distance = distances_m.to(dtype).flatten()
        piece = _piece_of(distance.float(), starts[1:].float())
        begin, slope, offset, square, linear, free = (
            numbers.to(dtype).index_select(0, piece) for numbers in (starts, *curves)
        )
        into = torch.sub(distance, begin, out=begin)
        numerator = slope.mul_(into).add_(offset)
        variance = square.mul_(into).add_(linear).mul_(into).add_(free)
        return numerator.mul_(variance.rsqrt_()).add_(constant).view(distances_m.shape)

    def _pieces(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The pieces of `distance_logits`, float64; each counts distances from where it begins.

        Returns:
            Where pieces begin [S], the first at 0, those that there are not (away from the host) at infinity;
            slope and offset of the numerator [S]; square, linear and free coefficient of the variance [S],
            which holds the norm's epsilon; the constant.
        """
        branch = self.distance_branch
        slope, offset = self.distance_embedding.weight[:, 0].double(), self.distance_embedding.bias.double()
        expand, contract = branch.expand.weight.double(), branch.contract.weight.double()
        inner_slope, inner_offset = expand @ slope, expand @ offset + branch.expand.bias.double()
        # Where a hidden number begins or ceases to count.
        turns = -inner_offset / inner_slope
        turns = torch.where(turns > 0, turns, torch.inf)
        turning, _ = rows_at_hand(turns < torch.inf)
        turning = turning[turns[turning].argsort()]
        counted = (inner_offset > 0) | ((inner_offset == 0) & (inner_slope > 0))
        columns = contract[:, turning] * torch.where(counted, -1.0, 1.0)[turning]
        first_slope = slope + contract @ (counted * inner_slope)
        first_offset = offset + contract @ (counted * inner_offset) + branch.contract.bias.double()
        slopes = _running(first_slope, columns * inner_slope[turning])
        offsets = _running(first_offset, columns * inner_offset[turning])
        starts = torch.cat([turns.new_zeros(1), turns[turning]])
        slopes, offsets = slopes - slopes.mean(0), offsets - offsets.mean(0)
        offsets = offsets + slopes * starts
        weight = self.affinity.weight[0].double()
        scaled = weight * branch.norm.weight.double()
        constant = weight @ branch.norm.bias.double() + self.affinity.bias.double()
        return (
            starts,
            scaled @ slopes,
            scaled @ offsets,
            slopes.square().mean(0),
            2 * (slopes * offsets).mean(0),
            offsets.square().mean(0) + branch.norm.eps,
            constant,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the layers."""
        return self.affinity.weight.dtype


def _running(first: Tensor, changes: Tensor) -> Tensor:
    """[C, S] columns that begin with `first` [C] and change by `changes` [C, S - 1]."""
    return torch.cat([first[:, None], changes], 1).cumsum(1)


def _piece_of(distances: Tensor, borders: Tensor) -> Tensor:
    """How many borders [S - 1], rising, are at or below each of the distances [P]; float32.

    Bits of a float without its last 17 rise with it, 64 steps an octave: a table knows the border before each
    step, and few are within one. A search of its own for every distance takes three times as long on the
    host; elsewhere the table would have to be waited for.
    """
    if distances.device.type != "cpu":
        return torch.searchsorted(borders, distances, right=True, out_int32=True)
    # abs for the sign of what is not a number.
    steps = distances.abs().view(torch.int32) >> 17
    every = torch.arange(int(steps.max()) + 2, dtype=torch.int32, device=steps.device)
    edges = (every << 17).view(torch.float32)
    table = torch.searchsorted(borders, edges, right=True, out_int32=True)
    borders = torch.cat([borders, borders.new_tensor([torch.inf])])
    found = table.index_select(0, steps)
    for _ in range(int(table.diff().max())):
        found += borders.index_select(0, found) <= distances
    return found
