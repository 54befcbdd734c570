"""The contract of trackers.

    state = tracker.initial_state(streams)
    for frame in stream:
        objects, state = tracker.step(frame, state)

A step is one `look` at a frame, which gives everything that was decoded, and then `conclude`, which applies
the tracker's own rules. Training takes the same look and then `carry`, because supervision knows which query
holds which object:

    decoded = tracker.look(frame, state, groups)
    outcome = strategy(decoded, annotations)
    state = tracker.carry(decoded, outcome)

Letters: B streams, Q queries, N track slots, D channels.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.detectors.passed import Features
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Annotations, Frame, Objects, Outcome, Predictions, Queries
from syncl.structures.soundness import check_frame
from syncl.structures.tensors import TensorStructure
from syncl.trackers.clip_noise import UNDISTURBED, ClipNoise
from syncl.trackers.inputs import SeesImages
from syncl.trackers.look import Decoded, Guide
from syncl.trackers.state import Move, TrackQueries, TrackState
from syncl.wording import counted


class Tracker(SeesImages, ABC):
    """Base of all trackers: a detector, and the rules by which its queries live.

    Attributes:
        longest_gap_s: tracks end where a stream was silent for longer; None = never. Identities go on
            counting, so that none is used twice in a scene.
        forecast_step_s: seconds from one forecast centre of reported objects to the next; None from trackers
            that do not forecast.
        future_frames: how many frames behind the present one training's annotations have to tell of.
        noise: how training disturbs tracks between frames.
        keeps: the structure that its states have in `TrackState.own`; None = nothing of its own.
        detects_only: whether it reports detections of single frames, without tracks.
        precision: of the layers in a step (`trackers.inference`); whatever it is, states keep their types.
        rounds_encoder_only: whether that is so of the layers that look at images alone.
        takes_precision: whether it can be another.
        slots: rows that its states always have, alive or not, so that no shape depends on what is seen and a
            step waits for no device (`with_fixed_slots`); None = as many as are alive in the fullest stream.
    """

    longest_gap_s: float | None = None
    forecast_step_s: float | None = None
    future_frames: int = 0
    noise: ClipNoise = UNDISTURBED
    keeps: type[TensorStructure] | None = None
    detects_only: bool = False
    precision: torch.dtype = torch.float32
    rounds_encoder_only: bool = False
    takes_precision: bool = True
    slots: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that reported labels number."""
        return tuple(self.detector.classes)

    @property
    def cameras(self) -> int | None:
        """How many cameras it has weights for; None = it takes any number."""
        count: int | None = getattr(self.detector, "cameras", None)
        return count

    def initial_state(self, streams: int = 1) -> TrackState:
        """The state of `streams` streams that have seen nothing, on the tracker's device."""
        parameter, slots = next(self.parameters()), self.slots or 0

        kept = torch.promote_types(parameter.dtype, torch.float32)

        def zeros(*shape: int, dtype: torch.dtype = kept) -> Tensor:
            return torch.zeros(streams, *shape, dtype=dtype, device=parameter.device)

        dim = self.detector.dim
        pose = torch.eye(4, dtype=torch.float64, device=parameter.device)
        return TrackState(
            identities=zeros(slots, dtype=torch.int64) - 1,
            misses=zeros(slots, dtype=torch.int64),
            alive=zeros(slots, dtype=torch.bool),
            next_identity=zeros(dtype=torch.int64),
            global_from_vehicle=pose.expand(streams, 4, 4),
            timestamp_s=zeros(dtype=torch.float64),
            scenes=("",) * streams,
            detector_memory=self.detector.initial_memory(streams),
            queries=TrackQueries(zeros(slots, dim), zeros(slots, dim), zeros(slots, CODE_SIZE)),
        )

    @torch.no_grad()
    def step(self, frame: Frame, state: TrackState) -> tuple[Objects, TrackState]:
        """Track one frame.

        Args:
            frame: B streams at one moment each, on the tracker's device.
            state: of the same streams, from `initial_state` or the step before.

        Returns:
            The objects reported in this frame and the state after it.

        Raises:
            SynclError: the tracker is in training mode; images of another size than the weights know; else
                see `look`.
        """
        if self.detector.training:
            raise SynclError(
                f"step: this {type(self).__name__} is in training mode, which drops values by chance; call "
                "tracker.eval() first"
            )
        move = self.admit(frame, state)
        if self.input is not None and frame.image_size != self.input.image_size:
            (height, width), (rows, columns) = self.input.image_size, frame.image_size
            raise SynclError(
                f"sample {frame.samples[0]}: images of {rows}x{columns} pixels (height x width), and this "
                f"model sees {height}x{width}; read recordings with tracker.open(folder), make frames with "
                f"tracker.frame(images, ...), or pass image_size=({height}, {width})"
            )
        if self.precision == torch.float32:
            objects, state = self.advance(frame, state, move)
        else:
            device = frame.timestamp_s.device.type
            with torch.autocast(device, self.precision, enabled=not self.rounds_encoder_only):
                objects, state = self.advance(frame, state, move)
            # What lasts, and what is told, has the types that it always has.
            objects, state = objects.map(_widened), state.map(_widened)
        return replace(objects, classes=self.classes), state

    def advance(self, frame: Frame, state: TrackState, move: Move) -> tuple[Objects, TrackState]:
        """A step behind its checks. With fixed slots it is a pure function of tensors and waits for nothing.

        Args:
            frame: see `step`.
            state: see `step`.
            move: what `admit` said of both.
        """
        decoded, interaction = self._decode(frame, state, move)
        return self.conclude(replace(decoded, reasoned=self.reason(decoded, interaction)))

    def with_fixed_slots(self) -> Self:
        """A twin with the same weights whose `advance` waits for nothing (`slots`); the same up to rounding.

        Raises:
            SynclError: if tracker or detector have no such form, saying why.
        """
        slots = self.fixed_slots()
        shared = [*self.parameters(), *self.buffers()]
        twin = copy.deepcopy(self, {id(tensor): tensor for tensor in shared})
        twin.slots = slots
        twin.detector.fix_shapes()
        return twin

    def stepping_part(self) -> "Tracker":
        """What of it becomes an exported program: all of it, or what it leaves to pair for the host
        (`trackers.host_pairing`).
        """
        return self

    def fixed_slots(self) -> int:
        """How many rows its states have where they have a fixed number.

        Raises:
            SynclError: if there is no such form, saying why. So it is here.
        """
        raise SynclError(
            f"{type(self).__name__} has no step of a fixed number of tracks: nobody says how many; a tracker "
            "of your own says so in fixed_slots (docs/add-tracker.md)"
        )

    def look(
        self,
        frame: Frame,
        state: TrackState,
        groups: Groups = STANDARD,
        further: Queries | None = None,
        guide: Guide | None = None,
    ) -> Decoded:
        """Move the state to a frame and decode it: everything that happens before a tracker's own rules.

        Args:
            frame: B streams at one moment each, on the tracker's device.
            state: of the same streams, after their frame before.
            groups: decoders that run, the standard one first.
            further: queries of training [B, F, ...] that are decoded beside the others and seen by nobody
                but themselves; they see all.
            guide: supervision, for trackers whose decoding depends on it in training.

        Raises:
            SynclError: if a frame of the same scene is not later than the one before, or later by less than
                a millisecond or more than a day, naming it; a value of it is nan, infinite or of another
                type, naming the field (`structures.soundness`); or the state is another tracker's, or of
                another number of streams.
        """
        decoded, interaction = self._decode(frame, state, self.admit(frame, state), groups, further, guide)
        return replace(decoded, reasoned=self.reason(decoded, interaction))

    def watch(self, frame: Frame, state: TrackState) -> TrackState:
        """The state at a frame of which only the detector's memory takes notice: no track begins."""
        return self._decode(frame, state, self.admit(frame, state))[0].state

    def _decode(
        self,
        frame: Frame,
        state: TrackState,
        move: Move,
        groups: Groups = STANDARD,
        further: Queries | None = None,
        guide: Guide | None = None,
    ) -> tuple[Decoded, Interaction | None]:
        """A look without the tracker's own reasoning, and what ran between the decoder's layers."""
        state = self._enter(state, frame, move)
        features = self._encode(frame, state)
        queries = self.queries(state, features)
        asked = queries if further is None else queries.followed_by(further)
        interaction = self.interaction(state, asked, guide)
        predictions = self.detector.decode(asked, features, groups, interaction)
        beside = None
        if further is not None:
            beside = predictions[0].rows(slice(queries.count, None))
            predictions = tuple(part.rows(slice(queries.count)) for part in predictions)
        predictions = tuple(self.classify(part, state) for part in predictions)
        memory = self.detector.remember(
            state.detector_memory, frame, features, self.memorised(predictions[0])
        )
        decoded = Decoded(
            replace(state, detector_memory=memory),
            frame,
            features,
            queries,
            predictions,
            further=further,
            further_predictions=beside,
        )
        return decoded, interaction

    def _encode(self, frame: Frame, state: TrackState) -> Features:
        if not self.rounds_encoder_only:
            return self.detector.encode(frame, state.detector_memory)
        with torch.autocast(frame.timestamp_s.device.type, self.precision):
            return self.detector.encode(frame, state.detector_memory).map(_widened)

    def admit(self, frame: Frame, state: TrackState) -> Move:
        """How far streams went to a frame, after making sure that it can be tracked from this state.

        All of a step that is decided on the host, and the only part that waits for a device.

        Raises:
            SynclError: see `look`.
        """
        self._check_own(state)
        check_frame(frame)
        if len(state.scenes) != frame.batch_size:
            raise SynclError(
                f"sample {frame.samples[0]}: {counted(frame.batch_size, 'stream')} in the frame, "
                f"{len(state.scenes)} in the state; begin with tracker.initial_state({frame.batch_size})"
            )
        if not self.training:  # Mirrored frames of training look the other way.
            self.detector.look_round(frame)
        return Move.between(state, frame, self.longest_gap_s)

    def arrive(self, frame: Frame, state: TrackState) -> TrackState:
        """The state at a frame, before anybody looks at it.

        Raises:
            SynclError: see `look`.
        """
        return self._enter(state, frame, self.admit(frame, state))

    def _check_own(self, state: TrackState) -> None:
        """Refuse a state that this tracker's `initial_state` and steps cannot have made.

        Raises:
            SynclError: naming what it holds and what this tracker keeps.
        """
        if not isinstance(state, TrackState):
            raise SynclError(
                f"state: {type(state).__name__}; a stream begins with tracker.initial_state(), and each step "
                "gives the state of the next"
            )
        found = None if state.own is None else type(state.own)
        if found is not self.keeps:
            held, kept = (
                "nothing of its own" if kind is None else kind.__name__ for kind in (found, self.keeps)
            )
            raise SynclError(
                f"this state holds {held}, {type(self).__name__} keeps {kept}: it is another tracker's; "
                "start from this tracker's initial_state"
            )

    def _enter(self, state: TrackState, frame: Frame, move: Move) -> TrackState:
        """The state at a frame: the tracks' own motion, then the change of the vehicle's own frame.

        Streams whose scene changed start anew: their tracks end, identities count from 0, and the detector
        forgets them. After a gap of more than `longest_gap_s` within a scene the same happens, but identities
        go on counting.
        """
        state = self.propagate(state, move)
        queries = state.queries
        if queries is not None:
            positions = self.detector.track_positions(queries.positions, queries.references)
            queries = replace(queries, positions=positions)
        memory = state.detector_memory
        return replace(
            state,
            queries=queries,
            alive=state.alive & move.continued[:, None],
            next_identity=state.next_identity * move.same_scene,
            global_from_vehicle=frame.global_from_vehicle,
            timestamp_s=frame.timestamp_s,
            scenes=frame.scenes,
            detector_memory=None if memory is None else memory.keep(move.continued),
        )

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """The state with its tracks where they are expected at the next frame, in that frame's axes.

        Here: at constant velocity. What else a track has that depends on where it is seen from (a tracker's
        own structure, latent features) is moved by trackers that have it.
        """
        if state.queries is None:
            return state
        elapsed_s = move.elapsed_s.to(state.queries.codes.dtype)
        return state.moved_on(state.queries.velocities * elapsed_s[:, None, None], move)

    def queries(self, state: TrackState, features: Features) -> Queries:
        """Object queries followed by the state's track queries, where tracks are queries."""
        queries = self.detector.initial_queries(features)
        tracks = state.queries
        if tracks is None:
            return queries
        return queries.followed_by(
            Queries(tracks.embeddings, tracks.positions, tracks.codes, state.identities, state.alive, 0)
        )

    def interaction(
        self, _state: TrackState, _queries: Queries, _guide: Guide | None, /
    ) -> Interaction | None:
        """What happens between the decoder's layers in a frame; None = nothing.

        It is given the state at the frame, all that is decoded (object queries, the state's tracks, behind
        them what training decodes beside) and, in training, what supervision would say.
        """
        return None

    def classify(self, predictions: Predictions, _state: TrackState, /) -> Predictions:
        """Predictions with the class logits that tracking goes by, in the state at their frame.

        They are the detector's, unless a tracker has a class head of its own (`trackers.tracking_head`).
        """
        return predictions

    def memorised(self, predictions: Predictions) -> Predictions:
        """The standard decoder's predictions as the detector's memory is to see them."""
        return predictions

    def reason(self, _decoded: Decoded, _interaction: Interaction | None, /) -> TensorStructure | None:
        """What the tracker itself makes of a frame before its life cycle, or supervision, looks at it.

        It is given the frame and what ran between the decoder's layers. The losses of a tracker's own read
        it. None from trackers that take predictions as they are.
        """
        return None

    def supervised(
        self, decoded: Decoded, _outcome: Outcome, _annotations: Annotations, /
    ) -> TensorStructure | None:
        """What the tracker makes of a frame once supervision has said which query holds which object.

        Training asks between strategy and objectives, which read it as `Decoded.reasoned`, as `carry` does.
        Here: what it was anyway.
        """
        return decoded.reasoned

    @abstractmethod
    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Turn a look into reported objects and the next state by the life cycle's rules."""

    @abstractmethod
    def carry(self, decoded: Decoded, outcome: Outcome, /) -> TrackState:
        """The next state in training, where supervision knows which query holds which object."""

    def complete(self, fresh: tuple[str, ...]) -> None:
        """Told which parameters another model's file, from which all others were filled, did not have."""

    def undisturbed(self) -> Self:
        """A copy that forgets no track and makes up none when training carries them on."""
        twin = copy.deepcopy(self)
        twin.noise = UNDISTURBED
        return twin


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


@runtime_checkable
class TrackerConfig(Protocol):
    """What is asked of a tracker's configuration: a frozen dataclass of plain values that has this."""

    def build(self, detector: Detector) -> Tracker:
        """The tracker around a detector, with fresh weights of its own parts."""
        ...


@runtime_checkable
class ChoosingConfig(Protocol):
    """A configuration of trackers that take detections of which their host chooses (`detectors.Settling`)."""

    @property
    def most_chosen(self) -> int | None:
        """How many are looked at, the best; None = all."""
        ...
