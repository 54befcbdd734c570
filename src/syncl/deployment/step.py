"""One frame of a tracker as a function of named float32 tensors, which is what is exported.

The state is told in the vehicle frame it was left in, and in seconds ago, so that no pose of a map and no
clock enters: where the vehicle is and what time it is a caller keeps in float64. Each frame it says how far
both went (`now_from_before`, `elapsed_s`), and whether the stream goes on.

Letters: C cameras, N track slots. B is 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from syncl.detectors.passed import DetectorMemory
from syncl.geometry.transforms import invert_similarity
from syncl.structures import CameraRig, Frame, Objects, ToldFrame
from syncl.structures.tensors import named_tensors
from syncl.trackers.base import Tracker
from syncl.trackers.state import Move, TrackState

# What a caller keeps of a state in float64, and never hands over.
_KEPT_BY_CALLER = ("global_from_vehicle", "timestamp_s")
INPUTS: dict[str, str] = {
    "images": "[1, C, 3, H, W] uint8 RGB, black where a camera delivered nothing",
    "content_size": "[1, C, 2] int64 height and width of the part of each image that is not padding",
    "camera_valid": "[1, C] bool, False where a camera delivered nothing",
    "image_from_camera": "[1, C, 3, 3] intrinsics in pixels of the images as they are handed over",
    "image_from_vehicle": "[1, C, 4, 4] intrinsics times camera_from_vehicle",
    "vehicle_from_image": "[1, C, 4, 4] its inverse, computed in float64",
    "now_from_before": "[1, 4, 4] vehicle frame of the frame before to the present one, computed in float64",
    "elapsed_s": "[1] seconds since the frame before; 0 where the stream starts anew",
    "same_scene": "[1] bool, False where numbering starts anew",
    "continued": "[1] bool, False where tracks end: a new scene, or too long a silence",
}
"""What every step is given of a frame, and the meaning of each."""
Teller = Callable[[Frame, DetectorMemory | None], dict[str, Tensor]]
"""See `Detector.precomputed`."""


@dataclass(frozen=True)
class GivenRig(CameraRig):
    """A rig whose projections and their inverses the caller has computed."""

    projections: Tensor
    inverses: Tensor

    @property
    def image_from_vehicle(self) -> Tensor:
        """[B, C, 4, 4] float32."""
        return self.projections

    @property
    def vehicle_from_image(self) -> Tensor:
        """[B, C, 4, 4] float32."""
        return self.inverses


def told_frame(frame: Frame, move: Move, state: TrackState, teller: Teller) -> dict[str, Tensor]:
    """What a step is told of a frame, by the names of `INPUTS` and of `Detector.told_inputs`.

    Args:
        frame: the frame.
        move: to it.
        state: before it.
        teller: of the detector.
    """
    rig, memory = frame.rig, state.detector_memory
    found = {
        "images": frame.images,
        "content_size": frame.content_size,
        "camera_valid": frame.camera_valid,
        "image_from_camera": rig.image_from_camera,
        "image_from_vehicle": rig.image_from_vehicle,
        "vehicle_from_image": rig.vehicle_from_image,
        "now_from_before": move.now_from_before,
        "elapsed_s": move.elapsed_s,
        "same_scene": move.same_scene,
        "continued": move.continued,
        **teller(frame, None if memory is None else memory.keep(move.continued)),
    }
    return {name: _told(tensor) for name, tensor in found.items()}


def told_state(state: TrackState) -> dict[str, Tensor]:
    """What a step is told of a state, by name, in the vehicle frame and by the clock of its last frame."""
    memory = state.detector_memory
    if memory is not None:
        here = invert_similarity(state.global_from_vehicle)
        state = replace(state, detector_memory=memory.rebased(here, state.timestamp_s))
    return {
        short_name(name): _told(tensor)
        for name, tensor in named_tensors(state).items()
        if name not in _kept_by_caller(state)
    }


def _kept_by_caller(state: TrackState) -> tuple[str, ...]:
    memory = state.detector_memory
    of_memory = () if memory is None else memory.kept_by_caller
    return (*_KEPT_BY_CALLER, *(f"detector_memory.{name}" for name in of_memory))


def short_name(name: str) -> str:
    """A field of a state as inputs are called: `memory_references` of `detector_memory.references`."""
    return name.removeprefix("detector_").removeprefix("queries.").replace(".", "_")


def state_of(told: dict[str, Tensor], template: TrackState, frame: Frame) -> TrackState:
    """The state behind a frame of what a step told, which `told_state` undoes.

    Args:
        told: by name.
        template: a state of the same structure, whose types are taken.
        frame: that the step was about.
    """
    names = iter(named_tensors(template))

    def fill(tensor: Tensor) -> Tensor:
        found = told.get(f"next_{short_name(next(names))}")
        return tensor if found is None else found.to(tensor.dtype)

    state = replace(
        template.map(fill),
        global_from_vehicle=frame.global_from_vehicle,
        timestamp_s=frame.timestamp_s,
        scenes=frame.scenes,
    )
    memory = state.detector_memory
    if memory is None:
        return state
    memory = memory.rebased(frame.global_from_vehicle, -frame.timestamp_s).left_at(frame)
    return replace(state, detector_memory=memory)


def _told(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


class TrackStep(nn.Module):
    """`Tracker.advance` on named tensors.

    Args:
        tracker: with fixed slots.
        template: a state of the tracker, whose structure all states have.
        cameras: names, in the order of every camera dimension.
    """

    def __init__(self, tracker: Tracker, template: TrackState, cameras: tuple[str, ...]) -> None:
        super().__init__()
        self.tracker = tracker
        self._template = template.map(_told)
        self._names = tuple(named_tensors(template))
        self._cameras = cameras

    def forward(self, frame: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Objects of the frame by `objects_` and their field, and the state behind it by `next_` and its."""
        move = Move(frame["now_from_before"], frame["elapsed_s"], frame["same_scene"], frame["continued"])
        seen = self._frame(frame, move)
        objects, after = self.tracker.advance(seen, self._entered(state, move), move)
        return self._told_of(objects, after, move)

    def _frame(self, given: dict[str, Tensor], move: Move) -> Frame:
        """The frame, where the vehicle frame before it is the global one and its time is 0."""
        rig = GivenRig(
            self._cameras,
            given["image_from_camera"],
            # Nobody asks where cameras are but for their projections.
            given["image_from_vehicle"],
            given["image_from_vehicle"],
            given["vehicle_from_image"],
        )
        return ToldFrame(
            images=given["images"],
            rig=rig,
            camera_valid=given["camera_valid"],
            content_size=given["content_size"],
            global_from_vehicle=invert_similarity(move.now_from_before),
            timestamp_s=move.elapsed_s,
            scenes=("",),
            samples=("",),
            told={name: tensor for name, tensor in given.items() if name not in INPUTS},
        )

    def _entered(self, given: dict[str, Tensor], move: Move) -> TrackState:
        names, kept = iter(self._names), _kept_by_caller(self._template)

        def fill(tensor: Tensor) -> Tensor:
            name = next(names)
            if name == "global_from_vehicle":
                return torch.eye(4, device=tensor.device).expand(1, 4, 4)
            if name in kept:
                return torch.zeros_like(tensor, device=move.elapsed_s.device)
            return given[short_name(name)]

        return self._template.map(fill)

    def _told_of(self, objects: Objects, state: TrackState, move: Move) -> dict[str, Tensor]:
        memory = state.detector_memory
        if memory is not None:
            state = replace(state, detector_memory=_seen_from(memory, move))
        told = told_objects(objects) | {
            f"next_{short_name(name)}": tensor
            for name, tensor in named_tensors(state).items()
            if name not in _kept_by_caller(state)
        }
        # A program whose output is its input is none that every runtime takes.
        return {name: tensor.clone() for name, tensor in told.items()}


