"""What detectors share whose decoder layers refine reference points: DETR3D and BEVFormer.

Queries are learned, with a positional part that says where they start. Every decoder layer looks at features
where its reference points are, predicts a box relative to them, and hands refined references to the next
layer. Where features come from and how a layer looks at them is a subclass's own.

Parallel decoders (method, section 3.1): cross-attention looks at one query at a time, so the C-decoder is all
of it that is left without self-attention. Each decoder refines its own references, from its own boxes, and
looks there.

Letters: B batch, Q queries, L decoder layers, D channels.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.aids import AidedConfig
from syncl.detectors.base import Detector
from syncl.detectors.image_encoder import ImageEncoderConfig
from syncl.detectors.interaction import Interaction, interact
from syncl.detectors.passed import Features
from syncl.detectors.reference_range import NUSCENES_RANGE, PointRange, ReferenceRange
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import (
    STANDARD,
    DecoderLayer,
    Groups,
    apply_to_groups,
    decoder_layers,
    repeat_groups,
    split_groups,
)
from syncl.layers.numerics import LARGEST_LOGIT, at_full_precision, mlp, prior_bias
from syncl.structures import Frame, Predictions, Queries, object_queries


@dataclass(frozen=True)
class RefiningDetectorConfig(AidedConfig):
    """Sizes that these detectors share. The defaults are the published R101 configurations'.

    Attributes:
        image: backbone and neck; all neck levels are sampled.
        classes: class names in logit order.
        queries: number of object queries.
        dim: query and feature channels.
        heads: self-attention heads.
        layers: decoder layers.
        hidden: hidden channels of the feed-forward networks.
        dropout: in attention and feed-forward.
        cameras: cameras of the rig the weights are for (each has weights of its own); None = all share
            theirs, so they are for any rig (plain DETR3D alone).
        point_range: range of reference points, metres, vehicle frame (x, y, z minima, then maxima).
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    queries: int = 900
    dim: int = 256
    heads: int = 8
    layers: int = 6
    hidden: int = 512
    dropout: float = 0.1
    cameras: int | None = 6
    point_range: PointRange = NUSCENES_RANGE

    def counted_cameras(self) -> int:
        """How many cameras, for a detector that has weights for each.

        Raises:
            SynclError: if it is to be for any rig.
        """
        if self.cameras is None:
            raise SynclError(
                f"cameras=null: a detector of {type(self).__name__} has weights for each camera; say how "
                "many, or take plain DETR3D (Detr3dConfig), or PETR"
            )
        return self.cameras


class Anchors(NamedTuple):
    """Where a layer predicts from.

    Attributes:
        references: [B, Q, 3] metres.
        logits: [B, Q, 3] the same as inverse sigmoid in the unit cube.
        sizes: [B, Q, 3] size numbers of the code, which layers add to; None = theirs are whole.
    """

    references: Tensor
    logits: Tensor
    sizes: Tensor | None


Look = Callable[[int, Sequence[Anchors]], Sequence[object]]
"""From a layer's number and the anchors of its groups to what each group's cross-attention looks at."""


class SamplingLayer(DecoderLayer):
    """A decoder layer whose queries look at features where they stand.

    The cross-attention takes states [B, Q, D], positional parts [B, Q, D] and one group's sight, and gives
    the update [B, Q, D] to add.
    """

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, groups: Groups, sights: Sequence[object]
    ) -> Tensor:
        """One layer; see `among_themselves` for arguments and shapes. `sights` are one a group."""
        parts, placements = self.among_themselves(x, positions, mask, groups)
        seen = [
            self.cross_attention(part, position, sight)
            for part, position, sight in zip(parts, placements, sights)
        ]
        return self.concluded(parts, seen)


