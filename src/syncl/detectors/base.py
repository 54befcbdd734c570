"""The contract between detectors and trackers.

A detector turns a frame into features, offers object queries, and decodes any queries (object queries
followed by track queries) against the features. It knows nothing of identities, and keeps nothing between
frames: what a temporal detector has to remember is a value that its caller carries,

    memory = detector.initial_memory(streams)
    for frame in stream:
        features = detector.encode(frame, memory)
        (predictions,) = detector.decode(detector.initial_queries(features), features)
        memory = detector.remember(memory, frame, features, predictions)

and empties for streams whose scene changes: `memory.keep(same_scene)`.

Letters: B batch, C cameras, Q queries, L decoder layers, D channels, K classes.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import DetectorMemory, Features
from syncl.detectors.reference_range import PointRange, ReferenceRange
from syncl.detectors.seen_rigs import SeenRigs
from syncl.errors import SynclError
from syncl.geometry.boxes import decode_boxes
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Frame, Predictions, Queries

# Cameras that look farther away from where their weights' camera looked are said.
_FAR_DEG = 45.0


class Detector(nn.Module, ABC):
    """Base of all detectors.

    Attributes:
        classes: K class names in logit order.
        dim: channels D of queries.
        point_range: the range reference points live in.
        layers: the decoder's layers (`layers.decoder.DecoderLayer`).
        class_branches: the class heads, one a decoder layer or one for all.
        query_count: number of object queries.
        positions_follow_references: whether a query's positional part is a function of its reference point.
        views: where the cameras looked that it was trained with, degrees counter-clockwise from the
            vehicle's x axis, of detectors with weights for each camera; None = unknown, or all alike.
        rigs: what kind of rigs it was trained with; None = unknown.
        bottom_centres: whether codes have the centre of a box's bottom face; boxes are lifted when reported.
        fixed_shapes: whether it takes no way that depends on what tensors hold, so that nothing waits for a
            device and a pass can be exported or captured; the same up to rounding.
        unsettled: how many objects it then tells, of which the host chooses (`Settling`); 0 = none.
        told_inputs: what an exported step is told beyond every step's (`precomputed`): shapes and meanings by
            name.
    """

    fixed_shapes: bool = False
    told_inputs: Mapping[str, str] = MappingProxyType({})
    unsettled: int = 0
    views: tuple[float, ...] | None = None
    rigs: SeenRigs | None = None
    _looked_round: tuple[str, ...] = ()
    classes: tuple[str, ...]
    dim: int
    query_count: int
    point_range: ReferenceRange
    layers: nn.ModuleList
    class_branches: nn.ModuleList
    positions_follow_references: bool
    bottom_centres: bool = False

    def look_round(self, frame: Frame) -> None:
        """Warn, once for a rig, of what is unlike training.

        That is: cameras that look elsewhere than those whose weights they get, or a rig unlike all others.
        """
        names = frame.rig.names
        if names == self._looked_round:
            return
        self._looked_round = names
        if self.rigs is not None and (doubt := self.rigs.doubt(frame)) is not None:
            warnings.warn(
                f"sample {frame.samples[0]}: {doubt}, and this detector has only seen rigs of {self.rigs}: "
                "expect little of it; take a model for any rig, such as any-rig, or train one on such rigs",
                stacklevel=2,
            )
        if self.views is None or len(names) != len(self.views):
            return
        ahead = frame.rig.camera_from_vehicle[0, :, 2, :2].cpu()
        found = torch.atan2(ahead[:, 1], ahead[:, 0]).rad2deg()
        apart = ((found - torch.tensor(self.views) + 180) % 360 - 180).abs()
        if bool(apart.max() > _FAR_DEG):
            camera = int(apart.argmax())
            directions = ", ".join(f"{view:.0f}" for view in self.views)
            warnings.warn(
                f"sample {frame.samples[0]}: this detector has weights for each camera, and {names[camera]} "
                f"looks {float(apart[camera]):.0f} degrees away from the camera whose weights it gets; give "
                f"cameras in the order of directions {directions} degrees (counter-clockwise from ahead)",
                stacklevel=2,
            )

    def fix_shapes(self) -> None:
        """Take no way that depends on what tensors hold from now on (`fixed_shapes`).

        Raises:
            SynclError: if the detector cannot do without, saying why.
        """
        self.fixed_shapes = True

    def initialise(self) -> None:
        """Draw the weights that start otherwise than their layers do; constructors end with it."""

    def precomputed(self, frame: Frame, memory: DetectorMemory | None) -> dict[str, Tensor]:  # noqa: ARG002
        """What `encode` computes of a frame's pose and odometry in float64, by name; of most, nothing.

        A step that knows no map is told it (`ToldFrame`).

        Args:
            frame: B streams at one moment each.
            memory: of the same streams, without those whose scene changed.
        """
        return {}

    def initial_memory(self, streams: int) -> DetectorMemory | None:
        """The memory of `streams` streams that have seen nothing; None for detectors without one."""

    @abstractmethod
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Features:
        """Features of a frame: all that looks at images happens here, once a frame.

        Args:
            frame: B streams at one moment each.
            memory: of the same streams; None = they have seen nothing.

        Calibration is taken as it is: trackers check all of a frame before (`structures.soundness`).
        """

    def head_states(self, states: Tensor) -> Tensor:
        """A layer's states [..., D] as its class and box heads see them."""
        return states

    @abstractmethod
    def initial_queries(self, features: Features) -> Queries:
        """The object queries for a frame (its features matter only where queries are lifted from them)."""

    def queries_at(self, codes: Tensor, contents: Tensor | None = None) -> Queries:  # noqa: ARG002
        """Object queries at given places, as denoising and aids need them.

        Args:
            codes: [B, N, 10] box codes, vehicle frame, metres.
            contents: [B, N, D] what has been seen there; None = queries know nothing but their place.

        Raises:
            SynclError: if the detector's queries are learned one by one and cannot be put anywhere.
        """
        raise SynclError(
            f"{type(self).__name__} cannot be trained with denoising queries; "
            "set training.unroll.denoising=null"
        )

    def copies(self, _codes: Tensor, _labels: Tensor, _valid: Tensor, /) -> Queries:
        """Boxes [B, N, 10] of known classes [B, N], to be refined beside the frame's own queries in training.

        Raises:
            SynclError: if nothing here refines boxes object by object.
        """
        raise SynclError(
            f"{type(self).__name__} has no recurrence over objects; leave ObjectCopiesConfig out of "
            "training.unroll.objectives"
        )

    def lifted_queries(self, _features: Features, references: Tensor, contents: Tensor, /) -> Queries:
        """The object queries of a frame, the first P of them put elsewhere, all made at once.

        Only detectors whose positions follow references are asked; of others, aids change the learned ones.

        Args:
            _features: of the frame.
            references: [B, P, 3] metres, vehicle frame.
            contents: [B, P, D] what has been seen there.

        Raises:
            SynclError: if the detector's queries cannot be put anywhere.
        """
        raise SynclError(
            f"{type(self).__name__} cannot put {references.shape[1]} queries where proposals of "
            f"{contents.shape[-1]} channels are; set detector.proposals=null"
        )

    @abstractmethod
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """Decode queries; one `Predictions` for each group named, all from one batched pass.

        Args:
            queries: [B, Q, ...], object queries first; `queries.looked_at` is self-attention's mask.
            features: of the same B frames.
            groups: `standard` rows pass self-attention, `cross_only` rows do not; both start from the same
                queries and share all weights (method, section 3.1).
            interaction: what happens to the standard decoder's states between layers; None = nothing.
        """

    def remember(
        self,
        memory: DetectorMemory | None,
        frame: Frame,
        features: Features,
        predictions: Predictions,
    ) -> DetectorMemory | None:
        """The memory after a frame.

        Args:
            memory: what the frame was encoded with.
            frame: of the same streams.
            features: of the frame.
            predictions: of the standard decoder, track queries included.
        """

    def boxes(self, codes: Tensor) -> Tensor:
        """Boxes [..., 9] to report of codes [..., 10]; centres are those of the whole box."""
        boxes = decode_boxes(codes)
        if not self.bottom_centres:
            return boxes
        raised = boxes[..., 2:3] + boxes[..., 5:6] / 2
        return torch.cat([boxes[..., :2], raised, boxes[..., 3:]], dim=-1)

    @abstractmethod
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """Positional part [B, N, D] of track queries that moved to `references` [B, N, 3] (metres).

        Detectors whose positions are a function of the reference recompute them; others keep `positions`.
        """


@runtime_checkable
class DetectorConfig(Hashable, Protocol):
    """What is asked of a detector's configuration: a frozen dataclass of plain values that has these."""

    @property
    def image(self) -> ImageEncoderConfig:
        """Backbone and neck, which published backbones can fill."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in logit order."""
        ...

    @property
    def point_range(self) -> PointRange:
        """Range of reference points, metres, vehicle frame (x, y, z minima, then maxima)."""
        ...

    def build(self) -> Detector:
        """The detector, with fresh weights."""
        ...
