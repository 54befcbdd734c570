"""A tracker whose step is an exported program; states, checks and errors are those of any tracker.

tracker = syncl.load("my_export/")
objects, state = tracker.step(frame, tracker.initial_state())
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from syncl.checkpoints.codec import decode_config
from syncl.checkpoints.model_file import MODEL_TYPES, LoadedModel, load_model, rigs_from_json
from syncl.checkpoints.upgrades import Json
from syncl.deployment.manifest import ASSOCIATION, MANIFEST, Manifest, is_export, read_manifest
from syncl.deployment.programs import CPU, OnnxProgram, Program
from syncl.deployment.step import objects_of, padded_state, short_name, state_of, told_frame, told_state
from syncl.detectors.base import Detector
from syncl.detectors.exported_steps import Precomputing, Settling
from syncl.errors import SynclError, shown
from syncl.files import read_tensors
from syncl.models import find_model
from syncl.structures import Frame, Objects, Outcome
from syncl.structures.tensors import named_tensors
from syncl.trackers.base import ChoosingConfig, Tracker
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.inference import fold_norms, for_inference, usable_device
from syncl.trackers.look import Decoded
from syncl.trackers.model import ModelConfig
from syncl.trackers.serialisation import put_together
from syncl.trackers.state import Move, TrackState

# Of one tensor of a state; a thousand tracks of a long memory have a hundredth of it.
_MOST_NUMBERS = 10**8
_ALONE = "an exported model steps and nothing else; take the model file it was made of"


class ExportedTracker(Tracker):
    """See the module's docstring.

    Args:
        program: the step.
        manifest: of its folder.
        config: of the model that was exported.
    """

    takes_precision = False

    def __init__(self, program: Program, manifest: Manifest, config: ModelConfig) -> None:
        super().__init__()
        self.detector: Detector = NoDetector(manifest.texts("classes"))
        self.input = config.input
        self.longest_gap_s = manifest.seconds("longest_gap_s")
        self.forecast_step_s = manifest.seconds("forecast_step_s")
        self.detects_only = manifest.entry("slots") == 0
        self.source = str(manifest.folder)
        self._program = program
        self._detector, rules = config.detector, config.tracker
        # Of what a host chooses from, so many stay; None = all.
        self._most = rules.most_chosen if isinstance(rules, ChoosingConfig) else None
        detector = self._detector
        self._teller = (
            detector.precomputed if isinstance(detector, Precomputing) else self.detector.precomputed
        )
        self._cameras = manifest.texts("cameras")
        self._empty = state_template(manifest)
        if self._empty.queries is not None:
            self.detector.dim = self._empty.queries.embeddings.shape[-1]
        self.keeps = None if self._empty.own is None else type(self._empty.own)
        self.eval()  # Nothing of it can be trained.

    @property
    def cameras(self) -> int | None:
        """How many cameras it takes: as many as it was exported with."""
        return len(self._cameras)

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`; an exported step has one stream.

        Raises:
            SynclError: more are asked for.
        """
        if streams != 1:
            raise SynclError(f"{self.source}: was exported for one stream, not for {streams}")
        return self._empty

    def admit(self, frame: Frame, state: TrackState) -> Move:
        """See `Tracker.admit`.

        Raises:
            SynclError: also if there is more than one stream, or the rig has other cameras than the folder's
                manifest, in number or in order.
        """
        self.check_rig(frame)
        return super().admit(frame, state)

    def check_rig(self, frame: Frame) -> None:
        """Refuse other streams and cameras than the program was exported for.

        Raises:
            SynclError: see `admit`.
        """
        names = frame.rig.names
        if frame.batch_size != 1:
            raise SynclError(f"{self.source}: was exported for one stream, not for {frame.batch_size}")
        if len(names) != len(self._cameras) or (names != self._cameras and {*names} == {*self._cameras}):
            raise SynclError(
                f"sample {frame.samples[0]}: cameras {', '.join(names)}, and {self.source} was exported for "
                f"{len(self._cameras)}: {', '.join(self._cameras)}, in this order; export for yours with "
                "syncl export --recording"
            )

    def advance(
        self, frame: Frame, state: TrackState, move: Move, kind: type[Objects] = Objects
    ) -> tuple[Objects, TrackState]:
        """See `Tracker.advance`; the objects are of a kind.

        Raises:
            SynclError: if the state is of a model of other sizes.
        """
        try:
            state = padded_state(state, self._empty)
        except ValueError as error:
            raise SynclError(f"this state is of a model of other sizes than {self.source}: {error}") from None
        told = self._program(told_frame(frame, move, state, self._teller) | told_state(state))
        objects = objects_of(told, kind)
        if isinstance(self._detector, Settling):
            most = objects.valid.shape[1] if self._most is None else self._most
            objects = self._detector.settled(objects, most)
        return objects, state_of(told, self._empty, frame)

    def conclude(self, _decoded: Decoded, /) -> tuple[Objects, TrackState]:
        """Refused: a program has no parts."""
        raise SynclError(_ALONE)

    def carry(self, _decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Refused: nothing is trained."""
        raise SynclError(_ALONE)


class ExportedLooks(Tracker):
    """A tracker that pairs on the host what an exported program says of each frame.

    States are those of the tracker on its own detector.

    Args:
        program: the exported looks.
        tracker: that pairs them, built without a detector.
    """

    takes_precision = False

    def __init__(self, program: ExportedTracker, tracker: HostPairing) -> None:
        super().__init__()
        self.program = program
        self.tracker = tracker
        self.detector = tracker.detector
        self.input = program.input
        self.longest_gap_s = tracker.longest_gap_s
        self.keeps = tracker.keeps
        self.source = program.source
        self.eval()

    @property
    def cameras(self) -> int | None:
        """See `ExportedTracker.cameras`."""
        return self.program.cameras

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `ExportedTracker.initial_state`."""
        memory = self.program.initial_state(streams).detector_memory
        return replace(self.tracker.initial_state(streams), detector_memory=memory)

    def admit(self, frame: Frame, state: TrackState) -> Move:
        """See `ExportedTracker.admit`."""
        self.program.check_rig(frame)
        return super().admit(frame, state)

    def advance(self, frame: Frame, state: TrackState, move: Move) -> tuple[Objects, TrackState]:
        """See `Tracker.advance`; the look first, then what is paired."""
        kind, memory = self.tracker.pairs, state.detector_memory
        if not self.program.detects_only:
            told, entered = self.program.advance(frame, state, move, kind)
            return self.tracker.associate(frame, entered, told)
        # The program knows nothing of tracks.
        seen = replace(
            self.program.initial_state(),
            detector_memory=memory,
            global_from_vehicle=state.global_from_vehicle,
            timestamp_s=state.timestamp_s,
            scenes=state.scenes,
        )
        told, after = self.program.advance(frame, seen, move, kind)
        entered = self.tracker.arrive(frame, replace(state, detector_memory=None))
        return self.tracker.associate(frame, replace(entered, detector_memory=after.detector_memory), told)

    def conclude(self, _decoded: Decoded, /) -> tuple[Objects, TrackState]:
        """Refused: a program has no parts."""
        raise SynclError(_ALONE)

    def carry(self, _decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Refused: nothing is trained."""
        raise SynclError(_ALONE)


def state_template(manifest: Manifest) -> TrackState:
    """The initial state that a manifest's table describes.

    Raises:
        SynclError: the table is damaged, or of structures that this syncl does not know.
    """
    source = str(manifest.folder / MANIFEST)
    tensors = {}
    for row in manifest.table("state", "tensors"):
        try:
            dtype = getattr(torch, str(row["dtype"]))
            shape = [int(size) for size in cast(list[int], row["shape"])]
            if math.prod(shape) > _MOST_NUMBERS:
                raise ValueError(f"{row['field']}: {math.prod(shape):,} numbers")
            tensors[str(row["field"])] = torch.full(shape, cast(float, row["fill"]), dtype=dtype)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise SynclError(f"{source}: its table of the state is damaged ({error})") from error
    pose = torch.eye(4, dtype=torch.float64).expand(1, 4, 4)
    tensors["state.global_from_vehicle"] = pose
    return put_together(manifest.entry("state", "structure"), tensors, source)


def described_state(template: TrackState) -> list[dict[str, object]]:
    """The manifest's rows of a template's tensors, all of one value each."""
    rows: list[dict[str, object]] = []
    for name, tensor in named_tensors(template).items():
        if name == "global_from_vehicle":
            continue
        flat = tensor.flatten()
        fill = flat[0].item() if len(flat) else 0
        if not bool((tensor == fill).all()):
            raise ValueError(f"{name} starts with more than one value")
        rows.append(
            {
                "name": short_name(name),
                "field": f"state.{name}",
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "fill": fill,
            }
        )
    return rows


def load_export(folder: Path, providers: Sequence[str] = CPU, types: tuple[type, ...] = ()) -> LoadedModel:
    """An exported folder as a model.

    Args:
        folder: with its `manifest.json`.
        providers: of onnxruntime, the preferred one first.
        types: see `load_model`.

    Raises:
        SynclError: the folder is not what was exported, of another version or of programs that syncl does
            not run; or a provider is not there.
    """
    manifest = read_manifest(folder)
    if manifest.text("program", "format") != "onnx":
        raise SynclError(
            f"{folder}: holds a {manifest.text('program', 'format')} program, which syncl does not run; load "
            "it with torch.export.load, or export with --format onnx"
        )
    name = manifest.text("program", "file")
    # Only those are known to lie in the folder and to be as they were written.
    if name not in cast(dict[str, Json], manifest.entry("files")):
        raise SynclError(f"{folder}: program.file: {shown(name)} is none of its files; export again")
    known = (*MODEL_TYPES, *types)
    config = decode_config(manifest.entry("model"), ModelConfig, known, f"{folder}: model")
    program = OnnxProgram(Path(folder) / name, providers)
    tracker = ExportedTracker(program, manifest, config)
    tracker.detector.views = manifest.numbers("views_deg")
    rigs = manifest.content.get("trained_rigs")  # Folders from before do not say.
    if rigs is not None:
        tracker.detector.rigs = rigs_from_json(rigs, f"{folder / MANIFEST}: trained_rigs")
    found: Tracker = tracker
    # Folders from before the host could do it do not say.
    if manifest.content.get("associated_by", "the program") == "the host":
        association = config.tracker.build(tracker.detector).eval()
        if not isinstance(association, HostPairing):
            raise SynclError(
                f"{folder / MANIFEST}: associated_by is the host, where {type(association).__name__} pairs "
                "nothing; export again"
            )
        load_association(Path(folder), association)
        found = ExportedLooks(tracker, association)
    return LoadedModel(found.eval(), config, None, {"exported": str(folder)})


def load_association(folder: Path, tracker: HostPairing) -> None:
    """Fill a tracker without a detector with the weights by which it pairs what was looked at, if it has any.

    Raises:
        SynclError: the folder's file does not fit it.
    """
    fold_norms(tracker)
    if not tracker.weights_beside():
        return
    path = folder / ASSOCIATION
    weights, _ = read_tensors(path, "weights of an exported tracker")
    try:
        tracker.load_beside(weights)
    except RuntimeError as error:
        raise SynclError(f"{path}: does not fit {type(tracker).__name__} ({error}); export again") from error


def open_model(
    path: Path,
    device: torch.device | str = "cpu",
    types: tuple[type, ...] = (),
    providers: Sequence[str] = (),
) -> LoadedModel:
    """A model file, or an exported folder, by what lies there.

    Args:
        path: of either.
        device: see `load_model`; an exported folder runs where its providers do.
        types: see `load_model`.
        providers: of onnxruntime, for exported folders; the CPU's unless others are named.

    Raises:
        SynclError: see `load_model` and `load_export`; or providers are named for a model file.
    """
    if is_export(Path(path)) or Path(path).is_dir():
        return load_export(Path(path), tuple(providers) or CPU, types)
    if providers:
        raise SynclError(f"--providers: are of exported folders, and {path} is none; leave them out")
    return load_model(Path(path), device, types)


def load(
    name: str | Path,
    device: torch.device | str = "cpu",
    types: tuple[type, ...] = (),
    providers: Sequence[str] = (),
) -> Tracker:
    """A tracker ready to `step`, with BatchNorm folded: `tracker = syncl.load("demo")`.

    For weights as they are in the file, and for training, take `syncl.checkpoints.model_file.load_model`.

    Args:
        name: of a shipped model (`syncl models`); or a model file, the folder of a run, or an exported folder
            (`syncl export`).
        device: see `load_model`, which also gives what else the file holds.
        types: the same.
        providers: of onnxruntime, for exported folders, the preferred one first; the CPU's if none is named.

    Raises:
        SynclError: see `open_model`; or there is no model of this name, or the device cannot be used.
    """
    return for_inference(open_model(find_model(name), usable_device(device), types, providers).tracker)


def model_source(path: Path | None) -> Path | None:
    """The file whose bytes say which model it is: a folder's manifest has the hashes of all others."""
    return path / MANIFEST if path is not None and is_export(path) else path
