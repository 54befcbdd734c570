"""MUTR3D: multi-camera tracking via 3D-to-2D queries (Zhang et al., CVPR workshops 2022), on any detector.

Confident queries become track queries: their reference points move with the predicted velocity and the
vehicle's own motion, their contents pass the memory bank and the query interaction module.

Letters: B streams, Q queries, N track slots, R rows that go on, D channels, S memory slots.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from syncl.detectors.base import Detector
from syncl.structures import Predictions
from syncl.structures.tensors import TensorStructure
from syncl.trackers.life_cycle import LifeCycleConfig, LivingByScore
from syncl.trackers.look import Decoded
from syncl.trackers.mutr3d.memory_bank import MemoryBank, RememberedEmbeddings
from syncl.trackers.mutr3d.query_interaction import QueryInteraction
from syncl.trackers.rows import take_rows, take_rows_or_zero
from syncl.trackers.state import TrackState
from syncl.trackers.tracking_head import TrackingHead


@dataclass(frozen=True)
class Mutr3dConfig(LifeCycleConfig):
    """Life cycle and sizes; the defaults are the published configuration's.

    Attributes:
        memory_slots: slots of the memory bank; 0 leaves it out.
        heads: attention heads of memory bank and query interaction.
        hidden: hidden channels of both.
        tracking_head: whether tracking has a class head of its own, for one-stage training.
    """

    memory_slots: int = 4
    heads: int = 8
    hidden: int = 256
    tracking_head: bool = False

    def build(self, detector: Detector) -> "Mutr3d":
        """Build the module around a detector."""
        return Mutr3d(detector, self)


class Mutr3d(LivingByScore):
    """See the module's docstring."""

    def __init__(self, detector: Detector, config: Mutr3dConfig) -> None:
        super().__init__(detector, config)
        self.config: Mutr3dConfig = config
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

    def classify(self, predictions: Predictions, _state: TrackState, /) -> Predictions:
        """See `Tracker.classify`."""
        return predictions if self.tracking_head is None else self.tracking_head(predictions)

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        if self.memory_bank is None or state.queries is None:
            return state
        return replace(state, own=self.memory_bank.empty(state.queries.embeddings))

    def renewed(
        self, decoded: Decoded, rows: Tensor, kept: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor, TensorStructure | None]:
        """Memory bank and query interaction, for the rows that go on.

        The original runs the bank over all rows first; that makes no difference to the rows that stay.
        """
        state, queries = decoded.state, decoded.queries
        outputs = take_rows(decoded.standard.embeddings[-1], rows)
        own = state.own
        if self.memory_bank is not None:
            # Object queries have nothing in the bank.
            remembered = state.owned(RememberedEmbeddings).map(
                lambda tensor: take_rows_or_zero(tensor, rows - queries.object_count)
            )
            outputs = self.memory_bank.attend(outputs, remembered)
            own = self.memory_bank.update(outputs, scores, remembered)
        positions, embeddings = self.query_interaction(
            take_rows(queries.positions, rows), take_rows(queries.embeddings, rows), outputs, kept
        )
        return positions, embeddings, own
