"""PETR: position embedding transformation for multi-view 3D object detection (Liu et al., ECCV 2022).

Image features of all cameras become one sequence of tokens whose positional part encodes the 3D points along
each token's viewing ray; queries attend to all of them. References stay fixed through the layers.

Letters: B batch, C cameras, S tokens, Q queries, L decoder layers, D channels, Z depth bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from syncl.detectors.image_encoder import inside_content
from syncl.detectors.passed import DetectorMemory, Features
from syncl.detectors.reference_range import ReferenceRange
from syncl.detectors.token_detector import TokenDetector, TokenDetectorConfig, TokenFeatures
from syncl.layers.frustum import depth_bins, frustum_points
from syncl.layers.numerics import inverse_sigmoid, mlp
from syncl.layers.positional import encode_grid, encode_points
from syncl.structures import Frame, Queries, object_queries
from syncl.structures.queries import in_front


@dataclass(frozen=True)
class PetrConfig(TokenDetectorConfig):
    """Sizes of a PETR; see `TokenDetectorConfig` for the rest.

    Attributes:
        learned_contents: object queries start from learned contents, as in PF-Track's trackers; else from 0.
        bottom_centres: whether the weights regress the centre of a box's bottom face, as ADA-Track's do.
    """

    learned_contents: bool = False
    bottom_centres: bool = False

    def build(self) -> "Petr":
        """Build the module."""
        return self.with_aids(Petr, self.queries)


class Petr(TokenDetector):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    depths: Tensor

    def __init__(self, config: PetrConfig) -> None:
        super().__init__(config)
        self.config = config
        self.query_count = config.queries
        self.bottom_centres = config.bottom_centres
        dim = config.dim
        depths = depth_bins(config.depth_count, config.depth_start_m, float(config.position_range[3]))
        self.register_buffer("depths", depths, persistent=False)
        self.ray_range = ReferenceRange(config.position_range)
        self.input_projection = nn.Linear(dim, dim)
        self.position_encoder = mlp(3 * config.depth_count, 4 * dim, dim)
        self.grid_encoder = mlp(3 * (dim // 2), 4 * dim, dim)
        self.query_position = mlp(3 * (dim // 2), dim, dim)
        self.reference_points = nn.Embedding(config.queries, 3)
        self.query_content = nn.Embedding(config.queries, dim) if config.learned_contents else None
        self.add_decoder(config)
        self.initialise()

    @override
    def initialise(self) -> None:
        nn.init.uniform_(self.reference_points.weight, 0, 1)
        if self.query_content is not None:
            nn.init.zeros_(self.query_content.weight)
        super().initialise()

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> TokenFeatures:
        """Tokens of all cameras with their 3D positions."""
        frame = self.image_encoder.pad(frame)
        attended = self.image_encoder(frame)[self.config.attended_level]
        cell_valid = self._valid_cells(frame, attended.shape[-2:])
        keys, values = self._tokens(attended, frame.rig.vehicle_from_image, cell_valid, frame.image_size)
        return TokenFeatures(
            frame.rig.image_from_vehicle,
            frame.camera_valid,
            frame.image_size,
            auxiliary=(),
            keys=keys,
            values=values,
            token_valid=attended_tokens(cell_valid, frame.camera_valid),
        )

    def _tokens(
        self, features: Tensor, vehicle_from_image: Tensor, cell_valid: Tensor, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S, D] of feature maps [B, C, D, H, W] and their valid cells [B, C, H, W]."""
        values = self.input_projection(features.permute(0, 1, 3, 4, 2))
        # Most streams have the same rig and padding: wide networks look at each once.
        rigs, rig_of = self._distinct(vehicle_from_image)
        grids, grid_of = self._distinct(cell_valid)
        coordinates = self.ray_coordinates(rigs, image_size, (features.shape[-2], features.shape[-1]))
        rays = self.position_encoder(coordinates)[rig_of]
        cells = self.grid_encoder(encode_grid(grids, self.dim // 2))[grid_of]
        positions = self.ray_positions(rays, values) + cells
        return (values + positions).flatten(1, 3), values.flatten(1, 3)

    def _distinct(self, tensor: Tensor) -> tuple[Tensor, Tensor | slice]:
        return (tensor, slice(None)) if self.fixed_shapes else distinct_rows(tensor)

    def ray_coordinates(
        self, vehicle_from_image: Tensor, image_size: tuple[int, int], grid_size: tuple[int, int]
    ) -> Tensor:
        """Points along every cell's ray as logits [B, C, H, W, 3 Z], depth-major, x y z fastest.

        A cell's pixel is its top-left corner, not its centre: published PETR weights were trained so.
        """
        points = frustum_points(vehicle_from_image, image_size, grid_size, self.depths)
        return inverse_sigmoid(self.ray_range.normalise(points)).flatten(-2)

    def ray_positions(self, rays: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002
        """Positional part [..., D] of encoded rays [..., D] whose cells have the contents [..., D]."""
        return rays

    def _valid_cells(self, frame: Frame, grid_size: tuple[int, int]) -> Tensor:
        """[B, C, H, W] cells that are not padding: the pixel mask, resized to the nearest pixel."""
        resized = functional.interpolate(inside_content(frame).float(), size=grid_size)
        return resized > 0.5

    @override
    def initial_queries(self, features: Features) -> Queries:
        """Learned reference points, with learned contents where configured."""
        return self._queries(*self._learned(features))

    @override
    def lifted_queries(self, features: Features, references: Tensor, contents: Tensor, /) -> Queries:
        unit, learned = self._learned(features)
        lifted = self.point_range.normalise(references)
        return self._queries(in_front(lifted, unit), in_front(contents, learned))

    def _learned(self, features: Features) -> tuple[Tensor, Tensor]:
        """Unit coordinates [B, Q, 3] and contents [B, Q, D] that object queries start with."""
        unit = self.reference_points.weight.expand(features.camera_valid.shape[0], -1, -1)
        if self.query_content is None:
            return unit, unit.new_zeros(*unit.shape[:2], self.dim)
        return unit, self.query_content.weight.expand(len(unit), -1, -1)

    @override
    def queries_at(self, codes: Tensor, contents: Tensor | None = None) -> Queries:
        if contents is None:
            contents = codes.new_zeros(*codes.shape[:2], self.dim)
        return self._queries(self.point_range.normalise(codes[..., :3]), contents)

    def _queries(self, unit: Tensor, contents: Tensor) -> Queries:
        """Object queries at unit coordinates [B, N, 3] with contents [B, N, D]."""
        return object_queries(contents, self._positions(unit), self.point_range.to_metres(unit))

    @override
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """Positions are an embedding of the reference point (metres), so moved tracks get new ones."""
        return self._positions(self.point_range.normalise(references))

    def _positions(self, unit_references: Tensor) -> Tensor:
        out: Tensor = self.query_position(encode_points(unit_references, self.dim // 2))
        return out


def distinct_rows(tensor: Tensor) -> tuple[Tensor, Tensor | slice]:
    """The different ones among the B rows of [B, ...] as they come, and what picks all B rows from them."""
    count = tensor.shape[0]
    if count == 1:
        return tensor, slice(None)
    rows, row_of = torch.unique(tensor, dim=0, return_inverse=True)
    first = row_of.new_full((len(rows),), count)
    first = first.scatter_reduce(0, row_of, torch.arange(count, device=tensor.device), "amin")
    order = first.argsort()
    return tensor[first[order]], order.argsort()[row_of]


def attended_tokens(cell_valid: Tensor, camera_valid: Tensor) -> Tensor:
    """[B, S] bool: cells that are not padding, of cameras that delivered an image.

    A stream without any camera attends its black images rather than nothing (which would be nan).
    """
    blind = ~camera_valid.any(1)[:, None, None, None]
    return ((cell_valid & camera_valid[..., None, None]) | blind).flatten(1)
