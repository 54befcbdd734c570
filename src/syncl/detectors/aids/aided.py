"""A detector with aids around it.

The aids of the small recipes (proposals of an auxiliary image head, a look at what they say nearby, places in
the positional part of tracks) act before and behind a detector's own steps, so they are a class in front of
its own: `Aided` does its part and hands on to whatever detector stands behind it. The detector's modules keep
their names, so recipes, files and frozen parts need not know whether it is aided, and any detector can be:

    class MyConfig(AidedConfig):
        def build(self) -> MyDetector:
            return self.with_aids(MyDetector, self.queries)

Letters: B batch, P proposals, N queries, D channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor
from typing_extensions import override

from syncl.detectors.aids.proposals import ProposalConfig, ProposalHead, Proposals
from syncl.detectors.base import Detector
from syncl.detectors.image_encoder import ImageEncoder, beside
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import DetectorMemory, Features
from syncl.errors import SynclError
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Frame, Predictions, Queries
from syncl.structures.queries import in_front

AnyDetector = TypeVar("AnyDetector", bound=Detector)


@dataclass(frozen=True, kw_only=True)
class AidedConfig:
    """Settings of the aids, for the configuration of a detector.

    Attributes:
        proposals: auxiliary image head that starts some of the object queries; None as published.
        lifted_tracks: whether track queries say where they are in the way of queries lifted from proposals as
            well, whose places the decoder knows how to read and self-attention can tell apart; needs
            proposals.
    """

    proposals: ProposalConfig | None = None
    lifted_tracks: bool = False

    def with_aids(self, kind: type[AnyDetector], queries: int) -> AnyDetector:
        """A detector of this kind, built from this configuration, with the aids it asks for.

        Args:
            kind: the detector's class, which takes the configuration.
            queries: how many of its first object queries may start from proposals.

        Raises:
            SynclError: if more proposals than queries are asked for, lifted tracks without any, or moves
                without `nearby` or with lifted tracks.
        """
        if self.proposals is None:
            if self.lifted_tracks:
                raise SynclError("detector.lifted_tracks=true needs detector.proposals")
            return cast(Callable[[AidedConfig], AnyDetector], kind)(self)
        if self.proposals.moves and not self.proposals.nearby:
            raise SynclError("proposals.moves=true needs proposals.nearby=true, which finds where to")
        if self.proposals.moves and self.lifted_tracks:
            raise SynclError(
                "proposals.moves=true and detector.lifted_tracks=true: a lifted track says where it was put, "
                "a moved one is elsewhere; choose one"
            )
        if self.proposals.count > queries:
            raise SynclError(f"proposals.count={self.proposals.count} exceeds the {queries} object queries")
        return cast(Callable[[AidedConfig], AnyDetector], _aided(kind))(self)


class Aided(Detector):
    """What stands in front of a detector's class; see the module's docstring.

    The detector behind has `config` (an `AidedConfig`) and `image_encoder`, calls `initialise` at the end of
    its constructor, and has `lifted_queries` if its positions follow references.
    """

    config: AidedConfig
    image_encoder: ImageEncoder
    proposal_head: ProposalHead

    @override
    def initialise(self) -> None:
        # Built before the detector draws its own weights anew: a seed gives the weights it always gave.
        config = cast(ProposalConfig, self.config.proposals)
        strides = self.image_encoder.strides
        if not 0 <= config.level < len(strides):
            raise SynclError(f"proposals.level={config.level}: the neck has {len(strides)} levels")
        self.proposal_head = ProposalHead(config, self.dim, len(self.classes), strides[config.level])
        self.positions_follow_references = self._places_are_positions or self.config.lifted_tracks
        super().initialise()

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Features:
        """The detector's features and proposals, from one look at the images."""
        frame = self._seen(frame)
        features = super().encode(frame, memory)  # type: ignore[safe-super]
        head = self.proposal_head
        levels = cast(tuple[Tensor, ...], frame.levels)
        proposals = head(
            levels[head.config.level],
            frame.rig.vehicle_from_image,
            frame.rig.image_from_camera,
            frame.camera_valid,
            frame.image_size[0],
        )
        return replace(features, auxiliary=(*features.auxiliary, proposals))

    def _seen(self, frame: Frame) -> Frame:
        """The frame with the feature levels of its images, so that nobody encodes them again."""
        frame = self.image_encoder.pad(frame)
        if frame.past is None:
            return replace(frame, levels=self.image_encoder(frame))
        past = self.image_encoder.pad(frame.past)
        both, cameras = self.image_encoder(beside(frame, past)), frame.images.shape[1]
        past = replace(past, levels=tuple(level[:, cameras:] for level in both))
        return replace(frame, levels=tuple(level[:, :cameras] for level in both), past=past)

    @override
    def initial_queries(self, features: Features) -> Queries:
        """The detector's object queries, the first ones started from proposals."""
        proposals = self._proposals(features)
        places, looks = proposals.references, proposals.embeddings
        count = places.shape[1]
        if self._places_are_positions:
            queries = self.lifted_queries(features, places, looks)
        else:
            queries = super().initial_queries(features)  # type: ignore[safe-super]
            embeddings = in_front(queries.embeddings[:, :count] + looks, queries.embeddings)
            codes = in_front(torch.cat([places, queries.codes[:, :count, 3:]], dim=-1), queries.codes)
            queries = replace(queries, embeddings=embeddings, codes=codes)
        lifted = queries.positions[:, :count] + self._lifted(places)
        return replace(queries, positions=in_front(lifted, queries.positions))

    @override
    def decode(
        self,
        queries: Queries,
        features: Features,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        """The detector's decoding of queries that were told what proposals lie around them."""
        told = self.told(queries, self._proposals(features))
        return super().decode(told, features, groups, interaction)  # type: ignore[safe-super]

    def told(self, queries: Queries, proposals: Proposals) -> Queries:
        """Queries that know what proposals lie around them, and stand nearer to them where `moves` is set; as
        they were where neither is configured.
        """
        nearby = self.proposal_head.nearby
        if nearby is None:
            return queries
        places = queries.references
        added, step = nearby(
            queries.embeddings,
            places,
            proposals.references,
            proposals.scores,
            proposals.embeddings,
        )
        queries = replace(queries, embeddings=queries.embeddings + added)
        if step is None:
            return queries
        moved = places + step.to(places.dtype)
        positions = queries.positions
        if self._places_are_positions:
            # Boxes alone teach how far to go: through encodings of places gradients grow large.
            before, after = (self._own_positions(positions, at.detach()) for at in (places, moved))
            positions = positions + (after - before)
        codes = torch.cat([moved, queries.codes[..., 3:]], dim=-1)
        return replace(queries, codes=codes, positions=positions)

    @override
    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """The detector's, and where the tracks are in the way of lifted queries, if configured."""
        own = self._own_positions(positions, references)
        if not self.config.lifted_tracks:
            return own
        lifted = self._lifted(references)
        return own + lifted if self._places_are_positions else lifted

    def _own_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        """What the detector behind makes of places."""
        return super().track_positions(positions, references)  # type: ignore[safe-super]

    @property
    def _places_are_positions(self) -> bool:
        """Whether the detector's own positions follow references; else they are learned one by one."""
        return type(self).positions_follow_references

    def _lifted(self, references: Tensor) -> Tensor:
        """Positional part [B, N, D] of places [B, N, 3] in metres."""
        return self.proposal_head.positions(self.point_range.normalise(references))

    def _proposals(self, features: Features) -> Proposals:
        proposals = features.found(Proposals)
        if proposals is None:
            raise TypeError(f"{type(self).__name__} takes features with proposals; encode the frame with it")
        return proposals


@cache
def _aided(kind: type[Detector]) -> type[Detector]:
    """The class of aided detectors of a kind."""
    return type(f"Aided{kind.__name__}", (Aided, kind), {"__doc__": f"{kind.__name__} with aids."})