class RefiningDetector(Detector):
    """Queries, decoder and heads; image encoder and features are a subclass's."""

    positions_follow_references = False

    def __init__(self, config: RefiningDetectorConfig) -> None:
        super().__init__()
        self.classes = config.classes
        self.dim = config.dim
        self.query_count = config.queries
        self.cameras = config.cameras
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()

    def add_decoder(self, config: RefiningDetectorConfig, cross_attention: Callable[[], nn.Module]) -> None:
        """Add queries, decoder layers and the heads behind them; constructors call it when they have the
        image encoder.
        """
        dim = config.dim
        self.query_embedding = nn.Embedding(config.queries, 2 * dim)
        self.reference_points = nn.Linear(dim, 3)
        self.layers = decoder_layers(
            config.layers,
            lambda: SamplingLayer(dim, config.heads, config.hidden, config.dropout),
            cross_attention,
        )
        self.class_branches = nn.ModuleList(
            mlp(dim, dim, dim, len(config.classes), norm=True) for _ in range(config.layers)
        )
        self.box_branches = nn.ModuleList(self.box_branch() for _ in range(config.layers))

    @override
    def initialise(self) -> None:
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, prior_bias(0.01))  # type: ignore[index]

    def box_branch(self) -> nn.Module:
        """What turns a layer's states into a box code, its centre as an offset in logit space."""
        return mlp(self.dim, self.dim, self.dim, CODE_SIZE)

    def start(self, queries: Queries) -> tuple[Tensor, Tensor, Tensor | None]:
        """References in metres and as logits that the first layer starts from, and size numbers."""
        return queries.references, self.point_range.logits_of(queries.references), None

    @abstractmethod
    def looking(self, features: Features, dtype: torch.dtype) -> Look:
        """How decoder layers look at a frame's features; what all of them need is made here, once.

        Args:
            features: of the frame.
            dtype: of the references.
        """

    def check_cameras(self, frame: Frame) -> None:
        """Refuse a rig of another size than the weights know.

        Raises:
            SynclError: naming both, and the remedies.
        """
        if self.cameras is not None and frame.images.shape[1] != self.cameras:
            name = type(self).__name__.removeprefix("Aided")
            raise SynclError(
                f"this {name} has weights for {self.cameras} cameras, the frame has "
                f"{frame.images.shape[1]} ({', '.join(frame.rig.names)}); take a model for any rig, such as "
                "any-rig, mask missing cameras in camera_valid, or train a recipe with "
                "model.detector.cameras set to the rig's"
            )

    @override
    def initial_queries(self, features: Features) -> Queries:
        """Learned queries, whose positional part says where they start."""
        streams = features.camera_valid.shape[0]
        positions, embeddings = self.query_embedding.weight.split(self.dim, dim=1)
        logits = at_full_precision(self.reference_points, positions)
        return object_queries(
            embeddings.expand(streams, -1, -1),
            positions.expand(streams, -1, -1),
            self.point_range.metres_at(logits).expand(streams, -1, -1),
        )

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """Decode with iterative refinement of reference points, which are detached between layers.

        An interaction sees the boxes of a layer's own states, and those refine the references; the heads
        report what they make of the states behind it.
        """
        x = repeat_groups(queries.embeddings, groups)
        positions = repeat_groups(queries.positions, groups)
        start, logits, sizes = self.start(queries)
        anchors = [Anchors(start, logits, sizes) for _ in groups]
        look = self.looking(features, start.dtype)
        outputs: list[list[tuple[Tensor, ...]]] = [[] for _ in groups]
        for number, layer in enumerate(self.layers):
            classify, regress = self.class_branches[number], self.box_branches[number]
            mask = None if interaction is None else interaction.mask(number)
            mask = queries.looked_at if mask is None else mask
            x = layer(x, positions, mask, groups, look(number, anchors))
            refined: dict[int, Anchors] = {}
            if interaction is not None and "standard" in groups:
                standard = groups.index("standard")
                state = split_groups(x, groups)[standard]
                code = state[..., :0]
                if interaction.boxes != "none":
                    delta = at_full_precision(regress, state)
                    code, refined[standard] = self._boxes(delta, anchors[standard], number)
                x = interact(interaction, number, x, code, groups)
            parts = zip(
                apply_to_groups(classify, x, groups),
                apply_to_groups(regress, x, groups),
                split_groups(x, groups),
            )
            for group, (logits, delta, state) in enumerate(parts):
                code, following = self._boxes(delta, anchors[group], number)
                outputs[group].append((logits, code, state, anchors[group].references))
                anchors[group] = refined.get(group, following)
        return tuple(_predictions(layers, queries) for layers in outputs)

    def _boxes(self, delta: Tensor, anchors: Anchors, layer: int) -> tuple[Tensor, Anchors]:
        """Box codes [B, Q, 10] of a box branch's output, and what the next layer predicts from."""
        logits = delta[..., :3] + anchors.logits
        centre = self.point_range.metres_at(logits)
        code = torch.cat([centre, delta[..., 3:]], dim=-1)
        code, sizes = accumulate_sizes(code, anchors.sizes, first=layer == 0)
        following = logits.detach().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        return code, Anchors(centre.detach(), following, sizes)

    @override
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """Positions are learned and stay."""
        return positions


def accumulate_sizes(code: Tensor, sizes: Tensor | None, first: bool) -> tuple[Tensor, Tensor | None]:
    """A code whose size numbers are updates of `sizes` [B, Q, 3], made absolute, and the next layer's.

    Without sizes the code's own numbers are absolute already. As in MUTR3D, gradients pass from the second
    layer back to the first one's update, but not across later layers.
    """
    if sizes is None:
        return code, None
    updated = sizes + code[..., 3:6]
    code = torch.cat([code[..., :3], updated, code[..., 6:]], dim=-1)
    return code, updated if first else updated.detach()


def _predictions(layers: list[tuple[Tensor, ...]], queries: Queries) -> Predictions:
    logits, codes, states, references = (torch.stack(part) for part in zip(*layers))
    return Predictions(logits, codes, states, references, queries.valid, queries.object_count)
