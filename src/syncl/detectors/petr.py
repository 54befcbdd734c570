"""PETR: position embedding transformation for multi-view 3D object detection (Liu et al., ECCV 2022).

Image features of all cameras become one sequence of tokens whose positional part encodes the 3D points along
each token's viewing ray; queries attend to all of them. References stay fixed through the layers.

Letters: B batch, C cameras, S tokens, Q queries, L decoder layers, D channels, Z depth bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.base import (
    NUSCENES_RANGE,
    Detector,
    DetectorMemory,
    Features,
    PointRange,
    ReferenceRange,
    check_calibration,
)
from syncl.detectors.image_encoder import ImageEncoderConfig, inside_content
from syncl.detectors.proposals import ProposalConfig, build_proposal_head, look_nearby, propose
from syncl.detectors.token_decoding import TokenFeatures, check_level, decode_tokens, predict_boxes
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.attention import Attention
from syncl.layers.decoder import STANDARD, DecoderLayer, Groups
from syncl.layers.frustum import depth_bins, frustum_coordinates
from syncl.layers.numerics import mlp, prior_bias
from syncl.layers.positional import encode_grid, encode_points
from syncl.structures import Frame, Predictions, Queries


@dataclass(frozen=True)
class PetrConfig:
    """Sizes of a PETR. The defaults are the published V2-99 configuration's.

    Attributes:
        image: backbone and neck; one level of the neck is attended.
        classes: class names in logit order.
        queries: number of object queries.
        dim: query and feature channels.
        heads: attention heads.
        layers: decoder layers.
        hidden: hidden channels of the feed-forward networks.
        dropout: in attention and feed-forward.
        depth_count: depth bins Z a viewing ray.
        depth_start_m: first depth.
        position_range: range that position coordinates are normalised with, metres.
        point_range: range of reference points, metres, vehicle frame.
        shared_branches: one class and one box branch for all layers (as published) or one each a layer.
        proposals: auxiliary image head that starts some of the object queries; None as published.
        attended_level: index of the neck level that queries attend; the finest as published.
        lifted_tracks: whether track queries say where they are in the way of queries lifted from proposals as
            well, whose places the decoder knows how to read; needs proposals.
        learned_contents: object queries start from learned contents, as in PF-Track's trackers; else from 0.
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    queries: int = 900
    dim: int = 256
    heads: int = 8
    layers: int = 6
    hidden: int = 2048
    dropout: float = 0.1
    depth_count: int = 64
    depth_start_m: float = 1.0
    position_range: PointRange = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
    point_range: PointRange = NUSCENES_RANGE
    shared_branches: bool = True
    proposals: ProposalConfig | None = None
    attended_level: int = 0
    lifted_tracks: bool = False
    learned_contents: bool = False

    def build(self) -> "Petr":
        """Build the module."""
        return Petr(self)


