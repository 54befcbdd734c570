"""Every reader under generated damage: a result or a `SynclError`, within stated memory and time."""

import ast
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml

import fuzzing
import syncl
from argoverse2_logs import LOG, SWEEPS, write_tables, written_log
from fuzzing import Reader, damaged_json, damaged_lines, damaged_safetensors
from rig import DETECTORS, TRACKERS, make_frame
from syncl.checkpoints.codec import encode_config
from syncl.checkpoints.model_file import load_model, save_model
from syncl.checkpoints.published import read_published
from syncl.checkpoints.state_file import load_state, save_state
from syncl.data import images as pictures
from syncl.data.dataset_file import find_description, read_description
from syncl.data.features import FeatureStore, write_features
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.lidar import read_sweep
from syncl.data.nuscenes.odometry import read_messages
from syncl.data.nuscenes.results.result_files import read_frame_objects
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.nuscenes.splits import split_scenes
from syncl.data.own_results import as_json, own_layout
from syncl.data.recording.recording import open_recording
from syncl.data.recording.video import Video
from syncl.data.recording.video_moments import _read_times_s
from syncl.deployment.exported import described_state, load_association, open_model
from syncl.deployment.manifest import ASSOCIATION, GOLDEN, MANIFEST, write_manifest
from syncl.deployment.programs import LEAST_OPSET
from syncl.deployment.step import template_of
from syncl.deployment.writing import write_association
from syncl.detectors.seen_rigs import SeenRigs
from syncl.evaluation import read_ground_truth, read_results
from syncl.files import parse_json
from syncl.recipes import find_recipe, resolve_recipe
from syncl.recipes.own import read_recipe
from syncl.recipes.recipe import recipe_from_json, recipe_to_json
from syncl.rendering.report.run_files import read_runs
from syncl.runs.experiment.plan import read_plan
from syncl.runs.experiment.run_records import read_records, write_table
from syncl.runs.track.given import track_given
from syncl.runs.track.parts import SceneParts, _prepare
from syncl.runs.track.reports import Reports
from syncl.runs.train import loggers
from syncl.runs.train.picture import curves
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.cc_3dt import Cc3dtConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.serialisation import take_apart
from syncl.training import resuming
from syncl.training.best import Best

