"""DQTrack: end-to-end tracking with decoupled queries (Li et al., ICCV 2023), written from its description.

A query detector looks at every frame alone. The last feature of a detection is decoupled into an object query
and a track query; a learned affinity of object queries with the tracks' remembered queries, and of distances,
says who continues whom. Tracks are no rows of the decoder.

Letters: B streams, Q queries, D detections that take part, N tracks, C channels, R supervised queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from syncl.classes import CLASS_RANGE_M, TRACKING_CLASSES
from syncl.detectors.base import Detector
from syncl.detectors.passed import Features
from syncl.errors import SynclError
from syncl.geometry.transforms import rotate_planar, transform_points
from syncl.structures import Annotations, Frame, Objects, Outcome, Queries
from syncl.structures.tensors import joined, on_host, padded
from syncl.trackers.dqtrack.association import DecoupledAssociation
from syncl.trackers.dqtrack.following import Followed, follow
from syncl.trackers.dqtrack.query_detections import QueryDetections, QueryObjects, query_objects
from syncl.trackers.dqtrack.query_tracks import (
    Compared,
    Detections,
    DqTracks,
    DualQueries,
    QueryTracks,
    Supervised,
)
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.look import Decoded
from syncl.trackers.next_rows import NextRows
from syncl.trackers.rows import rows_at_hand
from syncl.trackers.state import Move, TrackState

Embedded = TypeVar("Embedded", Detections, QueryTracks, Compared)


@dataclass(frozen=True)
class DqTrackConfig:
    """DQTrack's settings; the defaults are those published for PETRv2.

    Attributes:
        detection_score: detections below it take no part; 0.2 on other detectors than PETRv2.
        birth_score: detections above it that continue no track begin one.
        min_affinity: pairs below it are refused.
        gates_m: for each of `classes`, how far a detection, put back by its velocity, may be from where its
            track was last seen.
        miss_tolerance: a track ends when it was missed more often in a row.
        momentum: how much of a remembered query a sighting replaces.
        classes: names of the classes that are tracked.
        max_tracks: tracks of a stream at the most; later births wait.
        max_objects: objects reported a frame at the most, the best.
        output_range_m: objects whose centre lies beyond +-this in x or y are not reported.
        output_height_m: the same for z.
        range_centre_m: where, in the vehicle frame, the origin is from which class ranges are measured: the
            ego frame's.
        coasting: missed tracks move on by their velocity; as published they stay where they were last seen.
        count_refused: tracks in a refused pair count a miss; as published they are neither seen nor missed.
        false_tracks: in training, how many false tracks there are beside true ones, for one frame each.
        heads: of the attention among detections.
        longest_gap_s: tracks end after a longer silence within a scene; None = never.
    """

    detection_score: float = 0.3
    birth_score: float = 0.2
    min_affinity: float = 0.1
    gates_m: tuple[float, ...] = (6.0, 6.0, 6.0, 5.0, 12.0, 5.0, 5.0)
    miss_tolerance: int = 7
    momentum: float = 0.5
    classes: tuple[str, ...] = TRACKING_CLASSES
    max_tracks: int = 300
    max_objects: int = 100
    output_range_m: float = 61.2
    output_height_m: float = 10.0
    range_centre_m: tuple[float, float] = (0.0, 0.0)
    coasting: bool = False
    count_refused: bool = False
    false_tracks: float = 0.2
    heads: int = 8
    longest_gap_s: float | None = None

    @property
    def most_chosen(self) -> None:
        """See `ChoosingConfig`: every query may matter to the others."""

    def build(self, detector: Detector) -> "DqTrack":
        """Build the module around a detector."""
        return DqTrack(detector, self)


class DqTrack(HostPairing):
    """See the module's docstring."""

    config: DqTrackConfig
    pairs = QueryObjects
    meanings: Mapping[str, str] = MappingProxyType(
        {"embeddings": "[1, Q, C] the features by which queries are compared"}
    )
    keeps = DqTracks
    range_centre_m: Tensor
    ranges_m: Tensor
    tracked: Tensor

    def __init__(self, detector: Detector, config: DqTrackConfig) -> None:
        super().__init__()
        if len(config.gates_m) != len(config.classes):
            raise SynclError(
                f"model.tracker.gates_m: {len(config.gates_m)} distances for {len(config.classes)} classes "
                f"({', '.join(config.classes)}); give one each"
            )
        self.detector = detector
        self.config = config
        self.longest_gap_s = config.longest_gap_s
        self.association = DecoupledAssociation(detector.dim, config.heads)
        gates = dict(zip(config.classes, config.gates_m, strict=True))
        numbers = {
            "range_centre_m": list(config.range_centre_m),
            "ranges_m": [float(CLASS_RANGE_M.get(name, CLASS_RANGE_M["car"])) for name in detector.classes],
            "tracked": [name in gates for name in detector.classes],
        }
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        # On the host, as all of the pairing.
        self.gates_m = torch.tensor([gates.get(name, 0.0) for name in detector.classes], device="cpu")

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        nobody, nowhere = state.identities, state.timestamp_s.new_zeros(streams, 0, 2)
        queries = next(self.parameters()).new_zeros(streams, 0, self.detector.dim)
        tracks = QueryTracks(nobody, queries, nowhere, nowhere, nobody, nobody, nobody)
        return replace(state, queries=None, own=DqTracks(tracks, state.timestamp_s))

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """Tracks are in the global frame, where they were last seen."""
        own = replace(state.owned(DqTracks), elapsed_s=move.elapsed_s)
        if self.config.coasting:
            tracks = own.tracks
            places = tracks.places + tracks.velocities * move.elapsed_s[:, None, None]
            own = replace(own, tracks=replace(tracks, places=places))
        return replace(state, own=own)

    def queries(self, state: TrackState, features: Features) -> Queries:
        """Object queries alone."""
        return super().queries(replace(state, queries=None), features)

    # Tracking

    def stepping_part(self) -> QueryDetections:
        """What the queries of single frames say, which this tracker ties together."""
        return QueryDetections(self.detector).eval()

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Who takes part, who continues whom, who is new and who ends."""
        return self.associate(decoded.frame, decoded.state, query_objects(decoded, self.detector))

    def associate(self, frame: Frame, state: TrackState, seen: Objects) -> tuple[Objects, TrackState]:
        """The same of what queries say (`QueryObjects`), in a state that has entered the frame.

        Queries are compared where they are; who continues whom is decided on the host, where objects stay.
        Nobody waits for what the tracks then remember.
        """
        own, memory, device = state.owned(DqTracks), state.detector_memory, state.alive.device
        looks = []
        for stream in range(frame.batch_size):
            tracks = own.tracks.map(lambda rows, s=stream: rows[s])  # type: ignore[misc]
            detections = self.detections(frame, seen, stream)
            compared = self.compared(detections, tracks, own.elapsed_s[stream])
            looks.append((tracks.embeddings, compared.embeddings, _bare(detections), _bare(compared)))
        bare = replace(state, own=replace(own, tracks=_bare(own.tracks)), detector_memory=None)
        known, looked = on_host(bare, tuple((seen, compared) for _, _, seen, compared in looks))
        own, reports, after, embeddings = known.owned(DqTracks), [], [], []
        for stream, (remembered, queries, _, _) in enumerate(looks):
            slots = known.alive[stream].nonzero()[:, 0]
            tracks = own.tracks.map(lambda rows, s=stream, r=slots: rows[s][r])  # type: ignore[misc]
            next_identity, elapsed_s = int(known.next_identity[stream]), own.elapsed_s[stream]
            detections, compared = looked[stream]
            compared = replace(compared, logits=compared.logits[:, slots])
            followed = self.followed(tracks, detections, elapsed_s, next_identity, compared)
            # Of all that was compared, and of all slots.
            part = compared.part.nonzero()[:, 0]
            rows = followed.rows
            rows = NextRows(_renumbered(rows.detection, part), _renumbered(rows.track, slots))
            reports.append(followed.objects)
            after.append(followed.tracks)
            embeddings.append(self.remembered(remembered, queries, rows.to(device, non_blocking=True)))
        state = _packed(known, after, births=True).to(device, non_blocking=True)
        own = state.owned(DqTracks)
        own = replace(own, tracks=replace(own.tracks, embeddings=pad_sequence(embeddings, batch_first=True)))
        return padded(reports), replace(state, own=own, detector_memory=memory)

    def compared(self, seen: Detections, tracks: QueryTracks, elapsed_s: Tensor) -> Compared:
        """How alike the detections of a stream that take part are to the state's rows of tracks."""
        part = (seen.scores >= self.config.detection_score) & self.tracked[seen.labels]
        rows, valid = rows_at_hand(part)
        queries, objects = self.association.decouple(seen.embeddings[rows], valid=valid)
        logits = self.logits(objects, seen.places[rows], tracks, elapsed_s)
        return Compared(rows, part[rows], queries, logits)

    def detections(self, frame: Frame, said: Objects, stream: int, everywhere: bool = False) -> Detections:
        """What a stream's queries say; those beyond their class's range score 0, unless wanted everywhere."""
        if not isinstance(said, QueryObjects):
            raise TypeError(f"DqTrack ties queries together, not {type(said).__name__}")
        boxes, scores, labels = said.boxes[stream], said.scores[stream], said.labels[stream]
        beyond = (boxes[:, :2].detach() - self.range_centre_m).norm(dim=-1) > self.ranges_m[labels]
        pose = frame.global_from_vehicle[stream]
        seen = boxes.detach().double()
        return Detections(
            embeddings=said.embeddings[stream],
            boxes=boxes,
            scores=scores if everywhere else scores.masked_fill(beyond, 0),
            labels=labels,
            places=transform_points(pose, seen[:, :3])[:, :2],
            velocities=rotate_planar(pose, seen[:, 7:9]),
        )

    def followed(
        self,
        tracks: QueryTracks,
        seen: Detections,
        elapsed_s: Tensor,
        next_identity: int,
        compared: Compared,
    ) -> Followed:
        """See `follow`."""
        return follow(tracks, seen, elapsed_s, next_identity, compared, self.config, self.gates_m)

    def logits(self, objects: Tensor, places: Tensor, tracks: QueryTracks, elapsed_s: Tensor) -> Tensor:
        """[D, N] of object queries [D, C] at places [D, 2], for tracks that move on until then."""
        ahead = tracks.places if self.config.coasting else tracks.places + tracks.velocities * elapsed_s
        distances_m = torch.cdist(places, ahead, compute_mode="donot_use_mm_for_euclid_dist")
        logits: Tensor = self.association(objects, tracks.embeddings, distances_m)
        return logits

    def remembered(self, tracks: Tensor, queries: Tensor, rows: NextRows) -> Tensor:
        """Track queries [R, C] behind a frame: old ones [N, C], blended with those of sightings [D, C]."""
        old, new = rows.held(tracks[None]), rows.take(queries[None])
        blended = self._blended(old, new)
        return torch.where(rows.paired[..., None], blended, rows.mixed(queries[None], tracks[None]))[0]

    def _blended(self, tracks: Tensor, queries: Tensor) -> Tensor:
        return (1 - self.config.momentum) * tracks + self.config.momentum * queries

    # Training

    def supervised(self, decoded: Decoded, outcome: Outcome, annotations: Annotations, /) -> DualQueries:
        """Track queries and logits of the queries that hold objects of tracked classes."""
        own = decoded.state.owned(DqTracks)
        said, streams = query_objects(decoded, self.detector), []
        for stream, elapsed_s in enumerate(own.elapsed_s):
            seen = self.detections(decoded.frame, said, stream, everywhere=True)
            targets, identities = outcome.targets[stream], outcome.identities[stream]
            held = (targets >= 0) & (identities >= 0)
            if annotations.labels.shape[1]:
                held &= self.tracked[annotations.labels[stream][targets.clamp(min=0)]]
            rows = held.nonzero()[:, 0]
            tracks = own.tracks.map(lambda r, s=stream: r[s][decoded.state.alive[s]])  # type: ignore[misc]
            queries, objects = self.association.decouple(seen.embeddings[rows])
            logits = self.logits(objects, seen.places[rows], tracks, elapsed_s)
            streams.append(Supervised(rows, identities[rows], queries, logits, tracks.identities))
        return DualQueries(tuple(streams))

    def carry(self, decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Tracks of all objects seen so far; those that are not in the frame move on, unlike in tracking.

        Raises:
            SynclError: if nobody asked `supervised`.
        """
        reasoned = decoded.reasoned
        if not isinstance(reasoned, DualQueries):
            raise SynclError("DQTrack carries on what supervision made of a frame; call supervised first")
        own = decoded.state.owned(DqTracks)
        said, after = query_objects(decoded, self.detector), []
        for stream, (known, elapsed_s) in enumerate(zip(reasoned.streams, own.elapsed_s, strict=True)):
            seen = self.detections(decoded.frame, said, stream, everywhere=True)
            tracks = own.tracks.map(lambda r, s=stream: r[s][decoded.state.alive[s]])  # type: ignore[misc]
            if not self.config.coasting:
                tracks = replace(tracks, places=tracks.places + tracks.velocities * elapsed_s)
            after.append(self._carried(tracks, seen, known))
        return _packed(decoded.state, after, births=False)

    def _carried(self, tracks: QueryTracks, seen: Detections, known: Supervised) -> QueryTracks:
        same = known.identities[:, None] == tracks.identities
        row, column = same.nonzero().unbind(1)
        blended = self._blended(tracks.embeddings[column], known.embeddings[row])
        queries = known.embeddings.index_copy(0, row, blended) if len(row) else known.embeddings
        gone = (tracks.identities >= 0) & ~same.any(0)
        true = joined(
            tracks.map(lambda values: values[gone]), seen.tracks(known.rows, known.identities, queries)
        )
        count = int(self.config.false_tracks * len(true.identities))
        best = torch.zeros_like(seen.labels, dtype=torch.bool)
        best[seen.scores.topk(min(count, len(seen.scores))).indices] = True
        best &= seen.scores > self.config.detection_score
        best[known.rows] = False
        rows = best.nonzero()[:, 0]
        false, _ = self.association.decouple(seen.embeddings[rows])
        return joined(true, seen.tracks(rows, torch.full_like(rows, -1), false))


def _renumbered(rows: Tensor, among: Tensor) -> Tensor:
    """Rows as numbers of what they were chosen among; -1 stays."""
    return torch.where(rows >= 0, torch.cat([among, among.new_full((1,), -1)])[rows], -1)


def _bare(structure: Embedded) -> Embedded:
    """The structure without embeddings, which are looked at on the device alone."""
    return replace(structure, embeddings=structure.embeddings[..., :0])


def _packed(state: TrackState, streams: list[QueryTracks], *, births: bool) -> TrackState:
    """The state with these tracks; numbering goes on where tracks are born by themselves."""
    tracks = padded(streams)
    counts = torch.tensor([len(stream.identities) for stream in streams], device=tracks.identities.device)
    alive = torch.arange(tracks.identities.shape[1], device=counts.device) < counts[:, None]
    identities = tracks.identities.masked_fill(~alive, -1)
    next_identity = state.next_identity
    if births and identities.shape[1]:
        next_identity = torch.maximum(next_identity, identities.amax(1) + 1)
    return replace(
        state,
        identities=identities,
        misses=tracks.misses,
        alive=alive,
        next_identity=next_identity,
        own=replace(state.owned(DqTracks), tracks=tracks),
    )