class Petr(Detector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    positions_follow_references = True

    def __init__(self, config: PetrConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = config.classes
        self.dim = config.dim
        self.query_count = config.queries
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()
        check_level(config.attended_level, self.image_encoder.strides)
        if config.lifted_tracks and config.proposals is None:
            raise SynclError("detector.lifted_tracks=true needs detector.proposals")
        dim = config.dim
        self.input_projection = nn.Linear(dim, dim)
        self.position_encoder = mlp(3 * config.depth_count, 4 * dim, dim)
        self.grid_encoder = mlp(3 * (dim // 2), 4 * dim, dim)
        self.query_position = mlp(3 * (dim // 2), dim, dim)
        self.reference_points = nn.Embedding(config.queries, 3)
        self.query_content = nn.Embedding(config.queries, dim) if config.learned_contents else None
        self.layers = nn.ModuleList(
            DecoderLayer(dim, config.heads, config.hidden, config.dropout) for _ in range(config.layers)
        )
        self.cross_attentions = nn.ModuleList(
            Attention(dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output_norm = nn.LayerNorm(dim)
        branches = 1 if config.shared_branches else config.layers
        self.class_branches = nn.ModuleList(
            mlp(dim, dim, dim, len(config.classes), norm=True) for _ in range(branches)
        )
        self.box_branches = nn.ModuleList(self._box_branch() for _ in range(branches))
        self.proposal_head = build_proposal_head(
            config.proposals, config.queries, dim, len(config.classes), self.image_encoder.strides
        )
        self._initialise()

    def _box_branch(self) -> nn.Module:
        return mlp(self.dim, self.dim, self.dim, CODE_SIZE)

    def _initialise(self) -> None:
        nn.init.uniform_(self.reference_points.weight, 0, 1)
        if self.query_content is not None:
            nn.init.zeros_(self.query_content.weight)
        for layer in self.layers:
            for parameter in layer.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]

    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> TokenFeatures:  # noqa: ARG002
        """Tokens of all cameras with their 3D positions, and proposals where configured."""
        frame = self.image_encoder.pad(frame)
        projections = check_calibration(frame)
        levels = self.image_encoder(frame)
        attended = levels[self.config.attended_level]
        cell_valid = self._valid_cells(frame, attended.shape[-2:])
        keys, values = self._tokens(attended, projections, cell_valid, frame.image_size)
        return TokenFeatures(
            projections,
            frame.camera_valid,
            frame.image_size,
            propose(self.proposal_head, frame, levels, projections),
            keys=keys,
            values=values,
            token_valid=attended_tokens(cell_valid, frame.camera_valid),
        )

    def _tokens(
        self, features: Tensor, projections: Tensor, cell_valid: Tensor, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S, D] of feature maps [B, C, D, H, W] and their valid cells [B, C, H, W]."""
        values = self.input_projection(features.permute(0, 1, 3, 4, 2))
        coordinates = frustum_coordinates(
            projections,
            image_size,
            (features.shape[-2], features.shape[-1]),
            depth_bins(
                self.config.depth_count, self.config.depth_start_m, float(self.config.position_range[3])
            ),
            self.config.position_range,
        )
        grid = encode_grid(cell_valid, self.dim // 2)
        positions = self._ray_positions(coordinates, values) + self.grid_encoder(grid)
        return (values + positions).flatten(1, 3), values.flatten(1, 3)

    def _ray_positions(self, coordinates: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002
        """Positional part [..., D] of ray coordinates [..., 3 Z] whose cells have the contents [..., D]."""
        positions: Tensor = self.position_encoder(coordinates)
        return positions

    def _valid_cells(self, frame: Frame, grid_size: tuple[int, int]) -> Tensor:
        """[B, C, H, W] cells that are not padding: the pixel mask, resized to the nearest pixel."""
        resized = functional.interpolate(inside_content(frame).float(), size=grid_size)
        return resized > 0.5

    def initial_queries(self, features: Features) -> Queries:
        """Learned reference points, the first ones replaced by proposals where configured."""
        streams = features.camera_valid.shape[0]
        unit = self.reference_points.weight.expand(streams, -1, -1)
        embeddings = unit.new_zeros(streams, self.query_count, self.dim)
        if self.query_content is not None:
            embeddings = self.query_content.weight.expand(streams, -1, -1)
        positions = self._positions(unit)
        proposals = features.proposals
        if proposals is not None and self.proposal_head is not None:
            count = proposals.references.shape[1]
            lifted = self.point_range.normalise(proposals.references)
            unit = torch.cat([lifted, unit[:, count:]], dim=1)
            positions = self._positions(unit)
            embeddings = torch.cat([proposals.embeddings, embeddings[:, count:]], dim=1)
            positions = torch.cat(
                [positions[:, :count] + self.proposal_head.positions(lifted), positions[:, count:]], dim=1
            )
        valid = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        return Queries(embeddings, positions, self.point_range.to_metres(unit), valid, self.query_count)

    def decode(
        self, queries: Queries, features: Features, groups: Groups = STANDARD
    ) -> tuple[Predictions, ...]:
        """Decode all layers against the tokens; every layer predicts from the same reference points."""
        if not isinstance(features, TokenFeatures):
            raise TypeError(f"Petr.decode takes TokenFeatures, got {type(features).__name__}")
        queries = look_nearby(self.proposal_head, queries, features.proposals)
        valid = queries.valid if queries.count > queries.object_count else None
        states = decode_tokens(
            queries, features, groups, self.layers, self.cross_attentions, self.dropout, valid
        )
        states = [self.output_norm(state) for state in states]
        return predict_boxes(
            states, queries, groups, self.class_branches, self.box_branches, self.point_range
        )

    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:  # noqa: ARG002
        """Positions are an embedding of the reference point (metres), so moved tracks get new ones."""
        unit = self.point_range.normalise(references)
        placed = self._positions(unit)
        if self.proposal_head is None or not self.config.lifted_tracks:
            return placed
        return placed + self.proposal_head.positions(unit)

    def _positions(self, unit_references: Tensor) -> Tensor:
        out: Tensor = self.query_position(encode_points(unit_references, self.dim // 2))
        return out


def attended_tokens(cell_valid: Tensor, camera_valid: Tensor) -> Tensor:
    """[B, S] bool: cells that are not padding, of cameras that delivered an image.

    A stream without any camera attends its black images rather than nothing (which would be nan).
    """
    blind = ~camera_valid.any(1)[:, None, None, None]
    return ((cell_valid & camera_valid[..., None, None]) | blind).flatten(1)
