"""DORT's recurrence on detectors of queries: it plugs into most camera detectors (Lian et al., CoRL 2023,
abstract; RECONSTRUCTED, see `recurrence`).

The detector stays as it is, and finds objects; the surest of its last layer's boxes are then refined in
turns, each along its own motion. A detector of single frames so learns how fast things are.

Letters: B streams, Q queries, R refined ones, D channels of states, L layers (the detector's last, then the
turns).
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.base import Detector
from syncl.detectors.bevdepth.past_views import FrameImages, PastViews
from syncl.detectors.detr3d.detr3d import Detr3d, Detr3dConfig
from syncl.detectors.dort.local_volume import FrameStack
from syncl.detectors.dort.recurrence import Recurrence, RecurrenceConfig
from syncl.detectors.image_encoder import ImageEncoder
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import DetectorMemory, Features, own
from syncl.errors import SynclError
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Frame, Predictions, Queries
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class DortDetr3dConfig(Detr3dConfig):
    """Sizes of a DETR3D with a recurrence behind it; see `Detr3dConfig` for the rest.

    Attributes:
        recurrence: over objects.
        frames: how many frames it looks at, the present one among them.
        refined: how many of the surest queries are refined.
        min_score: less sure ones are not.
    """

    recurrence: RecurrenceConfig = field(default_factory=RecurrenceConfig)
    frames: int = 9
    refined: int = 300
    min_score: float = 0.1

    def build(self) -> "DortDetr3d":
        """Build the module."""
        return self.with_aids(DortDetr3d, self.queries)


@dataclass(frozen=True)
class Looks(TensorStructure):
    """What turns look at.

    Attributes:
        images: of the present frame.
        past: of the frames before.
        past_from_now: [B, N, 4, 4] float64.
        age_s: [B, N] float64.
    """

    images: FrameImages
    past: PastViews
    past_from_now: Tensor
    age_s: Tensor


class OverObjects(Detector):
    """What stands in front of a detector's class, which keeps its names; see the module's docstring."""

    config: DortDetr3dConfig
    image_encoder: ImageEncoder

    def add_recurrence(self, config: DortDetr3dConfig) -> None:
        """Add the recurrence and what it looks with; constructors end with it.

        Raises:
            SynclError: if the neck does not have the level to look at, or the detector remembers by itself.
        """
        sizes, strides = config.recurrence, self.image_encoder.strides
        if not 0 <= sizes.level < len(strides):
            raise SynclError(f"detector.recurrence.level={sizes.level}: the neck has {len(strides)} levels")
        self.look = nn.Conv2d(self.image_encoder.neck.channels[sizes.level], sizes.channels, 1)
        self.class_embedding = nn.Embedding(len(self.classes), sizes.dim)
        self.state_of_query = nn.Linear(self.dim, sizes.dim)
        self.recurrence = Recurrence(sizes, config.frames, len(self.classes))

    @override
    def initial_memory(self, streams: int) -> PastViews:
        """Nothing seen."""
        count = self.config.frames - 1 if self.fixed_shapes else 0
        return PastViews.empty(streams, self.look.weight.new_zeros(0, 1, 1), count)

    @override
    def fix_shapes(self) -> None:
        """See `Detector.fix_shapes`: all points look at all cameras of all frames."""
        super().fix_shapes()
        self.recurrence.fixed_shapes = True

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Features:
        """The detector's features, and what turns look at.

        Raises:
            SynclError: if cameras or image size change within a scene.
        """
        frame = self.image_encoder.pad(frame)
        frame = replace(frame, levels=self.image_encoder(frame))
        features = super().encode(frame)  # type: ignore[safe-super]
        level = self.image_encoder(frame)[self.config.recurrence.level]
        looked = self.look(level.flatten(0, 1).float()).unflatten(0, level.shape[:2])
        images = FrameImages(looked, features.image_from_vehicle, frame.camera_valid)
        past = self.initial_memory(frame.batch_size) if memory is None else own(PastViews, memory, self)
        past = past.fitting(frame, images)
        looks = Looks(images, past, past.past_from_now(frame), frame.timestamp_s[:, None] - past.timestamps_s)
        return replace(features, auxiliary=(*features.auxiliary, looks))

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """The detector's last layer, and what each turn makes of its surest queries, tracks among them."""
        looks = self._looks(features)
        frames = FrameStack.of(
            looks.images, looks.past, looks.past_from_now, looks.age_s, features.image_size
        )
        decoded = super().decode(queries, features, groups, interaction)  # type: ignore[safe-super]
        return tuple(self.refined(predictions, frames) for predictions in decoded)

    def refined(self, found: Predictions, frames: FrameStack) -> Predictions:
        """Predictions of the detector's last layer and of the turns behind it."""
        config, said = self.config, found.logits[-1].detach()
        scores = said.sigmoid().amax(-1).masked_fill(~found.valid, 0)
        top, rows = scores.topk(min(config.refined, scores.shape[1]), dim=1)
        sure = (top > config.min_score)[..., None]
        labels = said.argmax(-1).gather(1, rows)[..., None]
        states = self.state_of_query(_rows(found.embeddings[-1].detach(), rows)) + self.class_embedding(
            labels[..., 0]
        )
        logits, codes = [said], [found.codes[-1].detach()]
        for _ in range(config.recurrence.turns):
            # Each turn learns what it adds; where it looks is given.
            before, logit = codes[-1].detach(), logits[-1].detach()
            box, own_logits = _rows(before, rows), _rows(logit, rows)
            turn = self.recurrence(box, own_logits.amax(-1).sigmoid(), states, frames)
            states = turn.states
            raised = turn.raises.gather(2, labels) * sure
            codes.append(before.scatter(1, _wide(rows, box), torch.where(sure, turn.codes, box)))
            own_logits = own_logits.scatter_add(2, labels, raised)
            logits.append(logit.scatter(1, _wide(rows, own_logits), own_logits))
        layers = len(codes)
        return Predictions(
            torch.stack(logits),
            torch.stack(codes),
            found.embeddings[-1:].expand(layers, -1, -1, -1),
            torch.stack([found.references[-1], *(before[..., :3].detach() for before in codes[:-1])]),
            found.valid,
            found.object_count,
        )

    @override
    def remember(
        self, memory: DetectorMemory | None, frame: Frame, features: Features, predictions: Predictions
    ) -> PastViews:
        """The frame's images in front of the memory."""
        looks = self._looks(features)
        nothing = frame.timestamp_s.new_zeros(frame.batch_size, 0, 1, 1, dtype=looks.past.bev.dtype)
        return looks.past.pushed(frame, nothing, looks.images, self.config.frames - 1)

    def _looks(self, features: Features) -> Looks:
        looks = features.found(Looks)
        if looks is None:
            raise TypeError(f"{type(self).__name__} takes features with looks; encode the frame with it")
        return looks


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """Values [B, R, X] of rows [B, R] out of values [B, Q, X]."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    """Rows [B, R] as an index of the form of `like` [B, R, X]."""
    return rows[..., None].expand_as(like)


class DortDetr3d(OverObjects, Detr3d):  # type: ignore[misc]  # Its features are any detector's.
    """DETR3D with the recurrence behind it; its own parameters have DETR3D's names, so its files fit."""

    config: DortDetr3dConfig

    def __init__(self, config: DortDetr3dConfig) -> None:
        super().__init__(config)
        self.add_recurrence(config)
