"""Give every command the inputs that were once taken in silence, and print what each is answered with.

    OMP_NUM_THREADS=1 python tools/reliability/minimal_inputs.py FOLDER [--only units rotations]

Each function below makes an input from a small world and says what came of it; the table goes to standard
output. The tests that hold each line are in `tests/`; this shows all of them at once, on the commands.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import syncl
from syncl.checkpoints.published import read_published
from syncl.commands.main import main as command
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.recording.recording_writer import write_recording
from syncl.errors import SynclError

VERSION = "v1.0-mini"
RECIPE = "mutr3d_detr3d_synthetic"
ONE_STEP = [
    "--overwrite", "--set", "training.steps=1", "training.data.clip_length=2", "training.data.batch_size=1",
    "model.detector.layers=1", "model.detector.queries=24", "model.detector.proposals.count=8",
    "model.input.image_size=[64,96]",
]  # fmt: skip
CAMERAS = {
    "CAM_FRONT": "FRONT_CENTER", "CAM_FRONT_RIGHT": "FRONT_RIGHT", "CAM_FRONT_LEFT": "FRONT_LEFT",
    "CAM_BACK": "REAR_CENTER", "CAM_BACK_LEFT": "REAR_LEFT", "CAM_BACK_RIGHT": "REAR_RIGHT",
}  # fmt: skip
Row = tuple[str, str]
Tables = dict[str, list[dict[str, Any]]]


class Place:
    """A folder with a world, results of the shipped model on it and a recording."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.world = folder, folder / "W"
        self.results, self.rig = folder / "results.json", folder / "rig"
        if not self.rig.exists():
            made = {"keyframes": 4, "width": 160, "height": 96, "workers": 1}
            syncl.generate(self.world, train_scenes=2, val_scenes=2, **made)
            syncl.track("demo", data=self.world, output=self.results, threads=1)
            index = open_nuscenes(self.world, VERSION)
            write_recording(SceneStream(index, "scene-0103", ImageOptions(size=(96, 160))), self.rig)

    def changed(self, change: Callable[[Tables], object]) -> Path:
        """A world whose tables were changed."""
        root = self.folder / "changed"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.world, root, ignore=shutil.ignore_patterns(".syncl", "*.json"))
        shutil.copy(self.world / "world.json", root)
        tables = {path.stem: json.loads(path.read_text()) for path in (self.world / VERSION).glob("*.json")}
        change(tables)
        for name, rows in tables.items():
            (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
        return root

    def run(self, name: str, *arguments: object) -> str:
        """What a command answers: the error, or that it is done, and warnings and notes."""
        said, status = io.StringIO(), 0
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("always")
            try:
                command([name, *map(str, arguments)])
            except SystemExit as end:
                status = int(end.code or 0)
        lines = [
            line
            for line in said.getvalue().splitlines()
            if re.search("error:|Warning:|note:|left out|learn|not used", line)
        ]
        text = re.sub(r"\S*/(?=\w)", "", " / ".join(lines))
        return f"`{name}` {'ends well' if not status else 'refuses'}{f': {text[:330]}' if text else ''}"

    def every(self, root: Path, *names: str) -> str:
        """The same of commands on a world."""
        out = self.folder / "out"
        calls: dict[str, list[object]] = {
            "prepare": [root],
            "train": [RECIPE, "--data", root, "--output", out / "run", *ONE_STEP],
            "track": ["demo", "--data", root, "--output", out / "tracks.json", "--overwrite"],
            "evaluate": [self.results, "--data", root, "--output", out / "metrics.json", "--overwrite"],
        }
        return "; ".join(self.run(name, *calls[name]) for name in names or calls)

    def metrics(self, results: Path, root: Path) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return syncl.evaluate(results, data=root).summary()["amota"]


def answer(call: Callable[[], object]) -> str:
    """The error of a call, or its result."""
    try:
        return str(call())
    except SynclError as error:
        return f"error: {re.sub(r'[^ ]*/(?=[A-Za-z])', '', str(error))}"


def rows_of(table: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Tables], object]:
    return lambda tables: [change(row) for row in tables[table]]


def nothing_to_learn_from(place: Place) -> Iterator[Row]:
    def renamed(row: dict[str, Any]) -> None:
        row["name"] = row["name"].rpartition(".")[2]

    yield "categories renamed", place.every(place.changed(rows_of("category", renamed)), "prepare", "train")
    for points in (0, -1):
        seen = {"num_lidar_pts": points, "num_radar_pts": points}
        root = place.changed(rows_of("sample_annotation", lambda row, seen=seen: row.update(seen)))
        yield f"{points} points everywhere", place.every(root, "prepare", "train")


def what_official_evaluation_accepts(place: Place) -> Iterator[Row]:
    def fractions(tables: Tables) -> None:
        for name in ("sample", "sample_data", "ego_pose"):
            for row in tables[name]:
                row["timestamp"] += 0.4

    def no_size(row: dict[str, Any]) -> None:
        if row["fileformat"] != "jpg":
            row.update(width=None, height=None)

    yield "0.4 added to every timestamp", place.every(place.changed(fractions))
    yield "lidar records without size", place.every(place.changed(rows_of("sample_data", no_size)))
    lost = rows_of("ego_pose", lambda row: row.update(timestamp=float("nan")))
    yield "nan in a field nobody reads", place.every(place.changed(lost))


