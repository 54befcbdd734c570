"""Classes, ranges and categories of one's own: `dataset.yaml`, tables, recordings with annotations."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from own_world import as_recordings
from rig import DETECTORS
from syncl.checkpoints.model_file import initialise_from, read_model_file, save_model
from syncl.commands.evaluate import evaluate
from syncl.commands.prepare import prepare
from syncl.commands.render import render
from syncl.commands.track import track
from syncl.commands.train import train
from syncl.data.dataset_file import read_description
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.nuscenes.splits import own_split
from syncl.data.nuscenes.tables.cache import fingerprint
from syncl.data.recording import Moment, Rig
from syncl.data.recording.annotations_file import read_annotations_file
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.own_data import DESCRIPTION
from syncl.data.synthetic.world import WorldConfig
from syncl.dataset_description import NUSCENES, DatasetDescription, Measures
from syncl.errors import SynclError
from syncl.evaluation import evaluate_detection, evaluate_tracking, read_ground_truth
from syncl.recipes import Recipe, find_recipe
from syncl.rendering.nuscenes_scenes import _ground_truth
from syncl.runs.train.own_classes import class_rows, with_own_classes
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

CLASSES = ("van", "lorry", "cycle", "person")
Yaml = dict[str, Any]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of own data: one scene a split, three frames, small images."""
    root = tmp_path_factory.mktemp("own") / "yard"
    generate_world(root, WorldConfig(1, 1, keyframes=3, width=96, height=64, seed=2, layout="own"))
    return root


