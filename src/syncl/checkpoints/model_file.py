"""Our own model format: one safetensors file with the weights and the configuration that builds them."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import cast

import orjson
import torch
from torch import Tensor

from syncl import __version__
from syncl.backbones import ConvNeXtConfig, CpFpnConfig, FpnConfig, ResNetConfig, VoVNetConfig
from syncl.checkpoints.class_rows import ClassRows
from syncl.checkpoints.codec import decode_config, encode_config
from syncl.checkpoints.limits import check_finite, model_shapes
from syncl.checkpoints.shared_cameras import with_shared_cameras
from syncl.checkpoints.upgrades import Json, current_names
from syncl.data.past_images import PastImages
from syncl.data.views import NUSCENES_VIEWS_DEG
from syncl.detectors import DETECTOR_TYPES
from syncl.detectors.seen_rigs import SeenRigs
from syncl.errors import SynclError
from syncl.files import parse_json, read_tensors, write_tensors
from syncl.layers.normaliser import NormaliserConfig
from syncl.own_code import own_classes
from syncl.trackers import TRACKER_TYPES, Tracker
from syncl.trackers.model import InputConfig, ModelConfig

MODEL_TYPES: tuple[type, ...] = (
    ModelConfig,
    InputConfig,
    PastImages,
    *DETECTOR_TYPES,
    ConvNeXtConfig,
    ResNetConfig,
    VoVNetConfig,
    FpnConfig,
    CpFpnConfig,
    NormaliserConfig,
    *TRACKER_TYPES,
)


@dataclass(frozen=True)
class LoadedModel:
    """A tracker ready for use and where it comes from.

    Attributes:
        tracker: in inference mode.
        config: what it was built from.
        recipe: the resolved training recipe, as JSON values, where there was one.
        notes: free text entries written with it, such as training time and seeds.
    """

    tracker: Tracker
    config: ModelConfig
    recipe: Json
    notes: dict[str, str]


def save_model(
    path: Path,
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    recipe: Json = None,
    notes: Mapping[str, str] | None = None,
    views: tuple[float, ...] | None = None,
    rigs: SeenRigs | None = None,
) -> None:
    """Write a model file in one step.

    Args:
        path: target, by custom `*.safetensors`.
        weights: the tracker's state dict; parts of it may be in half precision.
        config: what builds the tracker.
        recipe: the resolved training recipe, kept for reading.
        notes: free text entries.
        views: of the detector (`Detector.views`).
        rigs: of the detector (`Detector.rigs`).
    """
    metadata = {
        "format": "syncl-model-1",
        "syncl": __version__,
        "model": orjson.dumps(encode_config(config)).decode(),
        "recipe": orjson.dumps(recipe).decode(),
        "notes": orjson.dumps(dict(notes or {})).decode(),
    }
    if views is not None:
        metadata["views"] = orjson.dumps(views).decode()
    if rigs is not None:
        metadata["rigs"] = orjson.dumps(astuple(rigs)).decode()
    write_tensors(path, weights, metadata)


def read_model_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata of a model file; what it holds in half precision comes in float32.

    Raises:
        SynclError: if the file is missing, truncated or not a syncl model.
    """
    weights, metadata = read_tensors(path, "model file")
    if metadata.get("format") != "syncl-model-1":
        raise SynclError(f"{path}: a safetensors file, but not a syncl model; see `syncl convert`")
    check_finite(weights, str(path))
    halves = (torch.float16, torch.bfloat16)
    return {name: t.float() if t.dtype in halves else t for name, t in weights.items()}, metadata


def load_model(path: Path, device: torch.device | str = "cpu", types: tuple[type, ...] = ()) -> LoadedModel:
    """Build the tracker a model file describes and fill it.

    Args:
        path: the file.
        device: where the tracker shall be.
        types: configuration classes of your own that the file may name, beside the library's. A file names
            classes only; it never says what to import.

    Raises:
        SynclError: if the file cannot be read or does not fit its own configuration.
    """
    weights, metadata = read_model_file(path)
    known = (*MODEL_TYPES, *types)
    config = decode_config(_entry(path, metadata, "model"), ModelConfig, known, f"{path}: model")
    # Classes of a user's own need not know of the device meta.
    expected = model_shapes(config, str(path), "cpu" if types or own_classes() else "meta")
    weights = current_names(weights, expected)
    problems = differences(expected, weights)
    if problems:
        raise SynclError(f"{path}: the weights do not fit the configuration: {'; '.join(problems[:5])}")
    tracker = config.build()
    tracker.load_state_dict(weights)
    tracker.detector.views = _views(path, metadata, config)
    tracker.detector.rigs = _rigs(path, metadata)
    tracker.eval().to(device)
    return LoadedModel(tracker, config, _entry(path, metadata, "recipe", "null"), _notes(path, metadata))


def _entry(path: Path, metadata: Mapping[str, str], name: str, default: str = "") -> Json:
    return cast(Json, parse_json(metadata.get(name, default), f"{path}: its entry {name!r}"))


def read_views(path: Path, config: ModelConfig) -> tuple[float, ...] | None:
    """Where the cameras of a model file's detector looked (`Detector.views`), for such a model.

    Raises:
        SynclError: as `read_model_file`.
    """
    return _views(path, read_tensors(path, "model file")[1], config)


