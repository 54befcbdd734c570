"""PF-Track: past-and-future reasoning for multi-camera tracking (Pang et al., CVPR 2023), on any detector.

Every query attends its own history and all others of the frame, which refines its box and class; from the
history its displacements over the coming frames are decoded. A track that a frame does not show clearly goes
on along its forecast (track extension) until it is seen again or has been missed too often.

History and tolerance count frames, whatever the time between them. Forecasts count frames of `frame_s`
seconds, 0.5 with published weights: after a dropped frame tracks are two steps on, at a higher rate a part
of one.

Letters: B streams, Q queries, N track slots, D channels, S history slots, F future frames, K classes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.errors import SynclError
from syncl.structures import Objects, Outcome, Predictions
from syncl.structures.tensors import TensorStructure
from syncl.trackers.base import Tracker
from syncl.trackers.clip_noise import UNDISTURBED, ClipNoise
from syncl.trackers.look import Decoded
from syncl.trackers.pf_track.forecasts import Forecasts, History, Reasoned, foreseen, frames_passed
from syncl.trackers.pf_track.reasoning import FutureReasoning, PastReasoning, TimeEncoder
from syncl.trackers.pf_track.track_extension import LifeRules, lives_after
from syncl.trackers.rows import (
    best_objects,
    carried_rows,
    most_rows,
    ranked_rows,
    take_rows,
    with_front_rows,
)
from syncl.trackers.state import Move, TrackQueries, TrackState
from syncl.trackers.tracking_head import TrackingHead

Motion = Literal["forecast", "velocity", "published_velocity"]


@dataclass(frozen=True)
class PfTrackConfig:
    """Life cycle and sizes; the defaults are the published small-resolution configuration's.

    Attributes:
        birth_score: a query above it that is seen becomes a track, so below `record_score` it begins none
            earlier; a track above it has not been missed.
        record_score: a query at or above it is taken as seen; below, a track follows its forecast.
        output_score: objects above it are reported.
        miss_tolerance: misses in a row with which a track ends.
        max_tracks: most tracks carried on, the highest scores stay; the original has no limit.
        max_objects: most objects reported a frame.
        output_range_m: objects whose centre lies beyond +-this in x or y are not reported.
        output_height_m: the same for z.
        untracked: classes that the detector knows and that are not tracked.
        past_reasoning: whether predictions are refined; else the detector's are taken as they are.
        future_reasoning: whether displacements are predicted.
        motion: what moves reference points to the next frame: `forecast` (needs future reasoning),
            `velocity` of the boxes, or `published_velocity`: what the published configurations without future
            reasoning take for it.
        history: frames S remembered, the present one included.
        future: frames F foreseen.
        frame_s: seconds between the frames of the training data, one step of a forecast.
        longest_gap_s: tracks end after a longer silence within a scene; the original's is 10 s; None = never.
        heads: attention heads of the reasoning.
        hidden: hidden channels of its feed-forward networks.
        layers: layers of each of its three decoders.
        dropout: in its attention and feed-forward.
        noise: training: how tracks are disturbed between frames; not at all as published.
        place_gradients: training: whether losses of later frames reach what says where tracks are, as
            published, or their embeddings alone. Through the encodings of places such gradients grow large,
            and clipping then holds back all others.
        tracking_head: whether tracking has a class head of its own at the decoder, for one-stage training.
            With past reasoning, whose refined classes have the last word, it works in training alone: it
            keeps the decoder's layers free of the conflict.
    """

    birth_score: float = 0.4
    record_score: float = 0.4
    output_score: float = 0.2
    miss_tolerance: int = 7
    max_tracks: int = 500
    max_objects: int = 150
    output_range_m: float = 61.2
    output_height_m: float = 10.0
    untracked: tuple[str, ...] = ("construction_vehicle", "traffic_cone", "barrier")
    past_reasoning: bool = True
    future_reasoning: bool = True
    motion: Motion = "forecast"
    history: int = 3
    future: int = 8
    frame_s: float = 0.5
    longest_gap_s: float | None = None
    heads: int = 8
    hidden: int = 2048
    layers: int = 2
    dropout: float = 0.1
    noise: ClipNoise = UNDISTURBED
    place_gradients: bool = True
    tracking_head: bool = False

    @property
    def horizon(self) -> int:
        """Frames F foreseen; 0 without future reasoning."""
        return self.future if self.future_reasoning else 0

    def build(self, detector: Detector) -> "PfTrack":
        """Build the module around a detector.

        Raises:
            SynclError: if forecasts are to move tracks but none are made, no frame is remembered, or a frame
                takes no time.
        """
        return PfTrack(detector, self)


@dataclass(frozen=True)
class PastAndFuture(TensorStructure):
    """What PF-Track knows of tracks besides their queries."""

    history: History
    forecasts: Forecasts


class PfTrack(Tracker):
    """See the module's docstring."""

    keeps = PastAndFuture
    tracked: Tensor

    def __init__(self, detector: Detector, config: PfTrackConfig) -> None:
        super().__init__()
        if config.motion == "forecast" and config.horizon < 1:
            raise SynclError(
                "tracker.motion=forecast needs future_reasoning=true and future >= 1; "
                "choose motion=velocity otherwise"
            )
        if config.history < 1:
            raise SynclError(f"tracker.history={config.history}: the present frame at least is remembered")
        if config.frame_s <= 0:
            raise SynclError(
                f"tracker.frame_s={config.frame_s}: must be positive, the seconds between frames"
            )
        self.detector = detector
        self.config = config
        self.longest_gap_s = config.longest_gap_s
        self.noise = config.noise
        self.forecast_step_s = config.frame_s if config.horizon else None
        self.future_frames = config.horizon
        dim, sizes = detector.dim, (config.heads, config.hidden, config.layers, config.dropout)
        self.past: PastReasoning | None = None
        self.future: FutureReasoning | None = None
        self.time_encoder: TimeEncoder | None = None
        if config.past_reasoning or config.future_reasoning:
            self.time_encoder = TimeEncoder(dim)
        if config.past_reasoning:
            self.past = PastReasoning(dim, len(detector.classes), *sizes)
        if config.future_reasoning:
            self.future = FutureReasoning(dim, *sizes)
        self.tracking_head: TrackingHead | None = None
        if config.tracking_head:
            self.tracking_head = TrackingHead(detector)
        tracked = torch.tensor([name not in config.untracked for name in detector.classes])
        self.register_buffer("tracked", tracked, persistent=False)

    def fixed_slots(self) -> int:
        """See `Tracker.fixed_slots`."""
        return self.config.max_tracks

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        zeros, slots, horizon = self.tracked.new_zeros, self.config.history, self.config.horizon
        tracks = state.count
        dtype = next(self.parameters()).dtype
        return replace(
            state,
            own=PastAndFuture(
                History(
                    embeddings=zeros(streams, tracks, slots, self.detector.dim, dtype=dtype),
                    valid=zeros(streams, tracks, slots),
                ),
                Forecasts(
                    labels=zeros(streams, tracks, dtype=torch.int64),
                    centres=zeros(streams, tracks, horizon, 3, dtype=dtype),
                    displacements=zeros(streams, tracks, horizon, 3, dtype=dtype),
                ),
            ),
        )

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """Along the first displacement foreseen, stretched to the time that passed; or by velocity."""
        own = state.owned(PastAndFuture)
        tracks = state.track_queries
        elapsed_s = move.elapsed_s.to(tracks.codes.dtype)[:, None, None]
        forecasts = own.forecasts.stretched(
            frames_passed(move.elapsed_s, self.config.frame_s), tracks.references
        )
        if self.config.motion == "forecast":
            # A missed track's displacement is along the axes of an earlier vehicle frame: published weights
            # were evaluated so.
            step = forecasts.displacements[:, :, 0, :2]
        elif self.config.motion == "velocity":
            step = tracks.velocities * elapsed_s
        else:
            # The original takes its box code's numbers 7 and 8 for the velocity, which are the cosine of its
            # heading, -sin(yaw), and vx. Weights trained without future reasoning have learned with that.
            step = torch.stack([-tracks.codes[..., 6], tracks.codes[..., 8]], dim=-1) * elapsed_s
        own = replace(own, forecasts=forecasts.seen_from(move.now_from_before))
        return replace(state, own=own).moved_on(step, move)

    def classify(self, predictions: Predictions, _state: TrackState, /) -> Predictions:
        """See `Tracker.classify`."""
        return predictions if self.tracking_head is None else self.tracking_head(predictions)

    def reason(self, decoded: Decoded, _interaction: Interaction | None, /) -> Reasoned:
        """Past reasoning over all queries of the frame, new-born ones included.

        Losses need what all of them foresee. Tracking, without gradients, foresees less: see `conclude`.
        """
        queries, predictions = decoded.queries, decoded.standard
        embeddings, codes = predictions.embeddings[-1], predictions.codes[-1]
        logits = predictions.logits[-1]
        positions = self.detector.track_positions(queries.positions, codes[..., :3])
        past = decoded.state.owned(PastAndFuture).history
        past = past.map(lambda tensor: with_front_rows(tensor, queries.object_count, 0))
        valid = torch.cat([past.valid[:, :, 1:], torch.ones_like(past.valid[:, :, :1])], dim=2)
        history = History(torch.cat([past.embeddings[:, :, 1:], embeddings[:, :, None]], dim=2), valid)
        if self.past is not None and self.time_encoder is not None:
            everyone = queries.count == queries.object_count
            embeddings = self.past(
                embeddings,
                positions,
                self.time_encoder(self.config.history),
                history.embeddings,
                history.valid,
                None if everyone else queries.valid,
            )
            logits, codes = self.past.predict(embeddings, codes[..., :3], self.detector.point_range)
            # What is remembered carries no gradient, so the trajectory loss trains future reasoning alone.
            newest = embeddings.detach()[:, :, None]
            history = History(torch.cat([history.embeddings[:, :, :-1], newest], dim=2), valid)
        wanted = self.training or torch.is_grad_enabled()
        displacements = self._displacements(history) if wanted else None
        return Reasoned(embeddings, positions, logits, codes, history, displacements)

    def _displacements(self, history: History) -> Tensor:
        """[B, R, F, 3] from histories of R rows; F = 0 without future reasoning."""
        streams, rows = history.valid.shape[:2]
        if self.future is None or self.time_encoder is None or rows == 0:
            return history.embeddings.new_zeros(streams, rows, self.config.horizon, 3)
        times = self.time_encoder(self.config.history + self.config.horizon)
        displacements: Tensor = self.future(times, history.embeddings, history.valid)
        return displacements

    def _displacements_of(
        self, reasoned: Reasoned, seen: Tensor, scores: Tensor, count: int | None
    ) -> Tensor:
        """[B, Q, F, 3], those of rows that were not seen 0 where none are foreseen yet.

        No stream has seen more than `count`; where nobody knows that, all rows are foreseen.
        """
        if reasoned.displacements is not None:
            return reasoned.displacements
        if count is None:
            return self._displacements(reasoned.history)
        rows = ranked_rows(seen, scores, count)
        found = self._displacements(reasoned.history.map(lambda tensor: take_rows(tensor, rows)))
        everywhere = found.new_zeros(*seen.shape, *found.shape[2:])
        return everywhere.scatter(1, rows[..., None, None].expand_as(found), found)

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Births, extensions, misses and deaths by score; objects are what scores high enough.

        Displacements are foreseen of what was seen, the few rows that need them.
        """
        config, state, queries = self.config, decoded.state, decoded.queries
        reasoned = _reasoned(decoded)
        rules = LifeRules(config.birth_score, config.record_score, config.miss_tolerance)
        old = state.owned(PastAndFuture).forecasts.map(
            lambda tensor: with_front_rows(tensor, queries.object_count, 0)
        )
        lives = lives_after(rules, state, queries, reasoned.logits, old.labels, self.tracked)
        seen, scores, identities = lives.seen, lives.scores, lives.identities
        seen_count, slots = None, self.slots
        if slots is None:
            # A conclusion's one wait for the device.
            seen_count, alive_count = most_rows(seen, lives.alive)
            slots = min(alive_count, config.max_tracks)

        # News of what was seen, the expectation of what was not.
        expected = old.centres[:, :, 0] if config.horizon else queries.references
        expected = torch.cat([expected, queries.codes[..., 3:]], dim=-1)
        codes = torch.where(seen[..., None], reasoned.codes, expected)
        displacements = self._displacements_of(reasoned, seen, scores, seen_count)
        new = foreseen(reasoned.codes, reasoned.logits, displacements)
        forecasts = _renewed(old.advanced(), new, seen)
        found = Objects(
            boxes=self.detector.boxes(codes),
            labels=forecasts.labels,
            scores=scores,
            identities=identities,
            valid=lives.real & (scores > config.output_score),
            forecasts=forecasts.centres[..., :2] if config.horizon else None,
        )
        objects = best_objects(found, config.max_objects, config.output_range_m, config.output_height_m)
        # The history has what was not seen too; the query itself goes on as it was.
        tracks = TrackQueries(
            torch.where(seen[..., None], reasoned.embeddings, queries.embeddings),
            torch.where(seen[..., None], reasoned.positions, queries.positions),
            codes,
        )
        known = PastAndFuture(reasoned.history, forecasts)
        state = replace(state, next_identity=lives.next_identity)
        rows = ranked_rows(lives.alive, scores, slots)
        return objects, self._carried(state, tracks, known, identities, lives.misses, lives.alive, rows)

    def carry(self, decoded: Decoded, outcome: Outcome, /) -> TrackState:
        """Carry every query whose object is there, whatever its score; gradients flow on.

        A track whose object is gone ends, and the object is new-born when it comes back. `noise` disturbs
        this where it is configured.
        """
        reasoned, valid, identities = _reasoned(decoded), decoded.queries.valid, outcome.identities
        scores = reasoned.logits.detach().sigmoid().amax(-1)
        alive = self.noise.carried((identities >= 0) & outcome.present & valid, scores, valid)
        displacements = self._displacements_of(reasoned, valid, scores, valid.shape[1])
        tracks = TrackQueries(reasoned.embeddings, reasoned.positions, reasoned.codes)
        known = PastAndFuture(
            reasoned.history, foreseen(reasoned.codes, reasoned.logits, displacements).detach()
        )
        if not self.config.place_gradients:
            tracks = replace(tracks, positions=tracks.positions.detach(), codes=tracks.codes.detach())
        rows = carried_rows(alive, scores, self.config.max_tracks, self.slots)
        misses = torch.zeros_like(identities)
        return self._carried(decoded.state, tracks, known, identities, misses, alive, rows)

    def _carried(
        self,
        state: TrackState,
        tracks: TrackQueries,
        known: PastAndFuture,
        identities: Tensor,
        misses: Tensor,
        alive: Tensor,
        rows: Tensor,
    ) -> TrackState:
        """The state with these rows [B, N], of which some may not be alive."""

        def take(tensor: Tensor) -> Tensor:
            return take_rows(tensor, rows)

        kept, codes = take(alive), take(tracks.codes)
        # Gradients reach later frames through places and embeddings alone.
        codes = torch.cat([codes[..., :3], codes[..., 3:].detach()], dim=-1)
        return replace(
            state,
            identities=take(identities).masked_fill(~kept, -1),
            misses=take(misses),
            alive=kept,
            queries=TrackQueries(take(tracks.embeddings), take(tracks.positions), codes),
            own=known.map(take),
        )


def _renewed(old: Forecasts, new: Forecasts, seen: Tensor) -> Forecasts:
    """News of what was seen, old expectations of what was not."""
    return Forecasts(
        labels=torch.where(seen, new.labels, old.labels),
        centres=torch.where(seen[..., None, None], new.centres, old.centres),
        displacements=torch.where(seen[..., None, None], new.displacements, old.displacements),
    )


def _reasoned(decoded: Decoded) -> Reasoned:
    if not isinstance(decoded.reasoned, Reasoned):
        raise TypeError(f"PfTrack reasons about its own looks, not about {type(decoded.reasoned).__name__}")
    return decoded.reasoned
