"""MUTR3D: multi-camera tracking via 3D-to-2D queries (Zhang et al., CVPR workshops 2022), on any detector.

Confident queries become track queries: their reference points move with the predicted velocity and the
vehicle's own motion, their contents pass the memory bank and the query interaction module.

Letters: B streams, Q queries, N track slots, D channels, S memory slots.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.structures import Objects, Outcome, Predictions
from syncl.trackers.base import Decoded, Tracker, TrackQueries, TrackState
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.mutr3d.memory_bank import MemoryBank, RememberedEmbeddings
from syncl.trackers.mutr3d.query_interaction import QueryInteraction
from syncl.trackers.rows import carried_rows, ranked_rows, take_rows, take_rows_or_zero, with_front_rows
from syncl.trackers.tracking_head import TrackingHead

_PUBLISHED_NOISE = ClipNoise(drop_probability=0.1, false_positive_ratio=0.3)


@dataclass(frozen=True)
class Mutr3dConfig:
    """Life cycle and sizes; the defaults are the published configuration's.

    Attributes:
        birth_score: a query at or above it becomes a track; a track at or above it has not been missed.
        keep_score: a track below it counts a miss; between the two the count holds.
        output_score: tracks at or above it are reported.
        miss_tolerance: misses after which a track ends.
        max_tracks: most tracks carried on; the highest scores stay.
        max_objects: most objects reported a frame.
        output_range_m: objects whose centre lies beyond +-this in x or y are not reported.
        memory_slots: slots of the memory bank; 0 leaves it out.
        heads: attention heads of memory bank and query interaction.
        hidden: hidden channels of both.
        noise: training: how tracks are disturbed between frames.
        longest_gap_s: tracks end after a longer silence within a scene; the original's is 10 s; None = never.
        tracking_head: whether tracking has a class head of its own, for one-stage training.
    """

    birth_score: float = 0.4
    keep_score: float = 0.35
    output_score: float = 0.35
    miss_tolerance: int = 5
    max_tracks: int = 300
    max_objects: int = 100
    output_range_m: float = 61.2
    memory_slots: int = 4
    heads: int = 8
    hidden: int = 256
    noise: ClipNoise = _PUBLISHED_NOISE
    longest_gap_s: float | None = None
    tracking_head: bool = False

    def build(self, detector: Detector) -> "Mutr3d":
        """Build the module around a detector."""
        return Mutr3d(detector, self)


class Mutr3d(Tracker):
    """See the module's docstring."""

    def __init__(self, detector: Detector, config: Mutr3dConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.noise = config.noise
        self.longest_gap_s = config.longest_gap_s
        self.query_interaction = QueryInteraction(
            detector.dim, config.heads, config.hidden, not detector.positions_follow_references
        )
        self.memory_bank: MemoryBank | None = None
        if config.memory_slots:
            self.keeps = RememberedEmbeddings
            self.memory_bank = MemoryBank(detector.dim, config.heads, config.hidden, config.memory_slots)
        self.tracking_head: TrackingHead | None = None
        if config.tracking_head:
            self.tracking_head = TrackingHead(detector)

    def classify(self, predictions: Predictions) -> Predictions:
        """See `Tracker.classify`."""
        return predictions if self.tracking_head is None else self.tracking_head(predictions)

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        if self.memory_bank is None or state.queries is None:
            return state
        return replace(state, own=self.memory_bank.empty(state.queries.embeddings))

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Births, misses and deaths by score; objects are the live tracks with a high enough score."""
        config, state, queries = self.config, decoded.state, decoded.queries
        predictions = decoded.standard
        scores, labels = predictions.logits[-1].sigmoid().max(-1)
        scores = scores.masked_fill(~queries.valid, 0)
        misses = with_front_rows(state.misses, queries.object_count, 0)

        strong = (scores >= config.birth_score) & queries.valid
        born = strong & (queries.identities < 0)
        numbers = state.next_identity[:, None] + born.cumsum(1) - 1
        identities = torch.where(born, numbers, queries.identities)
        misses = torch.where(strong, 0, misses + (scores < config.keep_score))
        alive = queries.valid & (identities >= 0) & (misses < config.miss_tolerance)

        boxes = self.detector.boxes(predictions.codes[-1])
        reported = alive & (scores >= config.output_score)
        reported = reported & (boxes[..., :2].abs() <= config.output_range_m).all(-1)
        objects = Objects(boxes, labels, scores, identities, reported)
        objects = _first_rows(objects, reported, scores, config.max_objects)
        carried = self._carried(decoded, scores, identities, misses, alive)
        return objects, replace(carried, next_identity=state.next_identity + born.sum(1))

    def carry(self, decoded: Decoded, outcome: Outcome, /) -> TrackState:
        """Carry every query tied to an object, less some dropped and with some false positives.

        Tracks whose object is gone keep their identity and may meet it again. A false positive keeps -1,
        so it may be assigned a new object in the next frame.
        """
        scores, valid, identities = decoded.scores, decoded.queries.valid, outcome.identities
        alive = self.noise.carried((identities >= 0) & valid, scores, valid)
        return self._carried(decoded, scores, identities, torch.zeros_like(identities), alive)

    def _carried(
        self, decoded: Decoded, scores: Tensor, identities: Tensor, misses: Tensor, alive: Tensor
    ) -> TrackState:
        """Compaction to the live rows, then memory bank and query interaction for these.

        The original runs the bank over all rows first; that makes no difference to the rows that stay.
        """
        state, queries, predictions = decoded.state, decoded.queries, decoded.standard
        rows = carried_rows(alive, scores, self.config.max_tracks)

        def take(tensor: Tensor) -> Tensor:
            return take_rows(tensor, rows)

        kept = take(alive)
        outputs = take(predictions.embeddings[-1])
        own = state.own
        if self.memory_bank is not None:
            # Object queries have nothing in the bank.
            remembered = state.owned(RememberedEmbeddings).map(
                lambda tensor: take_rows_or_zero(tensor, rows - queries.object_count)
            )
            outputs = self.memory_bank.attend(outputs, remembered)
            own = self.memory_bank.update(outputs, take(scores), remembered)
        positions, embeddings = self.query_interaction(
            take(queries.positions), take(queries.embeddings), outputs, kept
        )
        return replace(
            state,
            identities=take(identities).masked_fill(~kept, -1),
            misses=take(misses),
            alive=kept,
            queries=TrackQueries(embeddings, positions, take(predictions.codes[-1]).detach()),
            own=own,
        )


def _first_rows(objects: Objects, selected: Tensor, scores: Tensor, most: int) -> Objects:
    """Objects reduced to `most` rows, selected ones in front in row order."""
    rows = ranked_rows(selected, scores, min(most, selected.shape[1]))
    return objects.map(lambda values: take_rows(values, rows))
