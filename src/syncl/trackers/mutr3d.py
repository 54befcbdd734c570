"""MUTR3D: multi-camera tracking via 3D-to-2D queries (Zhang et al., CVPR workshops 2022), on any detector.

Confident queries become track queries: their reference points move with the predicted velocity and the
vehicle's own motion, their contents pass the memory bank and the query interaction module.

Letters: B streams, Q queries, N track slots, D channels, S memory slots.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.structures import Objects, Predictions, Queries
from syncl.trackers.base import Tracker, TrackState
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.forecasts import Reasoned
from syncl.trackers.memory_bank import MemoryBank
from syncl.trackers.query_interaction import QueryInteraction
from syncl.trackers.rows import ranked_rows, take_rows, take_rows_or_zero, with_front_rows
from syncl.trackers.tracking_head import TrackingHead


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
        drop_probability: training: chance that a track is forgotten, so that its object is born again.
        carry_score: training: queries below it are not carried on although they hold an object, as the birth
            score has it at inference; the object is new-born again in the next frame. 0 carries all, as
            published: object queries then hardly ever see objects that no track holds.
        false_positive_ratio: training: chance, a track, that a query without object is carried on as well.
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
    drop_probability: float = 0.1
    carry_score: float = 0.0
    false_positive_ratio: float = 0.3
    longest_gap_s: float | None = None
    tracking_head: bool = False

    @property
    def noise(self) -> ClipNoise:
        """How training disturbs tracks."""
        return ClipNoise(self.drop_probability, self.carry_score, self.false_positive_ratio)

    def build(self, detector: Detector) -> "Mutr3d":
        """Build the module around a detector."""
        return Mutr3d(detector, self)


class Mutr3d(Tracker):
    """See the module's docstring."""

    def __init__(self, detector: Detector, config: Mutr3dConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.memory_slots = config.memory_slots
        self.longest_gap_s = config.longest_gap_s
        self.query_interaction = QueryInteraction(
            detector.dim, config.heads, config.hidden, not detector.positions_follow_references
        )
        self.memory_bank: MemoryBank | None = None
        if config.memory_slots:
            self.memory_bank = MemoryBank(detector.dim, config.heads, config.hidden, config.memory_slots)
        self.tracking_head: TrackingHead | None = None
        if config.tracking_head:
            self.tracking_head = TrackingHead(detector)

    def classify(self, predictions: Predictions) -> Predictions:
        """See `Tracker.classify`."""
        return predictions if self.tracking_head is None else self.tracking_head(predictions)

    def conclude(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        reasoned: Reasoned | None = None,  # noqa: ARG002
    ) -> tuple[Objects, TrackState]:
        """Births, misses and deaths by score; objects are the live tracks with a high enough score."""
        config = self.config
        scores, labels = predictions.logits[-1].sigmoid().max(-1)
        scores = scores.masked_fill(~queries.valid, 0)
        identities = with_front_rows(state.identities, queries.object_count, -1)
        misses = with_front_rows(state.misses, queries.object_count, 0)

        strong = (scores >= config.birth_score) & queries.valid
        born = strong & (identities < 0)
        identities = torch.where(born, state.next_identity[:, None] + born.cumsum(1) - 1, identities)
        next_identity = state.next_identity + born.sum(1)
        misses = torch.where(strong, 0, misses + (scores < config.keep_score))
        alive = queries.valid & (identities >= 0) & (misses < config.miss_tolerance)

        boxes = self.detector.boxes(predictions.codes[-1])
        reported = alive & (scores >= config.output_score)
        reported = reported & (boxes[..., :2].abs() <= config.output_range_m).all(-1)
        objects = Objects(boxes, labels, scores, identities, reported)
        objects = _first_rows(objects, reported, scores, config.max_objects)
        state = replace(state, next_identity=next_identity)
        return objects, self._carry(state, queries, predictions, scores, identities, misses, alive)

    def carry_supervised(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        identities: Tensor,
        present: Tensor,  # noqa: ARG002
        reasoned: Reasoned | None = None,  # noqa: ARG002
    ) -> TrackState:
        """Carry every query tied to an object, less some dropped and with some false positives.

        Tracks whose object is gone keep their identity and may meet it again. A false positive keeps -1,
        so it may be assigned a new object in the next frame.
        """
        scores = predictions.logits[-1].detach().sigmoid().amax(-1).masked_fill(~queries.valid, 0)
        alive = self.config.noise.carried((identities >= 0) & queries.valid, scores, queries.valid)
        misses = torch.zeros_like(identities)
        return self._carry(state, queries, predictions, scores, identities, misses, alive)

    def _carry(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        scores: Tensor,
        identities: Tensor,
        misses: Tensor,
        alive: Tensor,
    ) -> TrackState:
        """Compaction to the live rows, then memory bank and query interaction for these.

        The original runs the bank over all rows first; that makes no difference to the rows that stay.
        """
        # One of a step's host round trips: how many slots the fullest stream needs.
        needed = int(alive.sum(1).max()) if alive.shape[0] else 0
        rows = ranked_rows(alive, scores, min(needed, self.config.max_tracks))

        def take(tensor: Tensor) -> Tensor:
            return take_rows(tensor, rows)

        def take_tracks(tensor: Tensor) -> Tensor:
            # Object queries have nothing in the bank.
            return take_rows_or_zero(tensor, rows - queries.object_count)

        kept = take(alive)
        code = take(predictions.codes[-1])
        outputs = take(predictions.embeddings[-1])
        memory, memory_valid = take_tracks(state.memory), take_tracks(state.memory_valid)
        countdown = take_tracks(state.save_countdown)
        if self.memory_bank is not None:
            outputs = self.memory_bank.attend(outputs, memory, memory_valid)
            memory, memory_valid, countdown = self.memory_bank.update(
                outputs, take(scores), memory, memory_valid, countdown
            )
        positions, embeddings = self.query_interaction(
            take(queries.positions), take(queries.embeddings), outputs, kept
        )
        return replace(
            state,
            embeddings=embeddings,
            positions=positions,
            references=code[..., :3].detach(),
            velocities=code[..., 8:10].detach(),
            identities=take(identities).masked_fill(~kept, -1),
            misses=take(misses),
            alive=kept,
            memory=memory,
            memory_valid=memory_valid,
            save_countdown=countdown,
            log_sizes=code[..., 3:6].detach() if self.detector.carries_sizes else None,
        )


def _first_rows(objects: Objects, selected: Tensor, scores: Tensor, most: int) -> Objects:
    """Objects reduced to `most` rows, selected ones in front in row order."""
    rows = ranked_rows(selected, scores, min(most, selected.shape[1]))
    return objects.map(lambda values: take_rows(values, rows))
