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
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.structures import Frame, Objects, Predictions, Queries
from syncl.trackers.base import Tracker, TrackState
from syncl.trackers.clip_noise import ClipNoise
from syncl.trackers.forecasts import Forecasts, Reasoned, foreseen, frames_passed
from syncl.trackers.reasoning import FutureReasoning, PastReasoning, TimeEncoder
from syncl.trackers.rows import ranked_rows, take_rows, with_front_rows
from syncl.trackers.track_extension import LifeRules, lives_after
from syncl.trackers.tracking_head import TrackingHead

Motion = Literal["forecast", "velocity", "published_velocity"]


@dataclass(frozen=True)
class PfTrackConfig:
    """Life cycle and sizes; the defaults are the published small-resolution configuration's.

    Attributes:
        birth_score: a query above it becomes a track; a track above it has not been missed.
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
        drop_probability: training, see `ClipNoise`; none as published.
        carry_score: the same.
        false_positive_ratio: the same.
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
    drop_probability: float = 0.0
    carry_score: float = 0.0
    false_positive_ratio: float = 0.0
    place_gradients: bool = True
    tracking_head: bool = False

    @property
    def noise(self) -> ClipNoise:
        """How training disturbs tracks."""
        return ClipNoise(self.drop_probability, self.carry_score, self.false_positive_ratio)

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


class PfTrack(Tracker):
    """See the module's docstring."""

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
        self.memory_slots = config.history
        self.forecast_step_s = config.frame_s if config.horizon else None
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

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        zeros = state.references.new_zeros
        return replace(
            state,
            forecasts=Forecasts(
                codes=zeros(streams, 0, CODE_SIZE),
                labels=zeros(streams, 0, dtype=torch.int64),
                centres=zeros(streams, 0, self.config.horizon, 3),
                displacements=zeros(streams, 0, self.config.horizon, 3),
            ),
        )

    def enter(self, state: TrackState, frame: Frame) -> TrackState:
        """See `Tracker.enter`; tracks follow their forecasts for the time that passed."""
        # Unreadable times are refused there.
        elapsed_s = (frame.timestamp_s - state.timestamp_s).nan_to_num(0)
        forecasts = _forecasts(state).stretched(frames_passed(elapsed_s, self.config.frame_s))
        return super().enter(replace(state, forecasts=forecasts), frame)

    def motion(self, state: TrackState, elapsed_s: Tensor) -> Tensor:
        """The first displacement foreseen, stretched to the time that passed; or velocity times time."""
        if self.config.motion != "forecast":
            return super().motion(state, elapsed_s)
        # A missed track's displacement is along the axes of an earlier vehicle frame: published weights were
        # evaluated so.
        return _forecasts(state).displacements[:, :, 0, :2]

    def classify(self, predictions: Predictions) -> Predictions:
        """See `Tracker.classify`."""
        return predictions if self.tracking_head is None else self.tracking_head(predictions)

    def reason(self, state: TrackState, queries: Queries, predictions: Predictions) -> Reasoned:
        """Past and future reasoning over all queries of the frame, new-born ones included."""
        refined = self.refine(state, queries, predictions)
        return replace(refined, displacements=self._displacements(refined.memory, refined.memory_valid))

    def refine(self, state: TrackState, queries: Queries, predictions: Predictions) -> Reasoned:
        """Past reasoning alone; `conclude` foresees what it takes as seen, the few rows that need it."""
        embeddings, codes = predictions.embeddings[-1], predictions.codes[-1]
        positions = self.detector.track_positions(queries.positions, codes[..., :3])
        memory = with_front_rows(state.memory, queries.object_count, 0)
        memory_valid = with_front_rows(state.memory_valid, queries.object_count, False)
        memory = torch.cat([memory[:, :, 1:], embeddings[:, :, None]], dim=2)
        memory_valid = torch.cat([memory_valid[:, :, 1:], torch.ones_like(memory_valid[:, :, :1])], dim=2)
        logits = predictions.logits[-1]
        if self.past is not None and self.time_encoder is not None:
            everyone = queries.count == queries.object_count
            embeddings = self.past(
                embeddings,
                positions,
                self.time_encoder(self.memory_slots),
                memory,
                memory_valid,
                None if everyone else queries.valid,
            )
            reach = self.detector.point_range
            logits, refined = self.past.predict(embeddings, reach.normalise(codes[..., :3]))
            codes = torch.cat([reach.to_metres(refined[..., :3]), refined[..., 3:]], dim=-1)
            # What is remembered carries no gradient, so the trajectory loss trains future reasoning alone.
            memory = torch.cat([memory[:, :, :-1], embeddings.detach()[:, :, None]], dim=2)
        unknown = codes.new_zeros(*codes.shape[:2], 0, 3)
        return Reasoned(embeddings, positions, logits, codes, unknown, memory, memory_valid, queries.valid)

    def _displacements(self, memory: Tensor, memory_valid: Tensor) -> Tensor:
        """[B, R, F, 3] from histories [B, R, S, D]; F = 0 without future reasoning."""
        if self.future is None or self.time_encoder is None or memory.shape[1] == 0:
            return memory.new_zeros(*memory.shape[:2], self.config.horizon, 3)
        times = self.time_encoder(self.memory_slots + self.config.horizon)
        displacements: Tensor = self.future(times, memory, memory_valid)
        return displacements

    def _foresee_seen(self, reasoned: Reasoned, seen: Tensor, scores: Tensor, count: int) -> Reasoned:
        """With the displacements of seen rows, of which no stream has more than `count`, if it has none."""
        if reasoned.displacements.shape[2] == self.config.horizon:
            return reasoned
        rows = ranked_rows(seen, scores, count)
        found = self._displacements(take_rows(reasoned.memory, rows), take_rows(reasoned.memory_valid, rows))
        everywhere = found.new_zeros(*seen.shape, *found.shape[2:])
        return replace(
            reasoned, displacements=everywhere.scatter(1, rows[..., None, None].expand_as(found), found)
        )

    def conclude(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        reasoned: Reasoned | None = None,
    ) -> tuple[Objects, TrackState]:
        """Births, extensions, misses and deaths by score; objects are what scores high enough."""
        config = self.config
        if reasoned is None:
            reasoned = self.refine(state, queries, predictions)
        rules = LifeRules(config.birth_score, config.record_score, config.miss_tolerance)
        old = (
            _forecasts(state).map(lambda tensor: with_front_rows(tensor, queries.object_count, 0)).advanced()
        )
        lives = lives_after(rules, state, queries, reasoned.logits, old.labels, self.tracked)
        seen, scores, identities = lives.seen, lives.scores, lives.identities
        state = replace(state, next_identity=lives.next_identity)

        # The one host round trip of a conclusion: how many rows the fullest stream has seen, and carries on.
        seen_count, alive_count = torch.stack([seen.sum(1).amax(), lives.alive.sum(1).amax()]).tolist()
        reasoned = self._foresee_seen(reasoned, seen, scores, seen_count)
        forecasts = _renewed(old, reasoned, seen)
        found = Objects(
            boxes=self.detector.boxes(forecasts.codes),
            labels=forecasts.labels,
            scores=scores,
            identities=identities,
            valid=lives.real & (scores > config.output_score),
            forecasts=forecasts.centres[..., :2] if self.config.horizon else None,
        )
        objects = best_objects(found, config.max_objects, config.output_range_m, config.output_height_m)
        # The history has what was not seen too; the query itself goes on as it was.
        kept = replace(
            reasoned,
            embeddings=torch.where(seen[..., None], reasoned.embeddings, queries.embeddings),
            positions=torch.where(seen[..., None], reasoned.positions, queries.positions),
        )
        carried = self._carry(
            state, kept, forecasts, scores, identities, lives.misses, lives.alive, alive_count
        )
        return objects, carried

    def carry_supervised(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        identities: Tensor,
        present: Tensor,
        reasoned: Reasoned | None = None,
    ) -> TrackState:
        """Carry every query whose object is there, whatever its score; gradients flow on.

        A track whose object is gone ends, and the object is new-born when it comes back.
        `PfTrackConfig.noise` disturbs this where it is configured.
        """
        if reasoned is None:
            reasoned = self.reason(state, queries, predictions)
        scores = reasoned.logits.detach().sigmoid().amax(-1)
        tied = (identities >= 0) & present & queries.valid
        alive = self.config.noise.carried(tied, scores, queries.valid)
        forecasts = foreseen(reasoned.codes, reasoned.logits, reasoned.displacements)
        misses = torch.zeros_like(identities)
        needed = int(alive.sum(1).max())
        carried = self._carry(state, reasoned, forecasts, scores, identities, misses, alive, needed)
        if self.config.place_gradients:
            return carried
        return replace(
            carried,
            references=carried.references.detach(),
            positions=carried.positions.detach(),
            forecasts=_forecasts(carried).detach(),
        )

    def _carry(
        self,
        state: TrackState,
        reasoned: Reasoned,
        forecasts: Forecasts,
        scores: Tensor,
        identities: Tensor,
        misses: Tensor,
        alive: Tensor,
        needed: int,
    ) -> TrackState:
        """The state with the live rows, of which no stream has more than `needed`."""
        rows = ranked_rows(alive, scores, min(needed, self.config.max_tracks))

        def take(tensor: Tensor) -> Tensor:
            return take_rows(tensor, rows)

        kept = take(alive)
        carried = forecasts.map(take)
        return replace(
            state,
            embeddings=take(reasoned.embeddings),
            positions=take(reasoned.positions),
            references=carried.codes[..., :3],
            velocities=self._velocities(carried.codes).detach(),
            identities=take(identities).masked_fill(~kept, -1),
            misses=take(misses),
            alive=kept,
            memory=take(reasoned.memory),
            memory_valid=take(reasoned.memory_valid),
            save_countdown=torch.zeros_like(misses[:, : rows.shape[1]]),
            forecasts=carried,
            log_sizes=carried.codes[..., 3:6].detach() if self.detector.carries_sizes else None,
        )

    def _velocities(self, codes: Tensor) -> Tensor:
        if self.config.motion == "published_velocity":
            # The original takes its box code's numbers 7 and 8 for the velocity, which are the cosine of its
            # heading, -sin(yaw), and vx. Weights trained without future reasoning have learned with that.
            return torch.stack([-codes[..., 6], codes[..., 8]], dim=-1)
        return codes[..., 8:10]