def cameras_renamed(place: Place) -> Iterator[Row]:
    def rename(tables: Tables) -> None:
        for row in tables["sensor"]:
            row["channel"] = CAMERAS.get(row["channel"], row["channel"])

    out, root = place.folder / "renamed.json", place.changed(rename)
    said = place.run("track", "demo", "--data", root, "--output", out, "--overwrite", "--threads", "1")
    before, after = (json.loads(path.read_text())["results"] for path in (place.results, out))
    same = "the very boxes" if before == after else "OTHER boxes"
    scores = f"AMOTA {place.metrics(out, root):.4f} ({place.metrics(place.results, place.world):.4f})"
    yield "cameras renamed", f"{said}; {same}, {scores}"


def units(place: Place) -> Iterator[Row]:
    for factor, name in ((1e-3, "/ 1000"), (1e3, "x 1000")):

        def scale(tables: Tables, factor: float = factor) -> None:
            for table in ("sample", "sample_data", "ego_pose"):
                for row in tables[table]:
                    row["timestamp"] = int(row["timestamp"] * factor)

        yield f"timestamps {name}", place.every(place.changed(scale))
    yield "timestamp_s in microseconds", answer(lambda: recording(place, times=1e6))


def rotations(place: Place) -> Iterator[Row]:
    def turn(*names: str) -> Callable[[Tables], object]:
        def change(tables: Tables) -> None:
            for row in (row for name in names for row in tables[name]):
                row["rotation"] = [*row["rotation"][1:], row["rotation"][0]]

        return change

    for names in (
        ("ego_pose", "calibrated_sensor", "sample_annotation"),
        ("sample_annotation",),
        ("calibrated_sensor",),
    ):
        yield (
            f"{', '.join(names)} as x y z w",
            place.every(place.changed(turn(*names)), "prepare", "train", "track"),
        )


def lenses(place: Place) -> Iterator[Row]:
    def bent(row: dict[str, Any]) -> None:
        if row["camera_intrinsic"]:
            row["camera_distortion"] = [-0.3, 0.1, 0.0, 0.0, 0.0]

    frames = [
        next(iter(SceneStream(open_nuscenes(root, VERSION), "scene-0103", ImageOptions(size=(96, 160)))))
        for root in (place.world, place.changed(rows_of("calibrated_sensor", bent)))
    ]
    moved = (frames[0].images.float() - frames[1].images.float()).abs().mean()
    yield "camera_distortion", f"undistorted: pixels differ by {moved:.1f} of 255 in the mean"
    for count in (8, 12, 14):
        yield f"{count} coefficients in rig.yaml", answer(lambda count=count: recording(place, lens=count))


def recording(place: Place, times: float = 1.0, lens: int = 0, text: str = "") -> str:
    """What a changed recording is answered with."""
    root = place.folder / "other_rig"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(place.rig, root)
    content = yaml.safe_load((root / "rig.yaml").read_text())
    for moment in content["frames"]:
        moment["timestamp_s"] *= times
    for camera in content["cameras"].values():
        if lens:
            camera["distortion"] = {"model": "pinhole", "coefficients": [0.01] * lens}
    (root / "rig.yaml").write_text(yaml.safe_dump(content) + text)
    frames = list(syncl.load("demo").open(root))
    return f"read: {len(frames)} frames of {frames[0].images.shape[1]} cameras"


def damage_in_one_frame(place: Place) -> Iterator[Row]:
    tracker = syncl.load("demo")
    frames = list(tracker.open(place.rig))
    nan = torch.nan
    pose, images = frames[1].global_from_vehicle.clone(), frames[1].images.float()
    pose[:, 0, 3], images[0, 0, 0, 0, 0] = nan, nan
    matrices = frames[1].rig.image_from_camera.clone()
    matrices[0, 1, 0, 0] = nan
    damaged = {
        "a pose": {"global_from_vehicle": pose},
        "pixels": {"images": images},
        "a calibration": {"rig": dataclasses.replace(frames[1].rig, image_from_camera=matrices)},
    }
    for where, change in damaged.items():
        _, state = tracker.step(frames[0], tracker.initial_state())
        said = answer(
            lambda change=change, state=state: tracker.step(dataclasses.replace(frames[1], **change), state)
        )
        objects, _ = tracker.step(frames[2], state)
        clean, _ = tracker.step(frames[2], tracker.step(frames[0], tracker.initial_state())[1])
        same = all(
            torch.equal(getattr(objects, name), getattr(clean, name)) for name in ("boxes", "identities")
        )
        yield f"nan in {where}", f"{said}; the next frame {'as if it had not been' if same else 'DIFFERS'}"
    coarse = torch.tensor([1.8e9], dtype=torch.float32)
    step = lambda: tracker.step(dataclasses.replace(frames[0], timestamp_s=coarse), tracker.initial_state())  # noqa: E731
    yield "timestamp_s as float32", answer(step)


