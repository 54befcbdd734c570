"""What is known of a run: a folder, some files, or both, that belong to one tracker's results.

    results.json       tracks in the nuScenes submission format          syncl track --output
    detections.json    the boxes of the detector behind them             syncl track --task detection
    metrics.json       official metrics of them                          syncl evaluate --output
    details.json       the curves behind the metrics                     syncl evaluate --details
    recipe.json        the resolved recipe                               syncl train
    log.jsonl          the training log                                  syncl train
    model.safetensors  the model; only its notes are read                syncl train
    tracks.mp4         a video, any other single .mp4 as well            syncl render
    notes.json         what else there is to say: {"commit": "...", "hardware": "...", ...}

Results or metrics must be there; the rest is used where it is. The devkit's names metrics_summary.json and
metrics_details.json are known too. Single files are recognised by what they hold, whatever they are called;
so is the record that `syncl experiment` keeps of a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from syncl.errors import SynclError
from syncl.files import parse_json

Json = Mapping[str, Any]

_NAMES = {
    "results.json": "results",
    "detections.json": "detections",
    "metrics.json": "metrics",
    "metrics_summary.json": "metrics",
    "details.json": "details",
    "metrics_details.json": "details",
    "recipe.json": "recipe",
    "log.jsonl": "log",
    "model.safetensors": "model",
    "notes.json": "notes",
}
_SUFFIXES = {".jsonl": "log", ".safetensors": "model", ".mp4": "video"}
_HEAD_BYTES = 4096
_HEADER_LIMIT_BYTES = 100_000_000


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: how it is called in tables and legends.
        files: kind of file -> path; kinds are the values of the table above, `video` and `record`.
        metrics: contents of the metrics file; None without one.
        details: class -> metric -> 40 values; None without the file.
        recipe: the resolved recipe; empty without one.
        record: what `syncl experiment` noted; empty without one.
        notes: other facts, by name.
        log: entries of the training log.
    """

    name: str
    files: Mapping[str, Path]
    metrics: Json | None = None
    details: Mapping[str, Mapping[str, Sequence[float]]] | None = None
    recipe: Json = field(default_factory=dict)
    record: Json = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    log: tuple[Json, ...] = ()


def read_runs(texts: Sequence[str]) -> list[Run]:
    """Read runs from `[NAME=]PATH[,PATH...]`, where a path is a run folder or a file.

    Raises:
        SynclError: for a path that does not exist or holds nothing of a run, damaged files, a run without
            results and metrics, or two runs of one name.
    """
    if not texts:
        raise SynclError("RUN: name at least one run folder, or results.json,metrics.json")
    runs = [_read_run(text) for text in texts]
    for number, run in enumerate(runs):
        if run.name in (other.name for other in runs[:number]):
            raise SynclError(
                f"RUN: two runs are called '{run.name}'; tell them apart with NAME=PATH, such as "
                f"other={_name_and_paths(texts[number])[1]}"
            )
    return runs


def _read_run(text: str) -> Run:
    name, rest = _name_and_paths(text)
    paths = list(map(Path, _parts(rest)))
    if not paths:
        raise SynclError(f"RUN: '{text}' names no path; write [NAME=]PATH[,PATH...]")
    files: dict[str, Path] = {}
    for path in paths:
        found = _files_of_folder(path) if path.is_dir() else {_kind(path): path}
        for kind, file in found.items():
            if kind in files and path.is_file():
                raise SynclError(
                    f"RUN: '{text}': {files[kind]} and {file} both hold the {kind}; name one of them"
                )
            files.setdefault(kind, file)
    if "results" not in files and "metrics" not in files and "record" not in files:
        raise SynclError(
            f"RUN: '{text}' has neither results.json nor metrics.json; write them with syncl track and "
            "syncl evaluate --output, or name the files: results.json,metrics.json"
        )
    record = _object(files["record"]) if "record" in files else {}
    metrics = None
    if "metrics" in files:
        metrics = _metrics(_object(files["metrics"]), files["metrics"])
    elif "metrics" in record:
        metrics = _metrics(record["metrics"], files["record"])
    notes = {key: _plain(value) for key, value in _object(files["notes"]).items()} if "notes" in files else {}
    return Run(
        name=name or _default_name(paths[0], files),
        files=files,
        metrics=metrics,
        details=_details(files["details"]) if "details" in files else None,
        recipe=_object(files["recipe"]) if "recipe" in files else record.get("recipe", {}),
        record=record,
        notes=(_model_notes(files["model"]) if "model" in files else {}) | notes,
        log=_log(files["log"]) if "log" in files else (),
    )


