"""BEVDepth over time (Li et al., AAAI 2023), as DORT has it for its base (Lian et al., CoRL 2023).

    images -> features -> view of the ground (`view_transform`) -> views of the frames before beside it,
    moved with the vehicle (`bev_backbone`) -> heat maps of centres and boxes there (`centre_head`)

There are no object queries in it. Its candidates, the hottest cells, take their place in the contract: they
are the object queries of a frame, boxes and all, and decoding gives them back. So whatever tracks detections
can track it; tracks as queries cannot be decoded. What lasts between frames are the views, without gradient.

Past frames stay where they were seen, moved only as the vehicle moved: what moves by itself is smeared. That
is what DORT's recurrence over objects (`detectors.dort`) is about.

Letters: B streams, C cameras, D channels, Y X cells of the view, N past frames, Q candidates.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from syncl.detectors.base import Detector
from syncl.detectors.bevdepth.bev_backbone import BevBackbone, shifted
from syncl.detectors.bevdepth.blocks import residual_stage
from syncl.detectors.bevdepth.centre_head import (
    IMPOSSIBLE,
    Candidates,
    CentreHead,
    CentreHeadConfig,
)
from syncl.detectors.bevdepth.past_views import FrameImages, PastViews
from syncl.detectors.bevdepth.suppression import Suppression
from syncl.detectors.bevdepth.view_transform import (
    BevGrid,
    Cells,
    ViewTransform,
    calibration_numbers,
    cells_of,
    lift_points,
)
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import DetectorMemory, Features, own
from syncl.detectors.reference_range import NUSCENES_RANGE, PointRange, ReferenceRange
from syncl.errors import SynclError
from syncl.geometry.boxes import decode_boxes
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Frame, Objects, Predictions, Queries, ToldFrame
from syncl.structures.queries import candidate_queries

_DIVISOR = 8


@dataclass(frozen=True)
class BevDepthConfig:
    """Sizes; the defaults are those of DORT's base detector on ResNet-50.

    Attributes:
        image: backbone and neck.
        classes: class names in logit order.
        point_range: what the view spans in x and y, metres, vehicle frame; heights are not looked at.
        cell_m: side of a cell of the view.
        height_m: points of the lift between these heights count (published: the whole layer below too).
        depths_m: (first, end, step) of the depth bins.
        lifted_level: which of the neck's levels is lifted.
        pixel_centres: rays go through the middles of the lifted level's cells; published ones are spread from
            the first pixel to the last, and so up to half a cell off.
        cell_offsets: the view also says where in a cell what was lifted lies (`view_transform.splat`);
            published ones only that it does, in cells of 0.8 m.
        context: channels of a frame's view.
        depth_hidden: channels of the depth net.
        depth_blocks: its residual blocks.
        frames: how many frames are looked at, the present one among them; missing ones are the present one
            once more.
        bev_channels: channels of the encoded view.
        full_resolution: see `bev_backbone.BevBackbone`.
        head: the centre head.
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    point_range: PointRange = NUSCENES_RANGE
    cell_m: float = 0.8
    height_m: tuple[float, float] = (-10.0, 10.0)
    depths_m: tuple[float, float, float] = (1.0, 60.0, 1.0)
    lifted_level: int = 0
    pixel_centres: bool = False
    cell_offsets: bool = False
    context: int = 64
    depth_hidden: int = 256
    depth_blocks: int = 3
    frames: int = 9
    bev_channels: int = 256
    full_resolution: bool = False
    head: CentreHeadConfig = field(default_factory=CentreHeadConfig)

    @property
    def grid(self) -> BevGrid:
        """The view's cells.

        Raises:
            SynclError: if the range is not a whole number of cells, divisible by 8, in x and y.
        """
        low_x, low_y, _, high_x, high_y, _ = self.point_range
        sides = ((high_y - low_y) / self.cell_m, (high_x - low_x) / self.cell_m)
        rows, columns = (round(side) for side in sides)
        if any(
            abs(side - whole) > 1e-3 or whole < _DIVISOR or whole % _DIVISOR
            for side, whole in zip(sides, (rows, columns))
        ):
            raise SynclError(
                f"detector.cell_m={self.cell_m}: the range {self.point_range} has {sides[1]:.6g} x "
                f"{sides[0]:.6g} cells; both must be whole numbers divisible by {_DIVISOR}"
            )
        return BevGrid(low_x, low_y, self.cell_m, (rows, columns), *self.height_m)

    def build(self) -> "BevDepth":
        """Build the module."""
        return BevDepth(self)

    def precomputed(self, frame: Frame, _memory: DetectorMemory | None, /) -> dict[str, Tensor]:
        """See `Detector.precomputed`: what the depth net is told of cameras, and where points fall; both of
        the calibration alone.
        """
        with torch.device("meta"):
            stride = _strides(self.image)[self.lifted_level]
        height, width = (side + -side % self.image.divisor for side in frame.image_size)
        depths = torch.arange(*self.depths_m, device=frame.images.device)
        points = lift_points(
            frame.rig.image_from_vehicle,
            (height, width),
            (height // stride, width // stride),
            depths,
            self.pixel_centres,
        )
        cells = cells_of(points, self.grid, self.cell_offsets)
        numbers = calibration_numbers(frame.rig.image_from_camera, frame.rig.camera_from_vehicle)
        told = {"camera_numbers": numbers.unflatten(0, points.shape[:2]), "cells": cells.numbers.int()}
        return told if cells.offsets is None else told | {"cell_offsets": cells.offsets}

    def settled(self, objects: Objects, most: int) -> Objects:
        """See `Settling`: without objects that surer ones suppress."""
        suppression = Suppression(self.head.tasks, self.classes).to(objects.scores.device)
        task_of = {name: number for number, task in enumerate(self.head.tasks) for name in task.classes}
        tasks = torch.tensor([task_of[name] for name in self.classes], device=objects.labels.device)
        # Cells that are no candidates have none; those beyond the reported range suppress as well.
        candidates = Candidates(
            objects.boxes, objects.labels, tasks[objects.labels], objects.scores, objects.scores > 0
        )
        kept = suppression(objects.boxes, objects.scores, candidates)
        scores = torch.where(kept, objects.scores, 0.0)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :most]
        best = replace(objects, scores=scores).map(
            lambda tensor: tensor.take_along_dim(order.view(*order.shape, *[1] * (tensor.dim() - 2)), dim=1)
        )
        return replace(best, valid=best.valid & (best.scores > 0))