def _renewed(old: Forecasts, reasoned: Reasoned, seen: Tensor) -> Forecasts:
    """News of what was seen, old expectations, moved one frame on already, of what was not."""
    new = foreseen(reasoned.codes, reasoned.logits, reasoned.displacements)
    return Forecasts(
        codes=torch.where(seen[..., None], new.codes, old.codes),
        labels=torch.where(seen, new.labels, old.labels),
        centres=torch.where(seen[..., None, None], new.centres, old.centres),
        displacements=torch.where(seen[..., None, None], new.displacements, old.displacements),
    )


def best_objects(objects: Objects, most: int, range_m: float, height_m: float) -> Objects:
    """The valid objects with the highest scores, best first.

    They are chosen before the range is looked at, so there may be fewer than `most` although more are within.
    """
    order = torch.where(objects.valid, objects.scores, -1.0)
    rows = order.topk(min(most, order.shape[1]), dim=1).indices
    best = objects.map(lambda tensor: take_rows(tensor, rows))
    inside = (best.boxes[..., :2].abs() <= range_m).all(-1) & (best.boxes[..., 2].abs() <= height_m)
    return replace(best, valid=best.valid & inside)


def _forecasts(state: TrackState) -> Forecasts:
    if state.forecasts is None:
        raise SynclError(
            "this state has no forecasts, so it is another tracker's; start from this tracker's initial_state"
        )
    return state.forecasts