def _views(path: Path, metadata: Mapping[str, str], config: ModelConfig) -> tuple[float, ...] | None:
    """Files of earlier versions do not say; six cameras are then those of nuScenes."""
    cameras = getattr(config.detector, "cameras", None)
    views = _entry(path, metadata, "views", "null")
    if views is not None:
        if not isinstance(views, list) or not all(isinstance(view, int | float) for view in views):
            raise SynclError(f"{path}: its entry 'views' is no list of numbers; the file is damaged")
        return tuple(map(float, cast(list[float], views))) if len(views) == cameras else None
    if cameras != len(NUSCENES_VIEWS_DEG):
        return None
    ahead_deg = 90.0 if config.input.vehicle_frame == "lidar" else 0.0
    return tuple(view + ahead_deg for view in NUSCENES_VIEWS_DEG)


def _rigs(path: Path, metadata: Mapping[str, str]) -> SeenRigs | None:
    """Files of earlier versions do not say."""
    rigs = _entry(path, metadata, "rigs", "null")
    return None if rigs is None else rigs_from_json(rigs, f"{path}: its entry 'rigs'")


def rigs_from_json(value: Json, source: str) -> SeenRigs:
    """Rigs as `astuple` gave them.

    Raises:
        SynclError: the value is something else, naming the source.
    """
    numbers = value if isinstance(value, list) else []
    if len(numbers) != len(fields(SeenRigs)) or not all(isinstance(n, int | float) for n in numbers):
        raise SynclError(f"{source} is not four numbers; the file is damaged")
    fewest, most, narrowest_deg, widest_deg = map(float, cast(list[float], numbers))
    return SeenRigs(int(fewest), int(most), narrowest_deg, widest_deg)


def _notes(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    notes = _entry(path, metadata, "notes", "{}")
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise SynclError(f"{path}: its entry 'notes' is no object of texts; the file is damaged")
    return cast(dict[str, str], notes)


def differences(expected: Mapping[str, torch.Size], found: Mapping[str, Tensor]) -> list[str]:
    """What is missing, unexpected or of another shape, one phrase each."""
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not expected" for name in found if name not in expected]
    problems += [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    return problems


@dataclass(frozen=True)
class InitialisationReport:
    """How a model was filled from another model's file.

    Attributes:
        filled: parameters taken over.
        fresh: parameters of the model the file does not have; they keep their initial values, or have what
            the tracker makes of the others (`Tracker.complete`).
        unused: entries of the file the model has no place for.
    """

    filled: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def initialise_from(
    tracker: Tracker, path: Path, parts: tuple[str, ...] = (), own_data: ClassRows | None = None
) -> InitialisationReport:
    """Fill a tracker with what fits of another model's weights, such as its detector's.

    Entries that a conversion made up (the file's note `new`) are not taken over. A DETR3D for any rig takes
    the mean of weights for each camera.

    Args:
        tracker: to fill.
        path: model file.
        parts: only entries of these modules, such as `detector.image_encoder`; all if empty. Needed where
            models of different kinds have other modules of the same name.
        own_data: where the model is for other classes or cameras: rows of classes that are alike are taken
            over, and parameters whose number goes by cameras, of one other length, start anew.

    Raises:
        SynclError: if a parameter has another shape there, or nothing at all fits.
    """
    weights, metadata = read_model_file(path)
    made_up = _notes(path, metadata).get("new", "").split("\n")
    own = tracker.state_dict()
    given = {name: tensor for name, tensor in weights.items() if name not in made_up}
    weights = with_shared_cameras(current_names(given, own), own)
    unfitted = weights
    if own_data is not None:
        weights = own_data.fitted(weights, own, _classes(path, metadata))
    wanted = tuple(f"{part}." for part in parts) or ("",)
    shared = {name: t for name, t in weights.items() if name in own and name.startswith(wanted)}
    if own_data is not None:
        shared = {name: t for name, t in shared.items() if not _of_other_length(t, own[name])}
    problems = differences({name: own[name].shape for name in shared}, shared)
    if problems or not shared:
        reason = (
            "; ".join(problems[:5])
            or f"no parameter {'of ' + ', '.join(parts) + ' ' if parts else ''}has a name in common"
        )
        raise SynclError(f"{path}: cannot start this model from it: {reason}")
    tracker.load_state_dict(shared, strict=False)
    fresh = tuple(name for name in own if name not in shared)
    tracker.complete(fresh)
    return InitialisationReport(
        tuple(shared),
        fresh,
        tuple(name for name in unfitted if name not in shared),
    )


def model_classes(path: Path) -> tuple[str, ...]:
    """The classes that the model of a file tells apart.

    Raises:
        SynclError: as `read_model_file`.
    """
    return _classes(path, read_tensors(path, "model file")[1])


def _classes(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    model = _entry(path, metadata, "model")
    detector = model.get("detector") if isinstance(model, dict) else None
    classes = detector.get("classes") if isinstance(detector, dict) else None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise SynclError(f"{path}: its entry 'model' names no classes; the file is damaged")
    return tuple(cast(list[str], classes))


def _of_other_length(given: Tensor, wanted: Tensor) -> bool:
    """Whether two shapes differ in the length of one axis."""
    pairs = list(zip(given.shape, wanted.shape, strict=False))
    return given.dim() == wanted.dim() and sum(have != want for have, want in pairs) == 1