VERSION = "v1.0-mini"
MODEL = ModelConfig(InputConfig((32, 64)), DETECTORS["petr"], TRACKERS["mutr3d"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def tables(folder: Path, world: Path) -> Reader:
    root = folder / "tables"
    shutil.copytree(world / VERSION, root / VERSION)

    def read() -> None:
        index = open_nuscenes(root, VERSION, cache=False)
        for name in index.scene_names:
            for row in index.scene_samples(name):
                index.sample(row)
        read_ground_truth(root, VERSION, "mini_val")

    return Reader(tuple(sorted((root / VERSION).glob("*.json"))), read, (damaged_json,) * 3)


def index_cache(folder: Path, world: Path) -> Reader:
    root = folder / "index"
    shutil.copytree(world / VERSION, root / VERSION)
    open_nuscenes(root, VERSION)
    caches = tuple(sorted((root / ".syncl").glob("*.npz")))
    written = [path.read_bytes() for path in caches]

    def read() -> None:
        try:
            open_nuscenes(root, VERSION).sample(0)
        finally:
            for path, content in zip(caches, written):
                path.write_bytes(content)

    return Reader(caches, read)


def logs(folder: Path, world: Path) -> Reader:
    root = write_tables(folder / "logs", written_log())

    def read() -> None:
        index = open_nuscenes(root, VERSION, cache=False)
        for row in range(index.sample_count):
            index.sample(row)
        read_ground_truth(root, VERSION, "val")

    return Reader(tuple(sorted(root.rglob("*.feather"))), read)


def feather_results(folder: Path, world: Path) -> Reader:
    root, path = write_tables(folder / "feather_results", written_log()), folder / "results.feather"
    token, dataset = f"{LOG}/{SWEEPS[1]}", find_description(root, VERSION)
    box = {"translation": [5.0, 9.0, 1.0], "size": [2.0, 4.0, 1.5], "rotation": [1.0, 0.0, 0.0, 0.0]}
    named = {"tracking_id": "a", "tracking_name": "BUS", "tracking_score": 0.5}
    layout = own_layout(root, path)
    assert layout is not None
    layout.write(open_nuscenes(root, VERSION), {token: json.dumps([box | named] * 3).encode()}, path, False)
    samples = read_ground_truth(root, VERSION, "val").samples

    def read() -> None:
        with as_json(path, root, "val", dataset) as readable:
            read_results(readable, samples, "tracking", dataset)
            read_frame_objects(readable)

    return Reader((path,), read)


def images(folder: Path, world: Path) -> Reader:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    paths = tuple(folder / f"image.{kind}" for kind in ("jpg", "png"))
    for path in paths:
        cv2.imwrite(str(path), noise)
    whole = pictures.test_transform((48, 64), (48, 64))

    def read() -> None:
        for path in paths:
            pictures.image_size(path)
            pictures.load_image(path, whole)

    return Reader(paths, read)


def results(folder: Path, world: Path) -> Reader:
    path = folder / "results.json"
    truth = read_ground_truth(world, VERSION, "mini_val")
    boxes = np.array([[1.0, 2, 0, 4, 2, 1.5, 0.3, 1, 0], [9.0, 2, 0, 4, 2, 1.5, 0.3, np.nan, 0]])
    objects = FrameObjects(boxes, ("car", "bus"), np.array([0.5, 0.25]), ("1", "2"))
    submission = TrackingSubmission(truth.samples.tokens, limit_range=False)
    for token in truth.samples.tokens:
        submission.add(token, objects, np.eye(4))
    submission.save(path)

    def read() -> None:
        read_frame_objects(path)
        read_results(path, truth.samples, "tracking")

    return Reader((path,), read, (damaged_json,) * 2)


def recording(folder: Path, world: Path) -> Reader:
    root = folder / "rig"
    (root / "images" / "a").mkdir(parents=True)
    for number in range(2):
        cv2.imwrite(str(root / "images" / "a" / f"f{number}.png"), np.zeros((8, 12, 3), np.uint8))
    pose = {"translation_m": [0.0, 0.0, 1.5], "rotation": [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]}
    camera = {
        "image_size": [12, 8],
        "intrinsics": {"fx": 9.0, "fy": 9.0, "cx": 6, "cy": 4},
        "vehicle_from_camera": pose,
        "distortion": {"model": "pinhole", "coefficients": [0.1, 0, 0, 0]},
    }
    level = {"translation_m": [0, 0, 0], "rotation": [1, 0, 0, 0]}
    moments = [
        {"name": f"f{number}", "timestamp_s": number / 10, "global_from_vehicle": level}
        for number in range(2)
    ]
    content = {"format": "syncl-rig-1", "cameras": {"a": camera}, "frames": moments}
    # JSON is YAML, so that values can be damaged too; the other file is YAML as people write it.
    (root / "rig.yaml").write_text(json.dumps(content))
    (root / "other.yaml").write_text(yaml.safe_dump(content) + "name: !!str drive\ncomment: &c {a: 1}\n")

    def read() -> None:
        for name in ("rig.yaml", "other.yaml"):
            list(open_recording(root / name, quiet=True))

    return Reader((root / "rig.yaml",), read, (damaged_json,) * 2 + (tagged,))


def annotations(folder: Path, world: Path) -> Reader:
    path = folder / "annotated" / "rig" / "annotations.json"
    recording(folder / "annotated", world)
    box = [10.0, 1.5, 0.8, 4.5, 1.9, 1.6, 0.1]
    entries = [{"frame": f"f{n}", "track": "a", "class": "car", "box": box} for n in range(2)]
    content = {"format": "syncl-annotations-1", "frames": ["f0", "f1"], "annotations": entries}
    path.write_text(json.dumps(content))

    def read() -> None:
        index = open_nuscenes(path.parent, VERSION, cache=False)
        for row in range(index.sample_count):
            index.sample(row)
        read_ground_truth(path.parent, VERSION, "all")

    return Reader((path,), read, (damaged_json,) * 2)


def video(folder: Path, world: Path) -> Reader:
    path = folder / "camera.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for number in range(6):
            image = np.full((32, 48, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))

    def read() -> None:
        found = Video(path)
        for number in range(min(len(found.times_s), 12)):
            found.frame(number)

    return Reader((path,), read)


def video_times(folder: Path, world: Path) -> Reader:
    path = folder / "times.txt"
    path.write_text("# seconds\n0.1\n0.2\n0.35\n")
    return Reader((path,), lambda: _read_times_s(path, 3))


def tagged(content: bytes, draw: Any) -> bytes:
    """YAML with a tag before some value."""
    tag = draw.choice(
        ("bool", "int", "float", "null", "timestamp", "binary", "set", "omap", "python/tuple", "x")
    )
    places = [place for place, byte in enumerate(content) if byte in b":["]
    place = draw.choice(places) + 1
    return content[:place] + f" !!{tag} ".encode() + content[place:]


def model_file(folder: Path, world: Path) -> Reader:
    path = folder / "model.safetensors"
    torch.manual_seed(0)
    recipe = recipe_to_json(find_recipe("petr_synthetic"))
    save_model(
        path, MODEL.build().state_dict(), MODEL, recipe, {"note": "x"}, (0.0, 1.0), SeenRigs(2, 3, 60.0, 90.0)
    )
    return Reader((path,), lambda: load_model(path), (damaged_safetensors,) * 2)


def published(folder: Path, world: Path) -> Reader:
    weights = {f"layer{number}.weight": torch.randn(3, 4) for number in range(3)}
    paths = folder / "zip.pth", folder / "old.pth", folder / "weights.safetensors"
    content = {"state_dict": weights, "meta": {"epoch": 3, "loss": np.float64(0.5)}}
    torch.save(content, paths[0])
    torch.save(content, paths[1], _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file(weights, paths[2])

    def read() -> None:
        for path in paths:
            read_published(path)

    return Reader(paths, read)


def state_file(folder: Path, world: Path) -> Reader:
    path = folder / "state.safetensors"
    tracker = MODEL.build().eval()
    _, state = tracker.step(make_frame(), tracker.initial_state())
    save_state(path, state)

    def read() -> None:
        restored = load_state(path)
        tracker.step(make_frame(0.5), restored)

    return Reader((path,), read, (damaged_safetensors,) * 2)


def plan(folder: Path, world: Path) -> Reader:
    path = folder / "plan.json"
    arms = [
        {"name": "a", "recipe": "petr_synthetic"},
        {"name": "b", "recipe": "petr_synthetic", "seeds": [0]},
    ]
    content = {"name": "p", "seeds": [0, 1], "scenes": 1, "set": ["training.steps=2"], "arms": arms}
    path.write_text(json.dumps(content | {"reference": "a", "split": "mini_val", "train_split": None}))
    return Reader((path,), lambda: read_plan(path), (damaged_json,) * 3)


def report_inputs(folder: Path, world: Path) -> Reader:
    root = folder / "run"
    root.mkdir()
    metrics = {"amota": 0.5, "label_metrics": {"amota": {"car": 0.5, "bus": float("nan")}}, "meta": {}}
    (root / "metrics.json").write_text(json.dumps(metrics))
    (root / "recipe.json").write_text(json.dumps(recipe_to_json(find_recipe("petr_synthetic"))))
    (root / "notes.json").write_text(json.dumps({"text": "x", "number": 1}))
    lines = [json.dumps({"step": step, "group": "train", "total": 1.0 / step}) for step in (1, 2, 3)]
    (root / "log.jsonl").write_text("\n".join(lines) + "\n")
    return Reader(tuple(sorted(root.iterdir())), lambda: read_runs([str(root)]), (damaged_lines,))


def series(folder: Path, world: Path) -> Reader:
    root = folder / "series"
    write_table(root, {("a", seed): {"arm": "a", "seed": seed, "metrics": {"amota": 0.5}} for seed in (0, 1)})
    return Reader((root / "results.jsonl",), lambda: read_records(root), (damaged_lines,) * 2)


def recipe_file(folder: Path, world: Path) -> Reader:
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe_to_json(find_recipe("mutr3d_detr3d_synthetic", "syncl"))))
    own, short = folder / "own.yaml", folder / "short.yaml"
    own.write_text(json.dumps(json.loads(path.read_text()) | {"paper": None}))
    changes = {"steps": 3, "optimiser": {"learning_rate": 1e-4}, "ema": 0.5}
    short.write_text(json.dumps({"base": "petr_synthetic", "training": changes}))

    def read() -> None:
        recipe_from_json(parse_json(path), str(path))
        resolve_recipe(str(own))
        resolve_recipe(str(short))

    return Reader((path, own, short), read, (damaged_json,) * 3)


def own_recipe(folder: Path, world: Path) -> Reader:
    path = folder / "own.yaml"
    content = {"base": "petr_synthetic", "training": {"steps": 5, "optimiser": {"learning_rate": 2e-4}}}
    path.write_text(json.dumps(content | {"model": {"input": {"image_size": [64, 96]}}}))
    return Reader((path,), lambda: read_recipe(path), (damaged_json,) * 2 + (tagged,))


def can_bus(folder: Path, world: Path) -> Reader:
    path = folder / "scene-0001_pose.json"
    fields = {"accel": [0.1, 0, 9.8], "rotation_rate": [0, 0, 0.1], "vel": [5, 0, 0], "pos": [1, 2, 3]}
    path.write_text(json.dumps([{"utime": 1536000000000000 + 20000 * n} | fields for n in range(3)]))
    return Reader((path,), lambda: read_messages(path), (damaged_json,) * 2)


def finished_scenes(folder: Path, world: Path) -> Reader:
    parts, origin = folder / "results.json.scenes", {"model": "x", "threads": 1}
    kept, boxes = SceneParts(parts), {"a": b'[{"tracking_score":0.5}]', "b": b"[]"}
    kept.write("s", boxes)
    (parts / "run.json").write_text(json.dumps(origin))

    def read() -> None:
        _prepare(parts, origin, resume=True, overwrite=False)
        assert kept.read("s", ["a", "b"]) == boxes, "other boxes than were written, silently"

    return Reader((parts / "run.json", parts / "scene-s.json"), read)


def detections(folder: Path, world: Path) -> Reader:
    path, index = folder / "detections.json", open_nuscenes(world, VERSION, cache=False)
    scene = index.choose_scenes("mini_val", ())[0]
    samples = [index.sample(row) for row in index.scene_samples(scene)]
    boxes = np.array([[1.0, 2, 0, 4, 2, 1.5, 0.3, 1, 0], [9.0, 2, 0, 4, 2, 1.5, 0.3, 0, 0]])
    objects = FrameObjects(boxes, ("car", "bus"), np.array([0.5, 0.25]), ("", ""))
    submission = DetectionSubmission([sample.token for sample in samples], limit_range=False)
    for sample in samples:
        submission.add(sample.token, objects, sample.global_from_vehicle)
    submission.save(path)

    def read() -> None:
        reports = Reports(folder / "tracks.json", overwrite=True, quiet=True)
        track_given(path, index, (scene,), reports, tracker="greedy")

    return Reader((path,), read, (damaged_json,) * 2)


def exported(folder: Path, world: Path) -> Reader:
    """A folder as `syncl export` writes it, but for the program, which is of one operator."""
    root = folder / "export"
    root.mkdir()
    tracker = MODEL.build().eval().with_fixed_slots()
    template = template_of(tracker, make_frame())
    sizes = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", sizes[:1], sizes[1:])
    opset = [onnx.helper.make_opsetid("", LEAST_OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), root / "track.onnx")
    (root / GOLDEN).write_bytes(b"numbers")
    content: Any = {
        "program": {"file": "track.onnx", "format": "onnx", "opset": LEAST_OPSET},
        "classes": list(tracker.classes),
        "cameras": list(make_frame().rig.names),
        "slots": tracker.slots,
        "longest_gap_s": 2.0,
        "forecast_step_s": None,
        "views_deg": [0.0, 90.0],
        "trained_rigs": [2, 3, 60.0, 90.0],
        "state": {"structure": take_apart(template)[0], "tensors": described_state(template)},
        "model": encode_config(MODEL),
    }
    write_manifest(root, content)

    def read() -> None:
        open_model(root).tracker.initial_state()

    # The others' bytes are compared with the manifest's digests.
    return Reader((root / MANIFEST,), read, (damaged_json,) * 6)


def dataset_file(folder: Path, world: Path) -> Reader:
    path = folder / "dataset.yaml"
    classes: Any = {"car": {"range_m": 50, "categories": ["vehicle.car", "car"], "symmetric": True}}
    classes["cone"] = {"range_m": 20.5, "tracked": False, "undefined_errors": ["orient_err"]}
    measures = {"match_distances_m": [0.5, 2], "min_recall": 0.1, "max_boxes": 300}
    content = {"format": "syncl-dataset-1", "classes": classes, "left_out": ["x"], "evaluation": measures}
    path.write_text(json.dumps(content))
    return Reader((path,), lambda: read_description(path), (damaged_json,) * 2 + (tagged,))


def splits(folder: Path, world: Path) -> Reader:
    path = folder / VERSION / "splits.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"mine": ["scene-0061"], "yours": ["scene-0103", "scene-0061"]}))
    return Reader((path,), lambda: split_scenes("mine", VERSION, folder), (damaged_json,) * 2)


def sweep(folder: Path, world: Path) -> Reader:
    path = folder / "sweep.pcd.bin"
    np.arange(50, dtype="<f4").tofile(path)
    return Reader((path,), lambda: read_sweep(path))


def log(folder: Path, world: Path) -> Reader:
    run = folder / "logged"
    run.mkdir()
    entries = [
        {"step": step, "group": group, "total": 1.0, "amota": 0.5, "mAP": 0.25}
        for step in (1, 2, 3)
        for group in ("train", "validation")
    ]
    path = run / "log.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def read() -> None:
        Best("auto", path).improved({"amota": 0.25})
        for curve in curves(run).values():
            np.array(curve, np.float64)

    return Reader((path,), read, (damaged_lines,) * 2)


def called(folder: Path, world: Path) -> Reader:
    path = folder / "loggers.json"
    path.write_text(json.dumps({"wandb": "k3j9x", "mlflow": "0f3c"}))
    return Reader((path,), lambda: loggers._called(path), (damaged_json,))


def features(folder: Path, world: Path) -> Reader:
    root = folder / "features"
    write_features(root, [(["s"], torch.ones(1, 2, dtype=torch.bool), [torch.ones(1, 2, 3, 4, 4)])])

    def read() -> None:
        store = FeatureStore(root)
        if "s" in store:
            store.of("s")

    return Reader((root / "features.json",), read, (damaged_json,) * 2)


def checkpoint(folder: Path, world: Path) -> Reader:
    step = folder / "training" / "checkpoints" / "step_00000001"
    state = step / "state" / "run.safetensors"
    state.parent.mkdir(parents=True)
    resuming._write(state, {"optimiser": {"step": 1}}, {"weights.a": torch.ones(3)})
    facts = {"state/run.safetensors": [state.stat().st_size, resuming._sha256(state)]}
    progress = {"step": 1, "origin": {"recipe": {"name": "x"}}, "files": facts, "format": "syncl-training-1"}
    (step / "progress.json").write_text(json.dumps(progress))

    def read() -> None:
        resuming.check_resumable(folder / "training", {"recipe": {"name": "x"}})
        resuming._read(state)

    return Reader((step / "progress.json", state), read)


def decoded(folder: Path, world: Path) -> Reader:
    root = folder / "world"
    shutil.copytree(world, root)
    index = open_nuscenes(root, VERSION, cache=False)
    files = tuple(camera.path for camera in index.sample(0).cameras)

    def read() -> None:
        list(SceneStream(index, index.scene_names[0], ImageOptions((32, 64), resize="fast")))

    return Reader(files, read)


def association(folder: Path, world: Path) -> Reader:
    """Weights by which a host ties detections together, beside an exported program."""
    tracker = Cc3dtConfig(motion="velo_lstm").build(NoDetector()).eval()
    write_association(folder / ASSOCIATION, tracker)
    return Reader((folder / ASSOCIATION,), lambda: load_association(folder, tracker), (damaged_safetensors,))


READERS: dict[str, Callable[[Path, Path], Reader]] = {
    function.__name__: function
    for function in (
        tables, index_cache, images, decoded, results, recording, video, video_times, model_file,
        published, state_file, plan, report_inputs, series, recipe_file, own_recipe, features,
        checkpoint, can_bus, finished_scenes, detections, exported, association, splits, sweep, log,
        dataset_file, annotations, logs, feather_results, called,
    )
}  # fmt: skip

# Which reader is damaged for the files that a module of src/syncl reads.
READ_BY = {
    "checkpoints/model_file.py": "model_file",
    "checkpoints/published.py": "published",
    "checkpoints/state_file.py": "state_file",
    "data/alike_records.py": "results",
    "data/argoverse2/feather.py": "logs",
    "data/argoverse2/feather_results.py": "feather_results",
    "data/dataset_file.py": "dataset_file",
    "data/features.py": "features",
    "data/images.py": "images",
    "data/json_stream.py": "tables",
    "data/nuscenes/clips/image_files.py": "decoded",
    "data/nuscenes/lidar.py": "sweep",
    "data/nuscenes/odometry.py": "can_bus",
    "data/nuscenes/results/result_files.py": "results",
    "data/nuscenes/splits.py": "splits",
    "data/nuscenes/tables/cache.py": "index_cache",
    "data/recording/video.py": "video",
    "data/recording/video_moments.py": "video_times",
    "data/recording/annotations_file.py": "annotations",
    "data/recording/rig_file.py": "recording",
    "data/yaml_node.py": "recording",
    "deployment/exported.py": "association",
    "deployment/manifest.py": "exported",
    "files.py": "model_file",
    "evaluation/result_arrays.py": "results",
    "recipes/changes.py": "recipe_file",
    "recipes/own.py": "own_recipe",
    "rendering/report/run_files.py": "report_inputs",
    "runs/experiment/plan.py": "plan",
    "runs/experiment/run_records.py": "series",
    "runs/track/parts.py": "finished_scenes",
    "runs/train/loggers.py": "called",
    "runs/train/run_folder.py": "model_file",
    "training/journal.py": "log",
    "training/resuming.py": "checkpoint",
}
# What syncl ships with or has just written, and bytes whose meaning nobody asks for.
READS_ITS_OWN = {
    "commands/models.py", "data/synthetic/generation.py", "deployment/programs.py", "locks.py",
    "models/__init__.py", "recipes/cost.py", "recipes/listing.py",
    "rendering/report/page.py", "rendering/report/sections.py", "rendering/video_writer.py",
    "runs/experiment/child_commands.py", "runs/experiment/run.py",
}  # fmt: skip
READING = {
    "parse_json", "loads", "load", "safe_load", "safe_open", "load_file", "read_bytes", "read_text",
    "imdecode", "imread", "fromfile", "memmap", "loadtxt", "read_csv", "feather.read_table", "read_feather",
    "DictReader", "Image.open", "av.open", "read_yaml", "read_tensors", "convert_results",
}  # fmt: skip


def reads(path: Path) -> bool:
    """Whether a module calls something that reads files."""
    text = path.read_text()
    if not any(f"{name}(" in text for name in READING):
        return False
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return any(READING & {ast.unparse(call), getattr(call, "attr", "")} for call in calls)


def test_every_reader_is_damaged() -> None:
    package = Path(syncl.__file__).parent
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if reads(path)}
    known = READ_BY.keys() | READS_ITS_OWN
    assert not found - known, "damage their files, too: add a reader above"
    assert not (READ_BY.keys() | READS_ITS_OWN) - found, "these read no more"
    assert not set(READ_BY.values()) - READERS.keys()


# A cache is made again; of a log, lines that are whole count.
FORGIVING = {"index_cache", "log"}


def check(name: str, folder: Path, world: Path, cases: range) -> None:
    reader = READERS[name](folder, world)
    reader.read()
    with warnings.catch_warnings(), fuzzing.bounded_memory():
        warnings.simplefilter("ignore")
        findings, refused = fuzzing.run(reader, cases)
    print(f"{name}: {len(cases)} damaged files, {refused} refused, {len(findings)} otherwise")
    assert not findings, "\n".join(map(str, findings[:20]))
    assert refused or name in FORGIVING, "the damage was none"


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from Linux' /proc")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_give_a_result_or_an_error_for_people(
    name: str, folder: Path, small_world: Path
) -> None:
    check(name, folder, small_world, range(12))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files(name: str, tmp_path: Path, small_world: Path) -> None:
    check(name, tmp_path, small_world, range(12, 600))