@cache
def _strides(image: ImageEncoderConfig) -> tuple[int, ...]:
    return image.build().strides


@dataclass(frozen=True)
class BevDepthFeatures(Features):
    """A frame in the bird's-eye view; what depth net and heads say is in `auxiliary`.

    Attributes:
        shared: [B, D, Y, X] what all heads read.
        view: [B, context, Y, X] the frame's own view, to be remembered.
        images: the frame's images, to be remembered; None where nobody looks at them again.
        past: what was remembered, without streams whose scene changed.
        past_from_now: [B, N, 4, 4] float64 where the vehicle was then.
        age_s: [B, N] float64 how long ago that was.
        candidates: [B, Q] boxes that the head proposes.
    """

    shared: Tensor
    view: Tensor
    images: FrameImages | None
    past: PastViews
    past_from_now: Tensor
    age_s: Tensor
    candidates: Candidates


class BevDepth(Detector):
    """See the module's docstring."""

    positions_follow_references = True
    told_inputs = MappingProxyType(
        {
            "camera_numbers": "[1, C, 21] image_from_camera, then rotation and place of each camera in the "
            "vehicle",
            "cells": "[1, C, Z, H, W] int32 cell of the view that each depth of a ray falls into, -1 = none",
            "cell_offsets": "[1, C, Z, H, W, 2] where in its cell, in cells from the middle",
        }
    )

    def __init__(self, config: BevDepthConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = config.classes
        self.dim = config.head.shared
        self.query_count = config.head.candidates
        self.point_range = ReferenceRange(config.point_range)
        self.layers, self.class_branches = nn.ModuleList(), nn.ModuleList()
        self.grid = config.grid
        self.image_encoder = config.image.build()
        strides = self.image_encoder.strides
        if not 0 <= config.lifted_level < len(strides):
            raise SynclError(
                f"detector.lifted_level={config.lifted_level}: the neck has {len(strides)} levels"
            )
        if config.frames < 1:
            raise SynclError(f"detector.frames={config.frames}: must be at least 1, the present frame")
        self.view_transform = ViewTransform(
            channels=self.image_encoder.neck.channels[config.lifted_level],
            context=config.context,
            hidden=config.depth_hidden,
            blocks=config.depth_blocks,
            depths_m=config.depths_m,
            grid=self.grid,
            pixel_centres=config.pixel_centres,
            cell_offsets=config.cell_offsets,
        )
        lifted = config.context * (3 if config.cell_offsets else 1)
        self.before_shift = residual_stage(lifted, config.context, 2)
        self.bev_encoder = BevBackbone(
            config.context * config.frames, config.bev_channels, config.full_resolution
        )
        self.head = CentreHead(config.head, config.classes, config.bev_channels, self.grid)
        self.suppression = Suppression(config.head.tasks, config.classes)

    @override
    def initial_memory(self, streams: int) -> PastViews:
        """Nothing seen."""
        like = self.head.low.new_zeros(self.config.context, *self.grid.shape)
        return PastViews.empty(streams, like, self.config.frames - 1 if self.fixed_shapes else 0)

    @override
    def fix_shapes(self) -> None:
        """See `Detector.fix_shapes`: all points are added up, in the view or not, and which
        candidates surer ones suppress is left to the host (`Settling`).
        """
        super().fix_shapes()
        self.unsettled = self.config.head.candidates

    @override
    def precomputed(self, frame: Frame, memory: DetectorMemory | None) -> dict[str, Tensor]:
        return self.config.precomputed(frame, memory) if self.fixed_shapes else {}

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> BevDepthFeatures:
        """The view of a frame, the views of those before beside it, and what the heads say.

        Raises:
            SynclError: if cameras or image size change within a scene whose images are looked at again; views
                of the ground do not depend on them.
        """
        frame = self.image_encoder.pad(frame)
        projections = frame.rig.image_from_vehicle
        levels = self.image_encoder(frame)
        numbers, cells = self._of_rig(frame)
        view, depth = self.view_transform(
            levels[self.config.lifted_level].float(),
            projections,
            numbers,
            frame.camera_valid,
            frame.image_size,
            cells,
        )
        view = self.before_shift(view)
        images = self.to_remember(levels, frame, projections)
        past = self.initial_memory(frame.batch_size) if memory is None else own(PastViews, memory, self)
        past = past.fitting(frame, images)
        past_from_now = past.past_from_now(frame)
        views = torch.cat([view, self._aligned(view, past, past_from_now)], dim=1)
        # Convolutions are faster when channels lie next to each other in memory.
        bev = self.bev_encoder(views.contiguous(memory_format=torch.channels_last))
        shared, maps = self.head(bev)
        return BevDepthFeatures(
            projections,
            frame.camera_valid,
            frame.image_size,
            auxiliary=(depth, maps),
            shared=shared,
            view=view,
            images=images,
            past=past,
            past_from_now=past_from_now,
            age_s=frame.timestamp_s[:, None] - past.timestamps_s,
            candidates=self.head.candidates(maps),
        )

    def _of_rig(self, frame: Frame) -> tuple[Tensor, Cells | None]:
        """What the depth net is told of cameras [B C, 21], and where points fall if that is to be known."""
        if not self.fixed_shapes:
            rig = frame.rig
            return calibration_numbers(rig.image_from_camera, rig.camera_from_vehicle), None
        told = frame.told if isinstance(frame, ToldFrame) else self.precomputed(frame, None)
        return told["camera_numbers"].flatten(0, 1), Cells(told["cells"], told.get("cell_offsets"))

    def to_remember(
        self, _levels: tuple[Tensor, ...], _frame: Frame, _projections: Tensor, /
    ) -> FrameImages | None:
        """What of a frame's images later frames look at again: nothing."""
        return None

    def _aligned(self, view: Tensor, past: PastViews, past_from_now: Tensor) -> Tensor:
        """[B, (frames - 1) context, Y, X]: past views in the present axes; the present one where none is."""
        wanted = self.config.frames - 1
        missing = view[:, None].expand(-1, wanted - past.count, -1, -1, -1)
        if not past.count:
            return missing.flatten(1, 2)
        moved = shifted(past.bev.flatten(0, 1), past_from_now.flatten(0, 1), self.grid)
        moved = moved.unflatten(0, past.bev.shape[:2])
        known = torch.where(past.valid[..., None, None, None], moved, view[:, None])
        return torch.cat([known, missing], dim=1).flatten(1, 2)

    @override
    def initial_queries(self, features: Features) -> Queries:
        """The frame's candidates; rows of those that are not sure enough are not valid."""
        found = own(BevDepthFeatures, features, self)
        candidates = found.candidates
        states = self.states_at(found.shared, candidates.codes)
        return candidate_queries(states, candidates.codes, candidates.valid)

    def states_at(self, shared: Tensor, codes: Tensor) -> Tensor:
        """What all heads read [B, Q, D] where boxes are, bilinear between the middles of cells."""
        places = (codes[..., :2] - self.head.low) / self.config.cell_m - 0.5
        rows, columns = self.grid.shape
        unit = torch.stack([places[..., 0] / (columns - 1), places[..., 1] / (rows - 1)], dim=-1) * 2 - 1
        sampled = functional.grid_sample(shared.float(), unit[:, :, None], align_corners=True)
        return sampled[..., 0].transpose(1, 2)

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """The candidates as one layer's predictions, in every group the same; in inference mode without those
        that surer ones suppress.

        Raises:
            SynclError: if there are other queries than the frame's candidates.
        """
        found = own(BevDepthFeatures, features, self)
        self.refuse_tracks(queries, interaction)
        candidates = found.candidates
        logits = own_class_logits(candidates.labels, candidates.logits, len(self.classes))
        kept = self.survivors(candidates, queries.codes, candidates.logits)
        logits = torch.where(kept[..., None], logits, IMPOSSIBLE)
        predictions = Predictions(
            logits[None],
            queries.codes[None],
            queries.embeddings[None],
            queries.references[None],
            queries.valid,
            queries.object_count,
        )
        return (predictions,) * len(groups)

    def refuse_tracks(self, queries: Queries, interaction: Interaction | None) -> None:
        """Refuse what needs a decoder of queries.

        Raises:
            SynclError: with the way on.
        """
        if queries.count > queries.object_count or interaction is not None:
            raise SynclError(
                f"{type(self).__name__} has no queries that tracks could be among; track its detections "
                "(--tracker greedy) or choose a detector with queries"
            )

    def survivors(self, candidates: Candidates, codes: Tensor, logits: Tensor) -> Tensor:
        """[B, Q] bool candidates that no surer one suppresses; in training all, so that all can learn."""
        if self.training or self.fixed_shapes or codes.is_meta:
            return candidates.valid
        kept: Tensor = self.suppression(decode_boxes(codes), logits, candidates)
        return kept

    @override
    def remember(
        self, memory: DetectorMemory | None, frame: Frame, features: Features, predictions: Predictions
    ) -> PastViews:
        """The frame's view in front of the memory."""
        seen = own(BevDepthFeatures, features, self)
        return seen.past.pushed(frame, seen.view, seen.images, self.config.frames - 1)

    @override
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """Candidates have no positional part."""
        return positions


def own_class_logits(labels: Tensor, logits: Tensor, classes: int) -> Tensor:
    """Logits [..., K] of boxes that have one for their own class alone; all others are impossible.

    Args:
        labels: [B, Q] int64.
        logits: [..., B, Q] of that class.
        classes: K.
    """
    everywhere = logits.new_full((*logits.shape, classes), IMPOSSIBLE)
    return everywhere.scatter(-1, labels.expand_as(logits)[..., None], logits[..., None])