@pytest.fixture(scope="module")
def recordings(yard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_recordings(yard, tmp_path_factory.mktemp("recordings"))


def described(change: Callable[[Yaml], object], folder: Path) -> Path:
    content = yaml.safe_load(DESCRIPTION)
    change(content)
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def perfect(root: Path, version: str, task: str, out: Path) -> Path:
    """Results that are the annotations themselves."""
    index = open_nuscenes(root, version)
    rows = [row for scene in index.split_scenes("val") for row in index.scene_samples(scene)]
    tokens = [index.sample_token(row) for row in rows]
    kind = TrackingSubmission if task == "tracking" else DetectionSubmission
    submission = kind(tokens, dataset=index.dataset)
    for row in rows:
        sample = index.sample(row)
        objects = _ground_truth(sample, index.dataset, index.dataset.classes)
        submission.add(sample.token, objects, sample.global_from_vehicle)
    submission.save(out / f"{task}.json", overwrite=True)
    return out / f"{task}.json"


def test_nuscenes_itself_has_the_caches_and_figures_it_had(small_world: Path):
    """The rules in a fingerprint are the categories' alone, as ever, so caches of before are valid."""
    assert NUSCENES.official and "trailer" in fingerprint(small_world / "v1.0-mini")
    assert fingerprint(small_world / "v1.0-mini").count("construction_vehicle") == 1
    assert Measures() == NUSCENES.measures and NUSCENES.label("vehicle.bus.bendy") == 3


def test_a_world_of_own_data_has_its_classes_cameras_and_times(yard: Path):
    index = open_nuscenes(yard, "own")
    assert index.dataset.classes == CLASSES and index.dataset.measures.frame_period_s == 0.1
    assert len(index.camera_names) == 7 and index.camera_names[0] == "front"
    lenses = {round(float(camera.intrinsics[0, 0]), 3) for camera in index.sample(0).cameras}
    assert len(lenses) == 3
    assert np.diff(index.columns.sample_timestamps_us[:3]).tolist() == [100_000, 100_000]
    labels = index.columns.annotation_labels
    assert set(np.unique(labels)) <= set(range(-1, 4)) and (labels >= 0).any()
    assert own_split("own", yard) == "val" and own_split("own", yard, training=True) == "train"


def test_prepare_says_what_was_mapped_and_what_was_left_out(yard: Path, capsys: Any, tmp_path: Path):
    prepare(yard, version="own")
    said = capsys.readouterr().out
    assert "splits: train 1, val 1" in said and "lorry, to 50 m: vehicle/heavy (" in said
    assert "left out: object/cone (" in said and "categories of no class" not in said
    prepare(yard, version="own", dataset=described(lambda c: c.pop("left_out"), tmp_path))
    assert "categories of no class: object/cone (" in capsys.readouterr().out


def test_results_are_scored_with_own_ranges_and_thresholds(yard: Path, tmp_path: Path):
    tracks = perfect(yard, "own", "tracking", tmp_path)
    metrics = evaluate_tracking(tracks, yard, "own", "val")
    summary = metrics.summary()
    assert metrics.amota == 1 and tuple(metrics.curves) == CLASSES
    assert summary["cfg"]["class_range"] == {"van": 45.0, "lorry": 50.0, "cycle": 35.0, "person": 30.0}
    near = described(lambda c: c["classes"]["lorry"].update(range_m=12), tmp_path)
    fewer = evaluate_tracking(tracks, yard, "own", "val", dataset=near)
    assert fewer.label_metrics["gt"]["lorry"] < metrics.label_metrics["gt"]["lorry"]
    assert fewer.label_metrics["gt"]["van"] == metrics.label_metrics["gt"]["van"]


def test_a_class_may_be_detected_and_not_tracked_and_errors_may_mean_nothing(yard: Path, tmp_path: Path):
    def change(content: Yaml) -> None:
        content["classes"]["person"] |= {"tracked": False, "symmetric": True}
        content["classes"]["cycle"]["undefined_errors"] = ["orient_err"]
        content["evaluation"] = {"match_distances_m": [1, 3], "error_distance_m": 3}

    path = described(change, tmp_path)
    metrics = evaluate_detection(
        perfect(yard, "own", "detection", tmp_path), yard, "own", "val", dataset=path
    )
    assert list(metrics.label_aps["van"]) == [1.0, 3.0] and metrics.mean_ap == pytest.approx(1)
    assert np.isnan(metrics.label_errors["cycle"]["orient_err"]) and "attr_err" not in metrics.errors
    assert metrics.nd_score == pytest.approx(1)
    tracks = evaluate_tracking(perfect(yard, "own", "tracking", tmp_path), yard, "own", "val")
    assert "person" in tracks.curves
    with pytest.raises(SynclError, match=r"tracking_name' is 'person'; known are van, lorry, cycle"):
        evaluate_tracking(tmp_path / "tracking.json", yard, "own", "val", dataset=path)


def test_results_of_other_classes_are_refused_with_the_classes_there_are(yard: Path, tmp_path: Path):
    tracks = perfect(yard, "own", "tracking", tmp_path)
    tracks.write_bytes(tracks.read_bytes().replace(b'"van"', b'"vann"'))
    with pytest.raises(SynclError, match=r"'vann'; known are van, lorry, cycle, person; did you mean 'van'"):
        evaluate(tracks, data=yard, version="own")


def test_the_page_shows_files_that_can_be_read(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()
    shown = page.partition("<!-- dataset.yaml -->")[2].split("```")[1].removeprefix("yaml\n")
    (tmp_path / "dataset.yaml").write_text(shown)
    described = read_description(tmp_path / "dataset.yaml")
    assert described.measures == Measures() and described.tracked == ("reach_stacker", "truck", "worker")
    assert described.like == {"reach_stacker": "construction_vehicle"}
    text = page.partition("<!-- annotations.json -->")[2].split("```")[1].removeprefix("json\n")
    (tmp_path / "annotations.json").write_text(text)
    moments = tuple(Moment(f"{n:06d}", n / 10, np.eye(4), {}) for n in range(6))
    rig = Rig(tmp_path / "rig.yaml", "drive", (), moments, None, False)
    found = read_annotations_file(tmp_path / "annotations.json", rig)
    assert found.frames == ("000000", "000005") and found.tracks == ("17", "17", "w3")


BAD_DESCRIPTIONS: dict[str, tuple[Callable[[Yaml], object], str]] = {
    "unknown field": (lambda c: c.update(clases={}), r"unknown field 'clases'.*did you mean 'classes'"),
    "no format": (lambda c: c.pop("format"), r"field 'format' is missing"),
    "no class": (lambda c: c.update(classes={}), r"classes: there is no class"),
    "no range": (
        lambda c: c["classes"]["van"].pop("range_m"),
        r"classes\.van: field 'range_m' is missing",
    ),
    "range not finite": (
        lambda c: c["classes"]["van"].update(range_m=float("inf")),
        r"classes\.van\.range_m: is inf, expected a finite number",
    ),
    "range negative": (
        lambda c: c["classes"]["van"].update(range_m=-3),
        r"classes\.van\.range_m: is -3, expected a number above 0",
    ),
    "category twice": (
        lambda c: c["classes"]["lorry"]["categories"].append("vehicle/light"),
        r"categories\[4\]: category 'vehicle/light' is one of class 'van' already",
    ),
    "category left out too": (
        lambda c: c["left_out"].append("person"),
        r"left_out\[2\]: category 'person' is one of class 'person' too; decide for one",
    ),
    "nothing tracked": (
        lambda c: [entry.update(tracked=False) for entry in c["classes"].values()],
        r"no class is tracked",
    ),
    "flag": (lambda c: c["classes"]["van"].update(tracked="no"), r"tracked: is 'no', expected true or false"),
    "unknown error": (
        lambda c: c["classes"]["van"].update(undefined_errors=["orient_er"]),
        r"undefined_errors\[0\].*did you mean 'orient_err'",
    ),
    "unknown threshold": (
        lambda c: c["evaluation"].update(match_distance_m=2),
        r"evaluation: unknown field.*did you mean 'match_distances_m'",
    ),
    "distances": (
        lambda c: c["evaluation"].update(match_distances_m=[2, 1]),
        r"evaluation\.match_distances_m: \[2\.0, 1\.0\]; must be ascending",
    ),
    "error distance": (
        lambda c: c["evaluation"].update(error_distance_m=3),
        r"error_distance_m: 3; must be one of match_distances_m \(0\.5, 1, 2, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD_DESCRIPTIONS)
def test_a_bad_description_is_named(case: str, tmp_path: Path):
    change, words = BAD_DESCRIPTIONS[case]
    path = described(change, tmp_path)
    with pytest.raises(SynclError, match=words) as caught:
        read_description(path)
    assert str(path) in str(caught.value)


def test_a_description_of_other_data_is_refused(yard: Path, tmp_path: Path):
    path = described(lambda c: c["classes"]["van"].update(categories=["vehicle/ligth"]), tmp_path)
    with pytest.raises(SynclError, match=r"categories of class 'van'.*did you mean 'vehicle/light'"):
        open_nuscenes(yard, "own", dataset=path)


def test_recordings_open_as_the_tables_they_were_made_of(yard: Path, recordings: Path):
    theirs, ours = open_nuscenes(yard, "own"), open_nuscenes(recordings, "v1.0-mini")
    assert ours.dataset == theirs.dataset and ours.camera_names == theirs.camera_names
    assert ours.split_scenes("val") == theirs.split_scenes("val")
    for row in range(ours.sample_count):
        ours_sample, sample = ours.sample(row), theirs.sample(row)
        assert ours_sample.timestamp_us == sample.timestamp_us
        np.testing.assert_allclose(ours_sample.global_from_vehicle, sample.global_from_vehicle, atol=1e-9)
        for camera, other in zip(ours_sample.cameras, sample.cameras, strict=True):
            assert camera.path.read_bytes() == other.path.read_bytes()
            np.testing.assert_allclose(camera.camera_from_vehicle, other.camera_from_vehicle, atol=1e-9)
            np.testing.assert_allclose(camera.intrinsics, other.intrinsics, atol=1e-9)
        found, truth = ours_sample.annotations, sample.annotations
        kept = (truth.labels >= 0) & (truth.num_lidar_pts > 0)
        assert found.labels.tolist() == truth.labels[kept].tolist()
        np.testing.assert_allclose(found.boxes[:, :7], truth.boxes[kept, :7], atol=1e-6)


def test_recordings_are_scored_as_the_tables_are(yard: Path, recordings: Path, tmp_path: Path):
    tables = evaluate_tracking(perfect(yard, "own", "tracking", tmp_path), yard, "own", "val")
    results = perfect(recordings, "v1.0-mini", "tracking", tmp_path)
    metrics = evaluate_tracking(results, recordings, "v1.0-mini", "val")
    assert metrics.amota == 1
    for name, values in tables.label_metrics.items():
        assert metrics.label_metrics[name] == pytest.approx(values, abs=1e-4), name


def test_a_single_recording_is_a_dataset_of_one_split(recordings: Path):
    folder = next(path.parent for path in sorted(recordings.glob("*/rig.yaml")))
    index = open_nuscenes(folder, "v1.0-mini", dataset=recordings / "dataset.yaml")
    assert index.scene_names == (folder.name,) and own_split("v1.0-mini", folder) == "all"
    with pytest.raises(SynclError, match=r"no split 'vall'; there are all"):
        index.split_scenes("vall")
    with pytest.raises(SynclError, match=r"class: '[a-z]+' is none of the classes of nuScenes"):
        open_nuscenes(folder, "v1.0-mini")


def entry(**changes: object) -> Callable[[Yaml], object]:
    return lambda content: content["annotations"][1].update(changes)


BAD_ANNOTATIONS: dict[str, tuple[Callable[[Yaml], object], str]] = {
    "unknown field": (entry(boxx=1), r"annotations\[1\]: unknown field 'boxx'.*did you mean 'box'"),
    "missing field": (
        lambda c: c["annotations"][1].pop("class"),
        r"annotations\[1\]: field 'class' is missing",
    ),
    "format": (lambda c: c.update(format="x"), r"format: is 'x', expected 'syncl-annotations-1'"),
    "no list": (lambda c: c.update(annotations={}), r"annotations: is \{\}, expected a list"),
    "frame": (
        entry(frame="00001"),
        r"\[1\]\.frame: .* no frame '00001'; did you mean '000001'",
    ),
    "frame a number": (entry(frame=1), r"\[1\]\.frame: .*frames are named by texts"),
    "nan": (entry(box=[1, 2, 3, 4, 5, 6, None]), r"\[1\]\.box: holds None; metres and radians are finite"),
    "short box": (entry(box=[1, 2, 3]), r"\[1\]\.box: is \[1, 2, 3\], expected \[x, y, z, length"),
    "size": (entry(box=[1, 2, 3, 4, 0, 6, 0]), r"\[1\]\.box: has size \[4, 0, 6\]; .* must be positive"),
    "track": (entry(track=None), r"\[1\]\.track: is None, expected a text or a whole number"),
    "class unknown": (
        entry(**{"class": "vann", "track": "new"}),
        r"\[1\]\.class: 'vann' is none of.*did you mean 'van'",
    ),
    "annotated frames": (lambda c: c.update(frames=["000001"]), r"is not among the annotated ones"),
    "frames that are none": (
        lambda c: c.update(frames=["x"]),
        r"frames\[0\]: .* has no frame 'x'",
    ),
}


@pytest.fixture
def recording(recordings: Path, tmp_path: Path) -> Path:
    """A recording whose images are those of another, and whose annotations may be changed."""
    folder = next(path.parent for path in sorted(recordings.glob("*/rig.yaml")))
    (tmp_path / "rig").mkdir()
    for name in ("rig.yaml", "annotations.json"):
        (tmp_path / "rig" / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "rig" / "images").mkdir()
    for camera in (folder / "images").iterdir():
        (tmp_path / "rig" / "images" / camera.name).mkdir()
        for image in camera.iterdir():
            (tmp_path / "rig" / "images" / camera.name / image.name).touch()
    (tmp_path / "rig" / "dataset.yaml").write_text(DESCRIPTION)
    return tmp_path / "rig"


@pytest.mark.parametrize("case", [*BAD_ANNOTATIONS, "class changes", "track twice"])
def test_bad_annotations_are_named(case: str, recording: Path):
    path = recording / "annotations.json"
    content = json.loads(path.read_text())
    first, second = content["annotations"][:2]
    if case == "class changes":
        other = "van" if first["class"] != "van" else "person"
        second |= {"track": first["track"], "class": other, "frame": "000002"}
        words = rf"\[1\]\.class: track '{first['track']}' is '{other}' here and .* one class"
    elif case == "track twice":
        second |= {name: first[name] for name in ("frame", "track", "class")}
        words = rf"track '{first['track']}' has a box in frame '000000' already, annotations\[0\]"
    else:
        change, words = BAD_ANNOTATIONS[case]
        change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SynclError, match=words) as caught:
        read_ground_truth(recording, "v1.0-mini", "all")
    assert str(path) in str(caught.value)


def test_frames_that_nobody_annotated_are_left_out(recording: Path):
    path = recording / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["frame"] != "000001"]
    path.write_text(json.dumps(content | {"frames": ["000000", "000002"]}))
    index = open_nuscenes(recording, "v1.0-mini")
    assert [index.sample_token(row) for row in range(2)] == ["rig/000000", "rig/000002"]
    assert index.sample_count == 2


@pytest.mark.parametrize(
    "name",
    [
        "mutr3d_detr3d_r101_900x1600",
        "pf-track_petr_v99_320x800",
        "bevdepth_r50_256x704",
        "dqtrack_detr3d_r101_900x1600",
        "detr3d_synthetic",
    ],
)
def test_recipes_fit_own_classes(name: str, yard: Path):
    recipe, dataset = find_recipe(name), open_nuscenes(yard, "own").dataset
    fitted = with_own_classes(recipe, dataset).model
    assert fitted.detector.classes == CLASSES
    assert getattr(fitted.tracker, "untracked", ()) == ()
    assert with_own_classes(recipe, NUSCENES) is recipe


@pytest.mark.parametrize("detector", ["detr3d", "petr", "streampetr"])
def test_classes_that_are_alike_begin_with_the_rows_of_another_model(detector: str, tmp_path: Path):
    """By name, or as `like` says; a class that is like none begins anew, and nothing else is lost."""
    given = recipe_of(detector, ("car", "bus", "pedestrian"))
    save_model(tmp_path / "given.safetensors", given.model.build().state_dict(), given.model)
    # As many classes as before, so that only names tell whose rows are whose.
    own = recipe_of(detector, ("van", "tram", "bus"))
    tracker = own.model.build()
    before = {name: tensor.clone() for name, tensor in tracker.state_dict().items()}
    names = own.model.detector.classes
    ranges_m = dict.fromkeys(names, 50.0)
    rows = class_rows(own, DatasetDescription("own", names, names, ranges_m, {}, like={"van": "car"}))
    heads = {f"detector.class_branches.0.6.{kind}" for kind in ("weight", "bias")}
    assert heads <= set(rows.axes)
    report = initialise_from(tracker, tmp_path / "given.safetensors", own_data=rows)
    weights = read_model_file(tmp_path / "given.safetensors")[0]
    for name, filled in tracker.state_dict().items():
        if name in rows.axes:
            filled, begun, known = (
                t.movedim(rows.axes[name], 0) for t in (filled, before[name], weights[name])
            )
            assert torch.equal(filled, torch.stack((known[0], begun[1], known[1])))
        else:
            assert torch.equal(filled, weights[name])
    assert report.fresh == report.unused == ()
    assert rows.sources(("car", "van")) == {0: 1}, "its own name goes before what it is like"


def recipe_of(detector: str, classes: tuple[str, ...]) -> Recipe:
    config = dataclasses.replace(DETECTORS[detector], classes=classes)
    return dataclasses.replace(
        find_recipe("detr3d_synthetic"), model=ModelConfig(InputConfig((64, 96)), config, SingleFrameConfig())
    )


SMALL = (
    "model.input.image_size=[64,96]",
    "model.detector.queries=32",
    "model.detector.layers=2",
    "training.steps=1",
    "training.data.batch_size=1",
    "training.data.clip_length=2",
    "model.tracker.birth_score=0.0",
    "model.tracker.keep_score=0.0",
    "model.tracker.output_score=0.0",
)


@pytest.mark.parametrize("kind", ["tables", "recordings"])
def test_own_data_are_trained_on_tracked_scored_and_drawn(
    kind: str, yard: Path, recordings: Path, tmp_path: Path, capsys: Any
):
    """Four classes, seven cameras; from tables, and from recordings with annotations."""
    data, version = (yard, "own") if kind == "tables" else (recordings, "v1.0-mini")
    train("mutr3d_detr3d_synthetic_plain", data=data, version=version, output=tmp_path / "run", set=SMALL)
    assert "classes of synthetic yard: van, lorry, cycle, person" in capsys.readouterr().err
    results = tmp_path / "results.json"
    track(tmp_path / "run", data=data, version=version, output=results)
    written = json.loads(results.read_text())["results"]
    assert {box["tracking_name"] for boxes in written.values() for box in boxes} <= set(CLASSES)
    assert any(written.values())
    metrics = evaluate(results, data=data, version=version)
    assert "tracking, synthetic yard (by tracking_nips_2019)" in capsys.readouterr().out
    assert tuple(metrics.curves) == CLASSES
    (drawn,) = render(
        results, data=data, version=version, output=tmp_path / "frame.png", frame=2, min_score=0.0
    )
    assert drawn.path.stat().st_size > 1000


def test_a_model_of_other_classes_is_refused(yard: Path, tmp_path: Path):
    with pytest.raises(SynclError, match=r"this model knows car, .* have van, lorry, .*: no class"):
        track(Path("demo"), data=yard, version="own", output=tmp_path / "x.json")
