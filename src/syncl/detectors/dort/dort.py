"""DORT: modelling dynamic objects in recurrent for multi-camera 3D detection and tracking (Lian et al., CoRL
2023). The base detector is the published one (`detectors.bevdepth`); the recurrence is RECONSTRUCTED, see
`recurrence`.

The base's candidates are refined, turn by turn, each along its own motion; every turn is a layer of the
predictions, the base's own boxes the first. What is remembered beside the views of the ground are image
features, without gradient.

Letters: B streams, K frames, Q candidates, D channels of states, L layers (1 + turns).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from syncl.detectors.bevdepth.bevdepth import (
    BevDepth,
    BevDepthConfig,
    BevDepthFeatures,
    own_class_logits,
)
from syncl.detectors.bevdepth.centre_head import IMPOSSIBLE
from syncl.detectors.bevdepth.past_views import FrameImages
from syncl.detectors.dort.local_volume import FrameStack
from syncl.detectors.dort.recurrence import Recurrence, RecurrenceConfig
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import Features, own
from syncl.errors import SynclError
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Frame, Predictions, Queries
from syncl.structures.queries import candidate_queries


@dataclass(frozen=True)
class DortConfig(BevDepthConfig):
    """Sizes of a DORT; see `BevDepthConfig` for the rest.

    Attributes:
        recurrence: over objects.
    """

    recurrence: RecurrenceConfig = field(default_factory=RecurrenceConfig)

    def build(self) -> "Dort":
        """Build the module."""
        return Dort(self)


class Dort(BevDepth):
    """See the module's docstring. Parameters of the base detector have its names, so its files fit."""

    config: DortConfig

    def __init__(self, config: DortConfig) -> None:
        super().__init__(config)
        self.dim = config.recurrence.dim
        level, strides = config.recurrence.level, self.image_encoder.strides
        if not 0 <= level < len(strides):
            raise SynclError(f"detector.recurrence.level={level}: the neck has {len(strides)} levels")
        channels = self.image_encoder.neck.channels[level]
        self.look = nn.Conv2d(channels, config.recurrence.channels, 1)
        self.class_embedding = nn.Embedding(len(config.classes), self.dim)
        self.state_of_view = nn.Linear(config.head.shared, self.dim)
        self.recurrence = Recurrence(config.recurrence, config.frames, len(config.classes))

    @override
    def fix_shapes(self) -> None:
        """See `Detector.fix_shapes`: as the base, and all points look at all cameras of all frames.

        The host then suppresses by refined boxes (`Settling`).
        """
        super().fix_shapes()
        self.recurrence.fixed_shapes = True

    @override
    def to_remember(self, levels: tuple[Tensor, ...], frame: Frame, projections: Tensor, /) -> FrameImages:
        """What turns look at, of this frame and of later ones."""
        level = levels[self.config.recurrence.level]
        looked = self.look(level.flatten(0, 1).float()).unflatten(0, level.shape[:2])
        return FrameImages(looked, projections, frame.camera_valid)

    @override
    def initial_queries(self, features: Features) -> Queries:
        """The base's candidates, which know their class."""
        found = own(BevDepthFeatures, features, self).candidates
        return candidate_queries(self.class_embedding(found.labels), found.codes, found.valid)

    @override
    def copies(self, codes: Tensor, labels: Tensor, valid: Tensor, /) -> Queries:
        """Boxes as queries that know their class."""
        return candidate_queries(self.class_embedding(labels.clamp(min=0)), codes, valid)

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """The candidates, then what each turn makes of them; in inference mode the last layer is without
        those that surer ones suppress, by their refined boxes.

        Args:
            queries: the frame's candidates; in training, copies of annotated objects behind them, whose
                logits mean nothing.
            features: of the frame.
            groups: decoders that run, all the same here.
            interaction: none is possible.

        Raises:
            SynclError: if there are track queries, or an interaction.
        """
        found = own(BevDepthFeatures, features, self)
        if not self.training or interaction is not None:
            self.refuse_tracks(queries, interaction)
        count = queries.object_count
        sampled = self.states_at(found.shared, queries.codes)
        states = self.state_of_view(sampled) + queries.embeddings
        beside = (0, queries.count - count)
        labels = functional.pad(found.candidates.labels, beside)
        logits, codes, outputs = [functional.pad(found.candidates.logits, beside)], [queries.codes], [states]
        frames = FrameStack.of(
            own(FrameImages, found.images, self),
            found.past,
            found.past_from_now,
            found.age_s,
            found.image_size,
        )
        for _ in range(self.config.recurrence.turns):
            # Each turn learns what it adds; where it looks is given.
            box, logit = codes[-1].detach(), logits[-1].detach()
            turn = self.recurrence(box, logit.sigmoid(), outputs[-1], frames)
            codes.append(turn.codes)
            logits.append(logit + turn.raises.gather(2, labels[..., None])[..., 0])
            outputs.append(turn.states)
        kept = self.survivors(found.candidates, codes[-1][:, :count], logits[-1][:, :count])
        kept = functional.pad(kept, beside, value=True)
        said = own_class_logits(labels, torch.stack(logits), len(self.classes))
        said = torch.cat([said[:-1], torch.where(kept[..., None], said[-1:], IMPOSSIBLE)])
        predictions = Predictions(
            said,
            torch.stack(codes),
            torch.stack(outputs),
            torch.stack([codes[0][..., :3], *(code[..., :3].detach() for code in codes[:-1])]),
            queries.valid,
            count,
        )
        return (predictions,) * len(groups)