def live(place: Place) -> Iterator[Row]:
    code = (
        "import syncl, sys; from syncl.trackers.live import LiveTracker; t = syncl.load('demo'); "
        "l = LiveTracker(t); l.push(next(iter(t.open(sys.argv[1])))); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place.rig)], capture_output=True, text=True)
    yield (
        "LiveTracker not closed",
        f"status {done.returncode}, {done.stdout.strip()!r}, stderr {done.stderr.strip()!r}",
    )


def results_files(place: Place) -> Iterator[Row]:
    data = ["--data", place.world]
    yield (
        "evaluate --scenes of a file with more",
        place.run("evaluate", place.results, *data, "--scenes", "scene-0103"),
    )
    content = json.loads(place.results.read_text())
    boxes = next(boxes for boxes in content["results"].values() if boxes)
    other = place.folder / "other.json"
    for name, identity in (("2**63", str(2**63)), ("of 5,000 digits", "9" * 5000)):
        boxes[0]["tracking_id"] = "IDENTITY"
        other.write_text(json.dumps(content).replace('"IDENTITY"', identity))
        yield f"a number as identity, {name}", place.run("evaluate", other, *data)
    other.write_bytes(b"")
    yield "results of 0 bytes", place.run("evaluate", other, *data)


def published(place: Place) -> Iterator[Row]:
    path, weights = place.folder / "file.pth", {"layer.weight": torch.ones(2, 2)}
    path.write_text("<!DOCTYPE html><html>not here</html>")
    yield (
        "an HTML page as .pth",
        place.run("convert", path, place.folder / "m.safetensors", "--from", "detr3d"),
    )
    torch.save({"state_dict": weights, "meta": {"loss": np.float64(0.5), "epoch": np.int64(3)}}, path)
    yield "numpy numbers beside the weights", answer(lambda: f"read: {list(read_published(path))}")
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    names = module.__name__.split(".")
    sys.modules |= {".".join(names[:count]): module for count in (1, 2, 3)}
    torch.save({"state_dict": weights, "hub": module.HistoryBuffer()}, path)
    yield "a HistoryBuffer beside them", answer(lambda: f"read: {list(read_published(path))}")
    model = place.folder / "detector.pth"
    run = place.folder / "out" / "detector"
    place.run(
        "train",
        "detr3d_synthetic",
        *data_of(place),
        "--output",
        run,
        *(o for o in ONE_STEP if "clip" not in o),
    )
    place.run("convert", run / "model.safetensors", model, "--to", "detr3d", "--overwrite")
    saved = torch.load(model, weights_only=True)
    inner = saved.get("state_dict", saved)
    inner.update({f"ema_{name.replace('.', '_')}": tensor for name, tensor in list(inner.items())})
    torch.save(saved, model)
    like = ["--from", "detr3d", "--recipe", "detr3d_synthetic", "--set", *ONE_STEP[5:]]
    yield "ema_* entries", place.run("convert", model, place.folder / "m.safetensors", "--overwrite", *like)


def data_of(place: Place) -> list[object]:
    return ["--data", place.world]


def settings(place: Place) -> Iterator[Row]:
    out = ["--data", place.world, "--output", place.folder / "out" / "never"]
    for setting in ("training.data.batch_size=0", "training.steps=-5"):
        yield setting, place.run("train", RECIPE, *out, "--set", setting)
    plan = place.folder / "plan.json"
    for field, value in (("seeds", "0"), ("arms", {"a": 1}), ("scenes", "all"), ("set", "x")):
        arms = [{"name": name, "recipe": RECIPE} for name in "ab"]
        plan.write_text(json.dumps({"name": "p", "seeds": [0], "arms": arms} | {field: value}))
        yield f"plan: {field} {value!r}", place.run("experiment", plan, *out)
    yield "a tag in rig.yaml", answer(lambda: recording(place, text="comment: !!python/object:os.system x\n"))
    run = place.folder / "logged"
    run.mkdir(exist_ok=True)
    shutil.copy(place.results, run / "results.json")
    (run / "log.jsonl").write_text('{"step": 1, "group": "train", "total": 2.0}\n{"step": 2, "gro')
    yield (
        "half a line in a log",
        place.run(
            "report", f"a={run}", "--output", place.folder / "page.html", *data_of(place), "--overwrite"
        ),
    )
    strange = rows_of("sample_data", lambda row: row.update(width=-3, height=10**9))
    yield "sizes that no image has", place.every(place.changed(strange), "prepare", "track")


FUNCTIONS = (
    nothing_to_learn_from, what_official_evaluation_accepts, cameras_renamed, units, rotations, lenses,
    damage_in_one_frame, live, results_files, published, settings,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[function.__name__ for function in FUNCTIONS])
    given = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        place = Place(given.folder.resolve())
    print("| input | answer |\n|---|---|", flush=True)
    for function in FUNCTIONS:
        if function.__name__ in given.only:
            for name, said in function(place):
                print(f"| {name} | {said.replace('|', '/')} |", flush=True)


if __name__ == "__main__":
    main()