def _seen_from(memory: DetectorMemory, move: Move) -> DetectorMemory:
    return memory.rebased(move.now_from_before, move.elapsed_s)


def told_objects(objects: Objects) -> dict[str, Tensor]:
    """Objects as a step tells them, by name."""
    return {f"objects_{name}": tensor for name, tensor in named_tensors(objects).items()}


def objects_of(told: Mapping[str, Tensor], kind: type[Objects] = Objects) -> Objects:
    """The objects of a kind that a step told."""
    known: dict[str, Any] = {
        name.removeprefix("objects_"): value for name, value in told.items() if name.startswith("objects_")
    }
    return kind(**known)


def template_of(tracker: Tracker, frame: Frame) -> TrackState:
    """An initial state of the structure and shapes that states have behind a first frame.

    They differ where a detector's memory begins with nothing of any size (PETRv2's). What it then holds is
    zeros, and counts as not seen.

    Args:
        tracker: with fixed slots.
        frame: any that it may see.
    """
    initial = tracker.initial_state()
    with torch.no_grad():
        _, after = tracker.step(frame, initial)
    first, names = named_tensors(initial), iter(named_tensors(after))

    def emptied(tensor: Tensor) -> Tensor:
        start = first.get(next(names))
        return torch.zeros_like(tensor) if start is None or start.shape != tensor.shape else start

    return replace(after.map(emptied), scenes=initial.scenes)


def padded_state(state: TrackState, template: TrackState) -> TrackState:
    """A state with the shapes of the template: empty slots behind its tracks, and an empty memory if it has
    none yet.

    Raises:
        ValueError: if it has other shapes than differ by the number of tracks.
    """
    found = named_tensors(state)
    names = iter(named_tensors(template))

    def fill(empty: Tensor) -> Tensor:
        name = next(names)
        tensor = found.get(name)
        if tensor is None or tensor.shape == empty.shape:
            return empty if tensor is None else tensor
        wide = tensor.dim() == empty.dim() and tensor.shape[2:] == empty.shape[2:]
        missing = empty.shape[1] - tensor.shape[1] if wide and tensor.dim() > 1 else -1
        remembered = name.startswith("detector_memory.")
        if tensor.shape[0] != 1 or missing < 0 or (tensor.shape[1] != state.count and not remembered):
            if remembered and 0 in tensor.shape:
                return empty
            raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(empty.shape)}")
        return torch.cat([tensor, empty[:, tensor.shape[1] :].to(tensor)], dim=1)

    values: TrackState = template.map(fill)
    return replace(values, scenes=state.scenes)
