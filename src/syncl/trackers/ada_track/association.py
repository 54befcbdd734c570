"""ADA-Track's association, learned between a decoder's layers (Ding et al., CVPR 2024, section 3.4).

Behind every decoder layer each detection looks at all tracks. A pair of the two has an edge: a feature that
starts from how far apart their boxes are, is refined from layer to layer, biases the attention, and says in
the end whether the two are one object. Detections take in what they find; tracks stay as they are.

ADA-Track++ (arXiv 2405.08909 v2) adds an auxiliary token: a detection that belongs to no track need not spend
its attention on tracks.

Letters: B streams, Q queries, D detections (object queries), N tracks, H heads, C channels.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.interaction import Interaction
from syncl.errors import SynclError
from syncl.layers.decoder import FeedForward
from syncl.layers.numerics import at_full_precision, mlp, prior_bias
from syncl.layers.recomputing import recomputed
from syncl.structures.tensors import TensorStructure

_PAIR_NUMBERS = 7
# Edges of more numbers than these are made a part of the detections at a time, and again in the backward
# pass. Those of 500 detections and 500 tracks, with what comes of them on the way, would otherwise take tens
# of gigabytes. Parts of a quarter of it take as much all the same: Linux' malloc keeps what is below 32 MiB.
_NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Affinities(TensorStructure):
    """What association makes of a frame.

    Attributes:
        logits: [L, B, D, N] after every layer, in tracking after the last alone (L = 1), how sure it is
            that a detection and a track are one object.
    """

    logits: Tensor


class AssociationAttention(nn.Module):
    """Detections attend tracks; edges bias the attention and, where gated, the values (equations 5 and 6)."""

    def __init__(self, dim: int, heads: int, dropout: float, gated: bool, token: bool) -> None:
        super().__init__()
        if dim % heads:
            raise SynclError(f"tracker.heads={heads}: {dim} channels cannot be split over so many heads")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.skip = nn.Linear(dim, dim)
        self.edge_bias = nn.Linear(dim, heads)
        self.edge_update = nn.Linear(heads, dim)
        self.gate = nn.Linear(dim, dim, bias=False) if gated else None
        self.token: nn.Parameter | None = None
        if token:
            self.token = nn.Parameter(0.02 * torch.randn(dim))
            self.token_bias = nn.Parameter(torch.zeros(heads))
        self.dropout = nn.Dropout(dropout)

    def tracks(self, tracks: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, N, C] of track states; the token's behind them, where there is one."""
        if self.token is not None:
            tracks = torch.cat([tracks, self.token.to(tracks.dtype).expand(len(tracks), 1, -1)], dim=1)
        return self.key(tracks), self.value(tracks)

    def forward(
        self, detections: Tensor, keys: Tensor, values: Tensor, edges: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Updates of detections [B, D, C] and of edges [B, D, N, C].

        Args:
            detections: [B, D, C].
            keys: [B, N, C] from `tracks`, or N + 1 with the token.
            values: of the same.
            edges: [B, D, N, C].
            valid: [B, N] bool; other tracks are not there.
        """
        heads = self.heads
        query, key, value = (
            part.unflatten(-1, (heads, -1)) for part in (self.query(detections), keys, values)
        )
        scores = torch.einsum("bdhc,bnhc->bdnh", query, key) / query.shape[-1] ** 0.5
        count = edges.shape[2]
        biased = scores[:, :, :count] + self.edge_bias(edges)
        logits, seen = biased, valid[:, None, :, None]
        if self.token is not None:
            logits = torch.cat([biased, scores[:, :, count:] + self.token_bias], dim=2)
            seen = functional.pad(seen, (0, 0, 0, 1), value=True)
        # Without any track (and token) a detection attends nothing, which leaves the skip connection alone.
        lowest = torch.finfo(torch.float32).min
        weights = logits.float().masked_fill(~seen, lowest).softmax(2) * seen
        weights = self.dropout(weights.to(value.dtype))
        if self.gate is None:
            found = torch.einsum("bdnh,bnhc->bdhc", weights, value)
        else:
            gate = self.gate(edges).sigmoid().unflatten(-1, (heads, -1))
            found = torch.einsum("bdnh,bnhc,bdnhc->bdhc", weights[:, :, :count], value[:, :count], gate)
            found = found + torch.einsum("bdnh,bnhc->bdhc", weights[:, :, count:], value[:, count:])
        return found.flatten(2) + self.skip(detections), self.edge_update(biased)


class AssociationLayer(nn.Module):
    """Attention and a perceptron of detections, and the same of edges; post-norm."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, gated: bool, token: bool) -> None:
        super().__init__()
        self.pair_embedding = nn.Linear(_PAIR_NUMBERS, dim)
        self.attention = AssociationAttention(dim, heads, dropout, gated, token)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.edge_norm = nn.LayerNorm(dim)
        self.edge_feed_forward = FeedForward(dim, hidden, dropout)
        self.edge_feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        detections: Tensor,
        keys: Tensor,
        values: Tensor,
        pairs: Tensor,
        edges: Tensor | None,
        valid: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Detections [B, D, C] and edges [B, D, N, C] behind the layer.

        Args:
            detections: [B, D, C] states behind the decoder layer.
            keys: [B, N, C] of `AssociationAttention.tracks`.
            values: of the same.
            pairs: [B, D, N, 7] from `box_differences`.
            edges: [B, D, N, C] of the layer before; None in the first.
            valid: [B, N] bool.
        """
        # Metres: bfloat16 keeps eight bits.
        embedded = at_full_precision(self.pair_embedding, pairs).to(detections.dtype)
        edges = embedded if edges is None else embedded + edges
        update, edge_update = self.attention(detections, keys, values, edges, valid)
        x = self.attention_norm(detections + self.dropout(update))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        edges = self.edge_norm(edges + self.dropout(edge_update))
        edges = self.edge_feed_forward_norm(edges + self.edge_feed_forward(edges))
        return x, edges


class Association(nn.Module):
    """An association layer for each decoder layer, and what says of an edge that it is one object."""

    def __init__(
        self,
        layers: int,
        branches: int,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float,
        gated: bool,
        token: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            AssociationLayer(dim, heads, hidden, dropout, gated, token) for _ in range(layers)
        )
        self.affinity_branches = nn.ModuleList(mlp(dim, dim, dim, 1, norm=True) for _ in range(branches))
        for branch in self.affinity_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]


class Associating(Interaction):
    """Association between the layers of one frame.

    Attributes:
        affinities: logits [B, D, N] of every layer so far that was asked.
    """

    def __init__(
        self,
        association: Association,
        objects: int,
        alive: Tensor,
        runs: Tensor,
        wrapped: bool,
        every_layer: bool,
    ) -> None:
        """Prepare a frame.

        Args:
            association: the layers.
            objects: how many leading queries are detections; tracks follow.
            alive: [B, N] bool tracks.
            runs: [B] bool streams that are associated; others go on as if there were no association.
            wrapped: whether differences of headings are wrapped.
            every_layer: whether all layers are asked for affinities, as losses need them, or the last alone.
        """
        self.association, self.objects, self.alive = association, objects, alive
        self.runs, self.wrapped, self.every_layer = runs, wrapped, every_layer
        self.affinities: list[Tensor] = []
        self._edges: list[Tensor | None] = []

    def __call__(self, layer: int, states: Tensor, codes: Tensor) -> Tensor:
        """See `Interaction`."""
        network, count = self.association, self.objects
        detections, tracks = states[:, :count], states[:, count : count + self.alive.shape[1]]
        own = cast(AssociationLayer, network.layers[layer])
        branch: nn.Sequential | None = None
        if self.every_layer or layer == len(network.layers) - 1:
            chosen = network.affinity_branches[min(layer, len(network.affinity_branches) - 1)]
            branch = cast(nn.Sequential, chosen)
        boxes = compared_numbers(codes.detach())
        track_boxes = boxes[:, count : count + tracks.shape[1]]
        keys, values = own.attention.tracks(tracks)
        parts = max(1, -(-detections.numel() * tracks.shape[1] // _NUMBERS_AT_ONCE))
        chunks = detections.chunk(parts, dim=1)
        if layer == 0:
            self._edges = [None] * len(chunks)
        found, logits = [], []
        for number, (chunk, chunk_boxes) in enumerate(zip(chunks, boxes[:, :count].chunk(parts, dim=1))):
            pairs = box_differences(chunk_boxes, track_boxes, self.wrapped)
            given = (chunk, keys, values, pairs, self._edges[number], self.alive)
            if parts > 1 and torch.is_grad_enabled():
                out, edges, sure = recomputed(_associate, own, branch, *given)
            else:
                out, edges, sure = _associate(own, branch, *given)
            self._edges[number] = edges
            found.append(out)
            if sure is not None:
                logits.append(sure)
        if logits:
            self.affinities.append(torch.cat(logits, dim=1))
        associated = torch.where(self.runs[:, None, None], torch.cat(found, dim=1), detections)
        return torch.cat([associated, states[:, count:]], dim=1)

    def result(self) -> Affinities:
        """What the layers say."""
        return Affinities(torch.stack(self.affinities))


def _associate(
    layer: AssociationLayer,
    branch: nn.Sequential | None,
    detections: Tensor,
    keys: Tensor,
    values: Tensor,
    pairs: Tensor,
    edges: Tensor | None,
    valid: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A layer's detections and edges, and the affinity logits [B, D, N] of the latter, where asked."""
    detections, edges = layer(detections, keys, values, pairs, edges, valid)
    if branch is None:
        return detections, edges, None
    hidden, last = branch[:-1], branch[-1]
    return detections, edges, at_full_precision(last, hidden(edges))[..., 0]


def compared_numbers(codes: Tensor) -> Tensor:
    """What is compared of box codes [..., 10]: x, y, z, length, width, height in metres, heading [..., 7].

    The heading is mmdetection3d's old one, clockwise from the frame's negative y axis, in [-pi, pi]. Where it
    jumps by a whole turn is part of what published weights have learned: in LIDAR_TOP's frame at those who
    drive as the vehicle does.
    """
    heading = torch.atan2(-codes[..., 7], -codes[..., 6])
    return torch.cat([codes[..., :3], codes[..., 3:6].exp(), heading[..., None]], dim=-1)


def box_differences(detections: Tensor, tracks: Tensor, wrapped: bool) -> Tensor:
    """[B, D, N, 7] tracks less detections, of what `compared_numbers` gives of each.

    Args:
        detections: [B, D, 7].
        tracks: [B, N, 7].
        wrapped: whether headings differ by half a turn at most; the original lets them differ by a whole one.
    """
    difference = tracks[:, None] - detections[:, :, None]
    if not wrapped:
        return difference
    turn = difference[..., 6:]
    return torch.cat([difference[..., :6], torch.atan2(turn.sin(), turn.cos())], dim=-1)
