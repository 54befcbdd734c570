"""ADA-Track and ADA-Track++ (Ding et al., CVPR 2024; arXiv 2405.08909), on any detector.

Detection and tracking keep their tasks apart: in every frame object queries detect all objects, also those
that tracks hold, and track queries follow theirs. Between decoder layers the association (`association`)
compares the two, and at the end of a frame its affinities decide which detection is which track.

Letters: B streams, Q queries, D detections (object queries), N track slots, R rows of the next state.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.errors import SynclError
from syncl.structures import Frame, Objects, Outcome, Queries
from syncl.structures.tensors import TensorStructure, on_host
from syncl.trackers.ada_track.association import Affinities, Associating, Association
from syncl.trackers.ada_track.compared_queries import MEANINGS, ComparedQueries
from syncl.trackers.ada_track.pairing import Flags, Floats, Integers, pair_greedily, pair_optimally
from syncl.trackers.base import Tracker
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.look import Decoded, Guide
from syncl.trackers.next_rows import NextRows
from syncl.trackers.rows import best_objects, carried_rows, take_rows, take_rows_or_zero
from syncl.trackers.state import Move, TrackState

_PUBLISHED_NOISE = ClipNoise(drop_probability=0.1, false_positive_ratio=0.05)


@dataclass(frozen=True)
class AdaTrackConfig:
    """The defaults are those published on DETR3D; on PETR five differ (`recipes.ada_track`).

    Attributes:
        birth_score: a detection at or above it that is no track's becomes one.
        output_score: tracks at or above it are reported.
        affinity: a detection and a track below it are not one object.
        pairing: `greedy` in the order of scores, or `hungarian`, the highest total affinity.
        pair_score: detections at or below it are no track's.
        own_share: what a track keeps of its own embedding when it is seen, the rest is the detection's; None
            adds both.
        gated: whether edges also gate the values of the association's attention.
        hidden: hidden channels of the association.
        heads: its attention heads.
        dropout: in it.
        auxiliary_token: ADA-Track++: whether detections may also attend a learned token that is no track.
        associate_first: whether the association runs in a scene's first frame too, where there is nothing but
            the auxiliary token.
        miss_tolerance: misses after which a track ends.
        reset_misses: whether a track that is seen has its misses forgiven; the original counts all in a
            track's life.
        newborn_outputs: whether a new track goes on as what the decoder made of it; in the original it starts
            once more from its object query, and only then as what became of it.
        wrap_headings: whether headings of a pair differ by half a turn at most; the original lets them differ
            by a whole one.
        max_tracks: most tracks carried on; the highest scores stay.
        max_objects: most objects reported a frame.
        output_range_m: objects whose centre lies beyond +-this in x or y are not reported.
        output_height_m: the same for z.
        noise: training: how tracks are disturbed between frames.
        longest_gap_s: tracks end after a longer silence within a scene; None = never, as in the original.
    """

    birth_score: float = 0.4
    output_score: float = 0.35
    affinity: float = 0.3
    pairing: Literal["greedy", "hungarian"] = "greedy"
    pair_score: float = 0.0
    own_share: float | None = 0.0
    gated: bool = False
    hidden: int = 256
    heads: int = 8
    dropout: float = 0.1
    auxiliary_token: bool = False
    associate_first: bool = False
    miss_tolerance: int = 5
    reset_misses: bool = False
    newborn_outputs: bool = False
    wrap_headings: bool = False
    max_tracks: int = 300
    max_objects: int = 100
    output_range_m: float = 61.2
    output_height_m: float = 10.0
    noise: ClipNoise = _PUBLISHED_NOISE
    longest_gap_s: float | None = None

    def build(self, detector: Detector) -> "AdaTrack":
        """Build the module around a detector.

        Raises:
            SynclError: if settings contradict one another, with the reason.
        """
        if self.associate_first and not self.auxiliary_token:
            raise SynclError(
                "tracker.associate_first=true with auxiliary_token=false: in a scene's first frame there is "
                "no track, and without the token nothing to attend; set auxiliary_token=true"
            )
        if self.own_share is not None and not 0 <= self.own_share < 1:
            raise SynclError(
                f"tracker.own_share={self.own_share}: must be from 0 to below 1, or null for the sum of both"
            )
        if self.pair_score > self.birth_score:
            raise SynclError(
                f"tracker.pair_score={self.pair_score} is above birth_score={self.birth_score}: an object "
                "scored between the two would become a second track of its own; lower pair_score"
            )
        return AdaTrack(detector, self)


@dataclass(frozen=True)
class Begun(TensorStructure):
    """What ADA-Track knows besides its tracks.

    Attributes:
        begun: [B] bool whether the stream's scene has had a frame before; the association leaves out first
            frames.
    """

    begun: Tensor


class AssociatingLook(Tracker):
    """Looks at frames with the association between the decoder's layers, and tells of all queries.

    It pairs nobody: its state at the end of a step is that in which the frame was looked at.
    """

    config: AdaTrackConfig
    keeps = Begun

    def __init__(self, detector: Detector, association: Association, config: AdaTrackConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.longest_gap_s = config.longest_gap_s
        self.association = association

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        return replace(state, own=Begun(state.next_identity.bool()))

    def fixed_slots(self) -> int:
        """See `Tracker.fixed_slots`."""
        return self.config.max_tracks

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """At constant velocity. Heading and velocity keep their old axes, as in the original."""
        begun = state.owned(Begun).begun & move.continued
        return replace(super().propagate(state, move), own=Begun(begun))

    def interaction(self, state: TrackState, queries: Queries, _guide: Guide | None, /) -> Associating:
        """The association, between all layers."""
        begun = state.owned(Begun).begun
        runs = torch.ones_like(begun) if self.config.associate_first else begun
        wrapped, every_layer = self.config.wrap_headings, self.training or torch.is_grad_enabled()
        return Associating(self.association, queries.object_count, state.alive, runs, wrapped, every_layer)

    def reason(self, _decoded: Decoded, interaction: Interaction | None, /) -> Affinities:
        """What the association's layers said."""
        if not isinstance(interaction, Associating):
            raise TypeError("AdaTrack reasons about looks between whose layers its association ran")
        return interaction.result()

    def told(self, decoded: Decoded) -> ComparedQueries:
        """What a look says of all queries, those of the last layer."""
        queries, predictions, affinities = decoded.queries, decoded.standard, decoded.reasoned
        if not isinstance(affinities, Affinities):
            raise TypeError(f"AdaTrack tells of its own looks, not of those of {type(affinities).__name__}")
        count, embeddings = queries.object_count, predictions.embeddings[-1]
        # The object query once more: its output travels only from the track's second frame on.
        newborn = embeddings if self.config.newborn_outputs else queries.embeddings
        return ComparedQueries(
            boxes=self.detector.boxes(predictions.codes[-1]),
            labels=predictions.logits[-1].argmax(-1),
            scores=decoded.scores,
            identities=queries.identities,
            valid=queries.valid,
            embeddings=embeddings,
            codes=predictions.codes[-1],
            positions=queries.positions,
            newborn=newborn[:, :count],
            affinities=affinities.logits[-1].float().sigmoid(),
        )

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """See `told`."""
        return self.told(decoded), decoded.state

    def carry(self, decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Nobody is paired: nothing lives on."""
        return decoded.state


class AdaTrack(HostPairing, AssociatingLook):
    """See the module's docstring."""

    config: AdaTrackConfig
    pairs = ComparedQueries
    meanings = MEANINGS

    def __init__(self, detector: Detector, config: AdaTrackConfig) -> None:
        association = Association(
            len(detector.layers),
            len(detector.class_branches),
            detector.dim,
            config.heads,
            config.hidden,
            config.dropout,
            config.gated,
            config.auxiliary_token,
        )
        super().__init__(detector, association, config)
        self.noise = config.noise

    def stepping_part(self) -> AssociatingLook:
        """The look, behind which this tracker pairs."""
        return AssociatingLook(self.detector, self.association, self.config).eval()

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Detections pair with tracks; births and deaths; objects are the tracks with high enough scores."""
        return self.associate(decoded.frame, decoded.state, self.told(decoded))

    def associate(self, _frame: Frame, state: TrackState, told: Objects) -> tuple[Objects, TrackState]:
        """The same of what a look told (`ComparedQueries`), in the state in which it was taken.

        The pairs are decided on the host, where the objects stay.
        """
        if not isinstance(told, ComparedQueries):
            raise TypeError(f"AdaTrack pairs compared queries, not {type(told).__name__}")
        config, memory, device = self.config, state.detector_memory, state.alive.device
        # All that is decided and all that is reported; nobody waits for what becomes of the queries.
        state, affinity, scores, boxes, labels = on_host(
            replace(state, detector_memory=None, queries=None),
            told.affinities,
            told.scores,
            told.boxes,
            told.labels,
        )
        count = affinity.shape[1]
        rows = self._next_rows(state, affinity, scores)
        misses = rows.held(state.misses) + (rows.valid & ~rows.seen)
        if config.reset_misses:
            misses = misses.masked_fill(rows.paired, 0)
        numbers = state.next_identity[:, None] + rows.born.cumsum(1) - 1
        identities = torch.where(rows.born, numbers, rows.held(state.identities))
        row_scores = rows.mixed(scores[:, :count], scores[:, count:])
        objects = Objects(
            boxes=rows.mixed(boxes[:, :count], boxes[:, count:]),
            labels=rows.mixed(labels[:, :count], labels[:, count:]),
            scores=row_scores,
            identities=identities,
            valid=rows.valid & (row_scores >= config.output_score),
        )
        objects = best_objects(objects, config.max_objects, config.output_range_m, config.output_height_m)
        state = replace(
            state,
            identities=identities,
            misses=misses,
            next_identity=state.next_identity + rows.born.sum(1),
        )
        state, rows = state.to(device, non_blocking=True), rows.to(device, non_blocking=True)
        return objects, self._carried(told, replace(state, detector_memory=memory), rows)

    def _next_rows(self, state: TrackState, affinity: Tensor, scores: Tensor) -> NextRows:
        """Who lives on: tracks as they were, then new ones. All of it on the host."""
        count, streams = affinity.shape[1], len(affinity)
        pairs = [
            self._pair(affinities, said[:count], (alive, misses, said[count:]))
            for affinities, said, alive, misses in zip(
                *(part.numpy() for part in (affinity, scores, state.alive, state.misses)), strict=True
            )
        ]
        longest = max(len(track) for track, _ in pairs)
        padded = np.full((2, streams, longest), -1)
        for index, (track, detection) in enumerate(pairs):
            padded[0, index, : len(track)], padded[1, index, : len(track)] = track, detection
        track_rows, detection_rows = torch.from_numpy(padded)
        return NextRows(detection_rows, track_rows)

    def _pair(
        self, affinity: Floats, scores: Floats, known: tuple[Flags, Integers, Floats]
    ) -> tuple[Integers, Integers]:
        """Track and detection of each row that lives on, -1 = new and -1 = missed.

        Args:
            affinity: [D, N].
            scores: [D] of detections.
            known: [N] each of tracks: whether they are there, misses so far, scores.
        """
        config = self.config
        alive, misses, track_scores = known
        allowed: Flags = (affinity > config.affinity) & (scores > config.pair_score)[:, None] & alive
        # Empty slots are taken out, since the solver's order depends on who is there.
        slots = np.flatnonzero(alive)
        pair = pair_greedily if config.pairing == "greedy" else pair_optimally
        pairing = pair(affinity[:, slots], allowed[:, slots], scores)
        missed = pairing.detection_of < 0
        lasting = ~missed | (misses[slots] + 1 < config.miss_tolerance)
        born = pairing.unpaired[scores[pairing.unpaired] >= config.birth_score]
        track = np.concatenate([slots[lasting], np.full(len(born), -1)])
        detection = np.concatenate([pairing.detection_of[lasting], born])
        if len(track) > config.max_tracks:
            # New rows have no track to look up.
            sure = np.where(detection >= 0, scores[detection], np.append(track_scores, 0)[track])
            best = np.sort(np.argsort(-sure, kind="stable")[: config.max_tracks])
            track, detection = track[best], detection[best]
        return track, detection

    def carry(self, decoded: Decoded, outcome: Outcome, /) -> TrackState:
        """Tracks that hold an object, merged with the detection of the same, and detections of others.

        A track whose object is gone keeps its identity. A false positive lives for one frame.
        """
        queries, state = decoded.queries, decoded.state
        count, scores, identities = queries.object_count, decoded.scores, outcome.identities
        found, held = identities[:, :count], identities[:, count:].masked_fill(~state.alive, -1)
        same = (held[:, :, None] == found[:, None]) & (held >= 0)[:, :, None]
        detection_of = torch.where(same.any(2), same.int().argmax(2), -1)
        born = (found >= 0) & ~same.any(1)
        tied = torch.cat([held >= 0, born], dim=1)
        # Tracks come first, and a false positive is a detection that is nothing else.
        possible = torch.cat([held >= 0, born | (found < 0)], dim=1)
        seen = take_rows_or_zero(scores[:, :count], detection_of)
        own = torch.where(detection_of >= 0, seen, scores[:, count:])
        ordered = torch.cat([own, scores[:, :count]], dim=1)
        alive = self.noise.carried(tied, ordered, possible)
        chosen = carried_rows(alive, ordered, self.config.max_tracks)
        kept = take_rows(alive, chosen)
        detections = torch.arange(count, device=found.device).expand_as(found)
        slots = torch.arange(state.count, device=found.device).expand_as(held)
        rows = NextRows(
            take_rows(torch.cat([detection_of, detections], dim=1), chosen).masked_fill(~kept, -1),
            take_rows(torch.cat([slots, torch.full_like(found, -1)], dim=1), chosen).masked_fill(~kept, -1),
        )
        identities = rows.mixed(found, held).masked_fill(~kept, -1)
        state = replace(state, identities=identities, misses=torch.zeros_like(identities))
        return self._carried(self.told(decoded), state, rows)

    def _carried(self, told: ComparedQueries, state: TrackState, rows: NextRows) -> TrackState:
        """The state with these rows, whose identities and misses it has already."""
        return replace(
            state,
            identities=state.identities.masked_fill(~rows.valid, -1),
            misses=state.misses.masked_fill(~rows.valid, 0),
            alive=rows.valid,
            queries=told.carried(rows, self.config.own_share),
            own=Begun(torch.ones_like(state.owned(Begun).begun)),
        )
