"""Writing an exported folder: the program, golden frames it has been checked by, and the manifest."""

import copy
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from syncl import __version__
from syncl.checkpoints.codec import encode_config
from syncl.checkpoints.upgrades import Json
from syncl.deployment.exported import described_state
from syncl.deployment.golden_frames import COUNT, Agreement, agreement, golden_frames, write_golden
from syncl.deployment.manifest import ASSOCIATION, GOLDEN, write_manifest
from syncl.deployment.programs import LEAST_OPSET, OnnxProgram, check_opset, write_onnx
from syncl.deployment.step import INPUTS, TrackStep, template_of, told_state
from syncl.detectors.image_encoder import ImageEncoder
from syncl.errors import SynclError
from syncl.files import write_tensors
from syncl.structures import Frame
from syncl.trackers.base import Tracker
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.inference import fold_norms
from syncl.trackers.model import ModelConfig
from syncl.trackers.serialisation import take_apart
from syncl.trackers.state import TrackState

Precision = Literal["float32", "float16"]
ProgramFormat = Literal["onnx", "torch-export"]
# The boxes of an exported step and of its model may differ by this much.
_TOLERANCE_M = {"float32": 1e-3, "float16": 0.5}
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: with the manifest.
        nodes: of the program's graph.
        size_bytes: of the program.
        agreement: of the program's golden frames and the model's; None where nothing here runs the program.
        events: what happens in the golden frames.
    """

    folder: Path
    nodes: int
    size_bytes: int
    agreement: Agreement | None
    events: tuple[str, ...]


class _Rounded(nn.Module):
    """A part of the image encoder in half precision, between float32 pixels and float32 levels."""

    def __init__(self, part: nn.Module, last: bool) -> None:
        super().__init__()
        self.part = copy.deepcopy(part).half()
        self.last = last

    def forward(self, given: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Feature maps."""
        made: Sequence[Tensor] = self.part(given.half() if isinstance(given, Tensor) else given)
        return tuple(level.float() for level in made) if self.last else tuple(made)


def rounded_encoder(tracker: Tracker) -> None:
    """Let the image encoder of a tracker compute in float16; what is metres, time or score stays float32.

    Args:
        tracker: a twin that nobody else uses; its weights are not changed.
    """
    encoder = cast(ImageEncoder, tracker.detector.image_encoder)
    encoder.backbone = _Rounded(encoder.backbone, last=False)  # type: ignore[assignment]
    encoder.neck = _Rounded(encoder.neck, last=True)  # type: ignore[assignment]


def write_association(path: Path, tracker: HostPairing) -> None:
    """Write the weights by which a tracker pairs what was looked at, if it has any."""
    twin = copy.deepcopy(tracker)
    fold_norms(twin)
    if weights := twin.weights_beside():
        write_tensors(path, weights, {})


