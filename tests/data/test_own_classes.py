"""Classes, ranges and categories of one's own: `dataset.yaml`, tables, recordings with annotations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from own_world import perfect
from syncl.commands.evaluate import evaluate
from syncl.commands.prepare import prepare
from syncl.data.dataset_file import read_description
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.splits import own_split
from syncl.data.nuscenes.tables.cache import fingerprint
from syncl.data.recording import Moment, Rig
from syncl.data.recording.annotations_file import read_annotations_file
from syncl.data.synthetic.own_data import DESCRIPTION
from syncl.dataset_description import NUSCENES, Measures
from syncl.errors import SynclError
from syncl.evaluation import evaluate_detection, evaluate_tracking

CLASSES = ("van", "lorry", "cycle", "person")
Yaml = dict[str, Any]


def described(change: Callable[[Yaml], object], folder: Path) -> Path:
    content = yaml.safe_load(DESCRIPTION)
    change(content)
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


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