def _name_and_paths(text: str) -> tuple[str, str]:
    """Of `[NAME=]PATH[,PATH...]`, both of which may hold equals signs: the first reading that is there."""
    parts = text.split("=")
    readings = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(len(parts))]
    there = (reading for reading in readings if any(Path(part).exists() for part in _parts(reading[1])[:1]))
    return next(there, readings[-1])


def _parts(paths: str) -> list[str]:
    """Of `PATH[,PATH...]`; a path that is there may hold commas."""
    return [paths] if paths and Path(paths).exists() else [part for part in paths.split(",") if part]


def _default_name(path: Path, files: Mapping[str, Path]) -> str:
    if path.is_dir():
        return path.resolve().name
    named = next((files[kind] for kind in ("results", "metrics") if kind in files), path)
    return named.resolve().parent.name if named.name in _NAMES else named.stem


def _files_of_folder(folder: Path) -> dict[str, Path]:
    files = {kind: folder / name for name, kind in reversed(_NAMES.items()) if (folder / name).is_file()}
    videos = sorted(folder.glob("*.mp4"))
    chosen = [video for video in videos if video.name == "tracks.mp4"] or videos
    if len(chosen) == 1:
        files["video"] = chosen[0]
    return files


def _kind(path: Path) -> str:
    """What a file holds, from its contents; results may be too large to parse for that."""
    if not path.is_file():
        raise SynclError(f"RUN: {path}: there is no such file or folder")
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    if path.suffix == ".feather":
        raise SynclError(
            f"RUN: {path}: a report takes results as JSON; write them with syncl track --output results.json"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    start = b"".join(head.split())
    if start.startswith((b'{"meta":', b'{"results":')) and b'"results":' in start:
        return "detections" if b'"detection_name":' in start or path.name == "detections.json" else "results"
    content = _object(path)
    if "label_metrics" in content or "label_aps" in content:
        return "metrics"
    if {"experiment", "arm"} <= content.keys() and isinstance(content.get("metrics"), dict):
        return "record"
    if "training" in content and "model" in content:
        return "recipe"
    if content and all(isinstance(value, dict) and "recall_hypo" in value for value in content.values()):
        return "details"
    if path.name == "notes.json":
        return "notes"
    raise SynclError(
        f"RUN: {path}: holds nothing known of a run (keys {', '.join(list(content)[:4])}); expected "
        "results, metrics, details, a recipe, a log, a model, a video or notes.json"
    )


def _object(path: Path) -> dict[str, Any]:
    content = parse_json(path, nan=True)
    if not isinstance(content, dict):
        raise SynclError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _metrics(content: Json, path: Path) -> Json:
    if "label_aps" in content:
        raise SynclError(
            f"{path}: detection metrics; a report is of tracking (syncl evaluate --task tracking)"
        )
    labels = content.get("label_metrics")
    if not isinstance(labels, dict) or not isinstance(labels.get("amota"), dict):
        raise SynclError(
            f"{path}: field 'label_metrics' has no 'amota' per class; write it with syncl evaluate"
        )
    for metric, values in labels.items():
        if not isinstance(values, dict) or not all(map(_is_figure, values.values())):
            raise SynclError(f"{path}: label_metrics.{metric}: expected a number or null for each class")
    for name in ("cfg", "not_official"):
        if not isinstance(content.get(name, {}), dict):
            raise SynclError(f"{path}: {name}: expected an object; write it with syncl evaluate")
    if not isinstance(content.get("cfg", {}).get("dist_th_tp", 0.0), int | float):
        raise SynclError(f"{path}: cfg.dist_th_tp: expected a number, the distance of a match in metres")
    return content


def _is_figure(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _details(path: Path) -> Mapping[str, Mapping[str, Sequence[float]]]:
    content = _object(path)
    for name, columns in content.items():
        if not isinstance(columns, dict) or "recall_hypo" not in columns:
            raise SynclError(
                f"{path}: class '{name}' has no 'recall_hypo'; write it with syncl evaluate --details"
            )
        for metric, values in columns.items():
            if not isinstance(values, list) or not all(map(_is_figure, values)):
                raise SynclError(f"{path}: {name}.{metric}: expected a list of numbers, null where unknown")
    return content


def _log(path: Path) -> tuple[Json, ...]:
    entries = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = cast(Json, parse_json(line, "line", nan=True))
            # What is not a number is written as null.
            values = {name: float("nan") if value is None else value for name, value in entry.items()}
            numbers = {name: float(value) for name, value in values.items() if name not in ("step", "group")}
            entries.append({**numbers, "step": int(entry["step"]), "group": str(entry["group"])})
        except (SynclError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            if number == len(lines):
                break  # a run that goes on writes its last line just now
            raise SynclError(f"{path}: line {number}: no entry of a training log ({error!r})") from error
    return tuple(entries)


def _model_notes(path: Path) -> dict[str, str]:
    """The notes in a model file's header; the weights are not read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size) if size < _HEADER_LIMIT_BYTES else b""
    try:
        metadata = cast(Json, parse_json(header, str(path)))["__metadata__"]
        notes = cast(Json, parse_json(metadata.get("notes", "{}"), str(path)))
    except (SynclError, AttributeError, KeyError, TypeError) as error:
        raise SynclError(f"{path}: not a complete model file ({error})") from error
    return {key: _plain(value) for key, value in notes.items() if value}


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


UNKNOWN = "not recorded"

# Label -> place in the resolved recipe.
_RECIPE = {
    "recipe": "name",
    "strategy": "training.strategy.type",
    "detector": "model.detector.type",
    "tracker": "model.tracker.type",
    "image size (h, w)": "model.input.image_size",
    "seed": "training.seed",
    "steps": "training.steps",
    "batch size": "training.data.batch_size",
    "frames a clip": "training.data.clip_length",
    "learning rate": "training.optimiser.learning_rate",
    "precision": "training.precision",
}
_NOTES = {
    "data": "data",
    "initialised from": "initialised_from",
    "training minutes": "minutes",
    "torch": "torch",
}


def settings_of(run: Run) -> dict[str, str]:
    """Label -> value, in a fixed order; `UNKNOWN` where the files do not say."""
    rows = {label: _text(_dig(run.recipe, place)) for label, place in _RECIPE.items()}
    rows |= {label: run.notes.get(name, UNKNOWN) for label, name in _NOTES.items()}
    rows["commit"] = run.notes.get("commit") or _text(run.record.get("commit"))
    rows["hardware"] = run.notes.get("hardware") or _hardware(run.record.get("hardware"))
    known = {*_NOTES.values(), "commit", "hardware"}
    rows |= {name.replace("_", " "): text for name, text in run.notes.items() if name not in known}
    return rows


def _dig(content: Mapping[str, Any], place: str) -> object:
    value: object = content
    for step in place.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).removesuffix("Config") if isinstance(value, str) else f"{value}"


def _hardware(value: object) -> str:
    if not isinstance(value, Mapping):
        return UNKNOWN
    return ", ".join(f"{name} {entry}" for name, entry in value.items())