class _Flat:
    """A step of two dictionaries, a frame and a state like `template`, as a program of one."""

    def __init__(self, step: TrackStep, template: TrackState) -> None:
        self._step = step
        self._template = template

    @torch.no_grad()
    def __call__(self, given: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        told: dict[str, Tensor] = self._step(*_frame_and_state(given, self._template))
        return told


def flat_step(tracker: Tracker, template: TrackState, cameras: tuple[str, ...]) -> _Flat:
    """The step of a tracker with fixed slots as a `Program`, run by torch."""
    return _Flat(TrackStep(tracker, template, cameras).eval(), template)


def _frame_and_state(
    given: Mapping[str, Tensor], template: TrackState
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a step is given, apart: of a frame, and of a state of this structure."""
    of_state = told_state(template).keys()
    frame = {name: tensor for name, tensor in given.items() if name not in of_state}
    return frame, {name: tensor for name, tensor in given.items() if name in of_state}


def write_export(
    folder: Path,
    tracker: Tracker,
    config: ModelConfig,
    drive: Sequence[Frame],
    *,
    source: Mapping[str, Json],
    program_format: ProgramFormat = "onnx",
    precision: Precision = "float32",
    opset: int = LEAST_OPSET,
) -> Exported:
    """Write an exported folder's files.

    Args:
        folder: an empty folder.
        tracker: to export, in inference mode, on the CPU.
        config: that it was built from.
        drive: frames of the rig and size that the step is to take (`golden_frames`).
        source: what the manifest says of where the model comes from.
        program_format: of the program.
        precision: float16 lets the image encoder compute in it.
        opset: of ONNX.

    Raises:
        SynclError: the tracker has no step of fixed slots, there is no such opset, a package is missing, or
            the program does not do what the model does.
    """
    if program_format == "onnx":
        check_opset(opset)
    fixed = tracker.stepping_part().with_fixed_slots()
    cameras = drive[0].rig.names
    template = template_of(fixed, drive[0])
    # Tracks of which the program knows nothing are not in its golden frames.
    pairing = tracker if isinstance(tracker, HostPairing) and not fixed.detects_only else None
    golden = golden_frames(fixed, flat_step(fixed, template, cameras), template, drive, pairing)
    exported = fixed
    if precision == "float16":
        exported = fixed.with_fixed_slots()
        rounded_encoder(exported)
    step = TrackStep(exported, template, cameras).eval()
    given = golden[1].given
    frame, state = _frame_and_state(given, template)
    with torch.no_grad():
        traced = torch.export.export(step, (frame, state), strict=False)
    outputs = list(golden[0].told)
    found: Agreement | None
    if program_format == "onnx":
        path = folder / "track.onnx"
        nodes = write_onnx(traced, list(given), outputs, opset, path)
        found = agreement(OnnxProgram(path), golden)
    else:
        path = folder / "track.pt2"
        torch.export.save(traced, path)
        nodes = len(traced.graph.nodes)
        found = agreement(_Flat(cast(TrackStep, traced.module()), template), golden)
    # In half precision scores that are nearly equal come in another order, which may be who is born.
    exact = precision == "float32"
    if found.box_m > _TOLERANCE_M[precision] or (exact and not found.identities_equal):
        raise SynclError(
            f"the exported program is not the model: largest difference of a box {found.box_m:.2g} m, "
            f"identities {'equal' if found.identities_equal else 'differ'}; "
            + ("report this, please" if exact else f"{precision} is too coarse for it, export in float32")
        )
    write_golden(folder / GOLDEN, golden)
    if isinstance(tracker, HostPairing):
        write_association(folder / ASSOCIATION, tracker)
    write_manifest(
        folder,
        {
            "made_with": _made_with(),
            "source": dict(source),
            "program": {
                "file": path.name,
                "format": program_format,
                "opset": opset if program_format == "onnx" else None,
                "precision": precision,
                "nodes": nodes,
            },
            "checked": cast(Json, asdict(found)),
            **_of_input(drive[0], config, tracker),
            **_of_tracker(fixed),
            **_of_association(tracker),
            **_of_choice(fixed),
            "inputs": _signature(given, INPUTS | dict(fixed.detector.told_inputs)),
            "outputs": _signature(golden[0].told, _meanings(tracker)),
            "state": {"structure": take_apart(template)[0], "tensors": cast(Json, described_state(template))},
            "golden": [list(frame.events) for frame in golden],
            "model": encode_config(config),
        },
    )
    events = tuple(dict.fromkeys(event for frame in golden for event in frame.events))
    return Exported(folder, nodes, path.stat().st_size, found, events)


def _made_with() -> dict[str, Json]:
    made: dict[str, Json] = {"syncl": __version__}
    for package in _PACKAGES:
        try:
            made[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            made[package] = None
    return made


def _of_input(frame: Frame, config: ModelConfig, tracker: Tracker) -> dict[str, Json]:
    """What a host has to hand over."""
    height, width = frame.image_size
    normaliser = config.detector.image.normaliser
    ahead = "y" if config.input.vehicle_frame == "lidar" else "x"
    views, rigs = tracker.detector.views, tracker.detector.rigs
    return {
        "vehicle_frame": {
            "body": config.input.vehicle_frame,
            "axes": f"right-handed, z up, {ahead} ahead; metres",
        },
        "cameras": list(frame.rig.names),
        "views_deg": None if views is None else list(views),
        "trained_rigs": None if rigs is None else list(astuple(rigs)),
        "images": {
            "height": height,
            "width": width,
            "handed_over": "uint8, RGB, channels first, undistorted; black where a camera delivered nothing",
            "resize": "scale by max(height / h, width / w), sizes truncated; crop what is too wide left and "
            "right alike, and what is too high at the top",
            "resampling": "antialiased, as PIL's bilinear" if config.input.exact_resize else "cv2.INTER_AREA",
            "normalised": "inside the program",
            "network_channel_order": normaliser.channel_order,
            "network_mean": list(normaliser.mean),
            "network_std": list(normaliser.std),
        },
    }


def _of_tracker(tracker: Tracker) -> dict[str, Json]:
    """What is told, and by which rules."""
    low, span = tracker.detector.point_range.low, tracker.detector.point_range.span
    return {
        "classes": list(tracker.detector.classes),
        "box": ["x", "y", "z", "length", "width", "height", "yaw", "vx", "vy"],
        "box_code": ["x", "y", "z", "log l", "log w", "log h", "sin yaw", "cos yaw", "vx", "vy"],
        "point_range_m": [*low.tolist(), *(low + span).tolist()],
        "rules": _rules(getattr(tracker, "config", None)),
        "slots": tracker.slots or 0,
        "longest_gap_s": tracker.longest_gap_s,
        "forecast_step_s": tracker.forecast_step_s,
        "golden_frames": COUNT,
        "streams": 1,
    }


def _of_association(tracker: Tracker) -> dict[str, Json]:
    """What is left to the host, and by which rules."""
    if not isinstance(tracker, HostPairing):
        return {"associated_by": "the program"}
    return {
        "associated_by": "the host",
        "association": {"tracker": type(tracker).__name__, "rules": _rules(tracker.config)},
        "longest_gap_s": tracker.longest_gap_s,
    }


def _of_choice(tracker: Tracker) -> dict[str, Json]:
    """Who chooses among the objects of the program; by which rules, `model` has (`Settling`)."""
    return {"chosen_by": "the host" if tracker.detector.unsettled else "the program"}


def _rules(settings: object) -> dict[str, Json]:
    if not is_dataclass(settings):
        return {}
    named = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: value for name, value in named.items() if value is None or isinstance(value, _PLAIN)}


def _meanings(tracker: Tracker) -> dict[str, str]:
    """Of what is told for the host to pair."""
    if not isinstance(tracker, HostPairing):
        return {}
    return {f"objects_{name}": meaning for name, meaning in tracker.meanings.items()}


_PLAIN = bool | int | float | str


def _signature(tensors: Mapping[str, Tensor], meanings: Mapping[str, str]) -> list[Json]:
    return [
        {
            "name": name,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "meaning": meanings.get(name, "objects" if name.startswith("objects_") else "state"),
        }
        for name, tensor in tensors.items()
    ]
