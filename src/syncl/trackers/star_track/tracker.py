"""S.T.A.R.-Track: latent motion models for end-to-end 3D object tracking (Doll et al., RA-L 2024).

Reconstructed: there is no public code, and what the paper's abstract leaves open is chosen here
(`docs/tracking.md` lists what, and why). Tracks live as MUTR3D's do. Between frames their reference points
move with the predicted velocity and the vehicle, and their contents by the latent motion model; the decoder's
output is the next content, without memory bank and query interaction. A track embedding tells the class head
how much of a track a query is.

Letters: B streams, Q queries, N track slots, R rows that go on, D channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.detectors.passed import Features
from syncl.errors import SynclError
from syncl.structures import Predictions, Queries
from syncl.structures.tensors import TensorStructure
from syncl.trackers.life_cycle import LifeCycleConfig, LivingByScore
from syncl.trackers.look import Decoded
from syncl.trackers.rows import take_rows
from syncl.trackers.star_track.latent_motion import LatentMotion, Norm, Transform, relative_motion
from syncl.trackers.star_track.track_embedding import TrackEmbedding, TrackEmbeddings
from syncl.trackers.state import Move, TrackState
from syncl.trackers.tracking_head import branch_logits


@dataclass(frozen=True)
class StarTrackConfig(LifeCycleConfig):
    """Life cycle and sizes.

    Attributes:
        transform: the map of a track's content: `block` diagonal, `full`, `diagonal` (StreamPETR's scale and
            shift), or `none`, MUTR3D's geometry alone.
        blocks: of the block-diagonal map; one an attention head.
        hidden: hidden channels of the hyper-network.
        norm: what follows the map: `length` keeps the content's length, `layer` is a LayerNorm, which is no
            identity at the start, `none` nothing.
        track_embedding: whether tracks carry one.
    """

    transform: Transform = "block"
    blocks: int = 8
    hidden: int = 256
    norm: Norm = "length"
    track_embedding: bool = True

    def build(self, detector: Detector) -> "StarTrack":
        """Build the module around a detector.

        Raises:
            SynclError: if the settings contradict one another or do not fit the detector.
        """
        return StarTrack(detector, self)


class StarTrack(LivingByScore):
    """See the module's docstring."""

    def __init__(self, detector: Detector, config: StarTrackConfig) -> None:
        super().__init__(detector, config)
        if config.transform == "none" and config.norm == "layer":
            raise SynclError(
                "tracker.transform=none has no latent motion for tracker.norm=layer to follow; "
                "leave norm at length or choose another transform"
            )
        self.config: StarTrackConfig = config
        dim = detector.dim
        self.latent_motion: LatentMotion | None = None
        if config.transform != "none":
            blocks = {"block": config.blocks, "full": 1, "diagonal": dim}[config.transform]
            self.latent_motion = LatentMotion(dim, blocks, config.hidden, config.norm)
        self.track_embedding: TrackEmbedding | None = None
        if config.track_embedding:
            self.keeps = TrackEmbeddings
            self.track_embedding = TrackEmbedding(dim)

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        if self.track_embedding is None:
            return state
        return replace(state, own=TrackEmbeddings(torch.zeros_like(state.track_queries.embeddings)))

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """Places by velocity and the vehicle's motion, contents by the latent motion that belongs to both."""
        before = state.track_queries
        state = super().propagate(state, move)
        if self.latent_motion is None:
            return state
        queries = state.track_queries
        motion = relative_motion(before, queries.references, move)
        return replace(
            state, queries=replace(queries, embeddings=self.latent_motion(before.embeddings, motion))
        )

    def queries(self, state: TrackState, features: Features) -> Queries:
        """Object and track queries, each with its track embedding."""
        queries = super().queries(state, features)
        if self.track_embedding is None:
            return queries
        known = self.track_embedding.of_all(queries.object_count, state.owned(TrackEmbeddings).embeddings)
        return replace(queries, embeddings=queries.embeddings + self.track_embedding.entry(known))

    def classify(self, predictions: Predictions, state: TrackState, /) -> Predictions:
        """Tracks exist as the class head says of their output and track embedding; object queries as ever."""
        if self.track_embedding is None:
            return predictions
        count = predictions.object_count
        existence = self.track_embedding.existence(state.owned(TrackEmbeddings).embeddings)
        tracks = branch_logits(self.detector.class_branches, predictions.embeddings[:, :, count:] + existence)
        return replace(predictions, logits=torch.cat([predictions.logits[:, :, :count], tracks], dim=2))

    def renewed(
        self, decoded: Decoded, rows: Tensor, _kept: Tensor, _scores: Tensor
    ) -> tuple[Tensor, Tensor, TensorStructure | None]:
        """The decoder's output as content, positional parts as they were, and renewed track embeddings."""
        outputs = take_rows(decoded.standard.embeddings[-1], rows)
        positions = take_rows(decoded.queries.positions, rows)
        if self.track_embedding is None:
            return positions, outputs, None
        tracks = decoded.state.owned(TrackEmbeddings).embeddings
        known = take_rows(self.track_embedding.of_all(decoded.queries.object_count, tracks), rows)
        return positions, outputs, TrackEmbeddings(self.track_embedding.renewed(known, outputs))
