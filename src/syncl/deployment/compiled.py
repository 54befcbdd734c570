"""A tracker whose step is compiled as one graph, for the rig and image size that it first sees.

tracker = compiled(for_inference(syncl.load("demo"), "bfloat16"))
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from syncl.deployment.exported import ExportedLooks, ExportedTracker
from syncl.deployment.step import (
    TrackStep,
    objects_of,
    padded_state,
    state_of,
    template_of,
    told_frame,
    told_state,
)
from syncl.errors import SynclError
from syncl.progress import plain_console
from syncl.structures import Frame, Objects, Outcome
from syncl.trackers.base import Tracker
from syncl.trackers.compiling import prepare_to_compile
from syncl.trackers.inference import fold_norms
from syncl.trackers.look import Decoded
from syncl.trackers.state import Move, TrackState

Told = dict[str, Tensor]
Step = Callable[[Told, Told], Told]


class CompiledTracker(Tracker):
    """See the module's docstring. States are the tracker's own, with fixed slots, and go to and fro.

    Args:
        tracker: in inference mode, on its device, in the precision it is to have (`for_inference`).

    Raises:
        SynclError: its step has no form that waits for nothing, saying why; or nothing here can compile.
    """

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        if isinstance(tracker, ExportedTracker | ExportedLooks):
            raise SynclError(f"--compile: {tracker.source} is a program already; take the model file")
        fixed = tracker.with_fixed_slots()
        if fixed.detector.unsettled:
            raise SynclError(
                f"--compile: {type(fixed.detector).__name__} lets the host choose among its candidates, for "
                "which a compiled step has no part; leave it out"
            )
        self._device = next(fixed.parameters()).device
        self._cache = prepare_to_compile(self._device)
        fold_norms(fixed)
        self.tracker = fixed
        self.detector = fixed.detector
        self.input = fixed.input
        self.longest_gap_s = fixed.longest_gap_s
        self.forecast_step_s = fixed.forecast_step_s
        self.keeps = fixed.keeps
        self.detects_only = fixed.detects_only
        self.precision = fixed.precision
        self.rounds_encoder_only = fixed.rounds_encoder_only
        self.slots = fixed.slots
        self._steps: dict[object, tuple[Step, TrackState]] = {}

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`; a compiled step has one stream.

        Raises:
            SynclError: more are asked for.
        """
        if streams != 1:
            raise SynclError(f"--compile: a compiled step is of one stream, not of {streams}")
        return self.tracker.initial_state()

    def advance(self, frame: Frame, state: TrackState, move: Move) -> tuple[Objects, TrackState]:
        """See `Tracker.advance`; the first frame of a rig and image size waits for the compiler.

        Raises:
            SynclError: if it cannot be compiled, or the state is of a model of other sizes.
        """
        known = (frame.rig.names, frame.image_size)
        if known not in self._steps:
            self._steps[known] = self._compiled(frame, state, move)
        step, template = self._steps[known]
        return self._advanced(step, template, frame, state, move)

    def _advanced(
        self, step: Step, template: TrackState, frame: Frame, state: TrackState, move: Move
    ) -> tuple[Objects, TrackState]:
        try:
            state = padded_state(state, template)
        except ValueError as error:
            raise SynclError(f"this state is of a model of other sizes: {error}") from None
        told = step(told_frame(frame, move, state, self.detector.precomputed), told_state(state))
        return objects_of(told), state_of(told, template, frame)

    def _compiled(self, frame: Frame, state: TrackState, move: Move) -> tuple[Step, TrackState]:
        console = plain_console(stderr=True)
        height, width = frame.image_size
        what = f"compiling a step for {len(frame.rig.names)} cameras of {height} x {width}"
        console.print(f"{what}: minutes the first time; code is kept in {self._cache}")
        started = time.perf_counter()
        # Asked eagerly, outside of this step's own precision, which `Tracker.step` has set.
        with torch.autocast(self._device.type, enabled=False):
            template = template_of(self.tracker, frame)
        graph = self._graph(TrackStep(self.tracker, template, frame.rig.names).eval())
        try:
            self._advanced(graph, template, frame, state, move)
        except SynclError:
            raise
        except Exception as error:  # torch has no common class of what goes wrong in compiling.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise SynclError(
                f"--compile: this model's step cannot be compiled here ({reason[0]}); leave it out"
            ) from error
        seconds = time.perf_counter() - started
        console.print(f"compiled after {seconds:.0f} s")
        return graph, template

    def _graph(self, step: nn.Module) -> Step:
        """One graph; on a GPU it is captured and launched at once."""
        captured = self._device.type == "cuda"
        graph = torch.compile(
            step, fullgraph=True, dynamic=False, mode="reduce-overhead" if captured else "default"
        )

        def run(frame: Told, state: Told) -> Told:
            if not captured:
                told: Told = graph(frame, state)
                return told
            torch.compiler.cudagraph_mark_step_begin()
            # The next launch writes to where these are.
            return {name: tensor.clone() for name, tensor in graph(frame, state).items()}

        return run

    def conclude(self, _decoded: Decoded, /) -> tuple[Objects, TrackState]:
        """Refused: a compiled step has no parts."""
        raise SynclError(_WHOLE)

    def carry(self, _decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Refused: nothing is trained."""
        raise SynclError(_WHOLE)


_WHOLE = "a compiled tracker steps and nothing else; take the tracker that it was made of"


def compiled(tracker: Tracker) -> CompiledTracker:
    """A tracker's step as one compiled graph; see `CompiledTracker`."""
    return CompiledTracker(tracker).eval()
