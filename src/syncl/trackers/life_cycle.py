"""Tracks that live by their score, as MUTR3D has it (Zhang et al. 2022, section 3.2), and others from it.

A query that scores high enough is born, a track that scores low for too long ends, and what was decoded of
the live ones goes on. What happens to a track's query in between is a tracker's own.

Letters: B streams, Q queries, N track slots, R rows that go on.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.detectors import Detector
from syncl.structures import Objects, Outcome
from syncl.structures.tensors import TensorStructure
from syncl.trackers.base import Tracker
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.look import Decoded
from syncl.trackers.rows import carried_rows, ranked_rows, take_rows, with_front_rows
from syncl.trackers.state import TrackQueries, TrackState

_PUBLISHED_NOISE = ClipNoise(drop_probability=0.1, false_positive_ratio=0.3)


@dataclass(frozen=True)
class LifeCycleConfig:
    """The defaults are MUTR3D's published ones.

    Attributes:
        birth_score: a query at or above it becomes a track; a track at or above it has not been missed.
        keep_score: a track below it counts a miss; between the two the count holds.
        output_score: tracks at or above it are reported.
        miss_tolerance: misses after which a track ends.
        max_tracks: most tracks carried on; the highest scores stay.
        max_objects: most objects reported a frame.
        output_range_m: objects whose centre lies beyond +-this in x or y are not reported.
        noise: training: how tracks are disturbed between frames.
        longest_gap_s: tracks end after a longer silence within a scene; MUTR3D's is 10 s; None = never.
    """

    birth_score: float = 0.4
    keep_score: float = 0.35
    output_score: float = 0.35
    miss_tolerance: int = 5
    max_tracks: int = 300
    max_objects: int = 100
    output_range_m: float = 61.2
    noise: ClipNoise = _PUBLISHED_NOISE
    longest_gap_s: float | None = None


class LivingByScore(Tracker):
    """Base of such trackers: they say what becomes of a query that goes on (`renewed`)."""

    def __init__(self, detector: Detector, config: LifeCycleConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.noise = config.noise
        self.longest_gap_s = config.longest_gap_s

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

    def fixed_slots(self) -> int:
        """See `Tracker.fixed_slots`."""
        return self.config.max_tracks

    @abstractmethod
    def renewed(
        self, decoded: Decoded, rows: Tensor, kept: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor, TensorStructure | None]:
        """What goes on of the rows that do: positional part and content [B, R, D], and the tracker's own.

        Args:
            decoded: the frame.
            rows: [B, R] int64, among the Q queries.
            kept: [B, R] bool; False = padding.
            scores: [B, R] best class scores of these rows.
        """

    def _carried(
        self, decoded: Decoded, scores: Tensor, identities: Tensor, misses: Tensor, alive: Tensor
    ) -> TrackState:
        """Compaction to the live rows, and their renewal."""
        rows = carried_rows(alive, scores, self.config.max_tracks, self.slots)

        def take(tensor: Tensor) -> Tensor:
            return take_rows(tensor, rows)

        kept = take(alive)
        positions, embeddings, own = self.renewed(decoded, rows, kept, take(scores))
        return replace(
            decoded.state,
            identities=take(identities).masked_fill(~kept, -1),
            misses=take(misses),
            alive=kept,
            queries=TrackQueries(embeddings, positions, take(decoded.standard.codes[-1]).detach()),
            own=own,
        )


def _first_rows(objects: Objects, selected: Tensor, scores: Tensor, most: int) -> Objects:
    """Objects reduced to `most` rows, selected ones in front in row order."""
    rows = ranked_rows(selected, scores, min(most, selected.shape[1]))
    return objects.map(lambda values: take_rows(values, rows))
