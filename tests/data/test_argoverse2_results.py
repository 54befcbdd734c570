"""Results in Argoverse 2's feather layout: what is written, read back, scored, and refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

from argoverse2_logs import LOG, SWEEPS, write_tables, written_log
from syncl.commands.evaluate import evaluate
from syncl.commands.prepare import prepare
from syncl.commands.render import render
from syncl.commands.track import track
from syncl.commands.train import train
from syncl.data.argoverse2.argoverse2_classes import ARGOVERSE2
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.own_results import own_layout
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.errors import SynclError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("results"), written_log())


@pytest.fixture(scope="module")
def index(root: Path) -> NuScenesIndex:
    return open_nuscenes(root, "v1.0-mini", cache=False)


def perfect(index: NuScenesIndex, task: str = "tracking") -> TrackingSubmission | DetectionSubmission:
    """Every annotated object, at the annotated place, but for the last sweep, where nothing is found."""
    tokens = [index.sample_token(row) for row in range(index.sample_count)]
    kind = TrackingSubmission if task == "tracking" else DetectionSubmission
    submission = kind(tokens, dataset=ARGOVERSE2)
    for row, token in enumerate(tokens):
        sample = index.sample(row)
        known = sample.annotations
        chosen = slice(0) if row == 2 else slice(None)
        names = tuple(ARGOVERSE2.classes[label] for label in known.labels[chosen])
        identities = tuple(f"track {number}" for number in known.identities[chosen])
        scores = np.linspace(0.9, 0.5, len(names))
        objects = FrameObjects(known.boxes[chosen], names, scores, identities)
        submission.add(token, objects, sample.global_from_vehicle)
    return submission


def write(index: NuScenesIndex, path: Path, task: str = "tracking") -> Path:
    layout = own_layout(index.dataroot, path)
    assert layout is not None
    layout.write(index, perfect(index, task).written, path, False)
    return path


def test_a_table_of_tracks_has_the_boxes_in_the_frame_they_were_annotated_in(
    index: NuScenesIndex, tmp_path: Path
) -> None:
    table = feather.read_table(write(index, tmp_path / "tracks.feather")).to_pydict()
    assert table["log_id"] == [LOG] * 3 and table["timestamp_ns"] == [SWEEPS[0], SWEEPS[1], SWEEPS[1]]
    assert table["category"] == ["BUS", "BUS", "DOG"] and len(set(table["track_uuid"])) == 2
    annotated = written_log()["annotations.feather"]
    for name in ("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m", "qw", "qx", "qy", "qz"):
        rows = [0, 1, 3]
        np.testing.assert_allclose(table[name], [annotated[name][row] for row in rows], atol=1e-9)
    detections = feather.read_table(write(index, tmp_path / "boxes.feather", "detection"))
    assert set(table) - set(detections.column_names) == {"track_uuid"}


def test_a_table_scores_as_the_same_results_in_json_do(
    index: NuScenesIndex, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perfect(index).save(tmp_path / "tracks.json")
    ours = evaluate(tmp_path / "tracks.json", data=root).summary()
    table = write(index, tmp_path / "tracks.feather")
    found = evaluate(table, data=root, output=tmp_path / "metrics.json").summary()
    for name in ("amota", "amotp", "mota", "recall", "ids"):
        assert found[name] == pytest.approx(ours[name], nan_ok=True)
    # Two of three buses; the dog has no lidar point, and is not scored.
    assert found["label_metrics"]["recall"]["BUS"] == pytest.approx(2 / 3)
    boxes = evaluate(write(index, tmp_path / "boxes.feather", "detection"), data=root, task="detection")
    assert boxes.summary()["label_aps"]["BUS"]["0.5"] == pytest.approx(0.66)
    assert "tracks.json" not in capsys.readouterr().err


def test_a_table_of_other_things_is_refused_by_column_and_row(
    index: NuScenesIndex, root: Path, tmp_path: Path
) -> None:
    whole = feather.read_table(write(index, tmp_path / "tracks.feather")).to_pydict()
    changes: dict[str, tuple[str, Any]] = {
        "no column 'score'": ("score", None),
        "'BUZ' is no class; did you mean 'BUS'": ("category", ["BUZ", "BUS", "DOG"]),
        "'other' is no log of split 'val'": ("log_id", ["other", LOG, LOG]),
        "row 1: 7 is no sweep of log": ("timestamp_ns", [SWEEPS[0], 7, SWEEPS[1]]),
        r"row 2: size \[10.0, 0.0, 3.5\]": ("width_m", [3.0, 3.0, 0.0]),
        "column 'score', row 0: nan": ("score", [float("nan"), 0.5, 0.5]),
        "column 'track_uuid' holds int64, expected texts": ("track_uuid", [1, 2, 3]),
    }
    for said, (name, values) in changes.items():
        table = {key: value for key, value in whole.items() if key != name}
        table |= {} if values is None else {name: values}
        feather.write_feather(pa.table(table), str(tmp_path / "bad.feather"))
        with pytest.raises(SynclError, match=said) as caught:
            evaluate(tmp_path / "bad.feather", data=root)
        assert "bad.feather" in str(caught.value)
    (tmp_path / "bad.feather").write_bytes(b"ARROW1")
    with pytest.raises(SynclError, match=r"bad.feather: no feather table"):
        evaluate(tmp_path / "bad.feather", data=root)
    nothing = {index.sample_token(row): b"[]" for row in range(3)}
    layout = own_layout(root, tmp_path / "none.feather")
    assert layout is not None
    layout.write(index, nothing, tmp_path / "none.feather", False)
    assert evaluate(tmp_path / "none.feather", data=root, task="detection").mean_ap == 0
    with pytest.raises(SynclError, match="exists"):
        write(index, tmp_path / "tracks.feather")


@pytest.mark.slow
def test_every_command_works_on_logs_as_on_tables(tmp_path: Path) -> None:
    world, run = tmp_path / "world", tmp_path / "run"
    generate_world(world, WorldConfig(1, 1, keyframes=4, width=96, layout="argoverse2"))
    prepare(world)
    changes = ("training.steps=2", "training.data.batch_size=1", "training.data.workers=0")
    changes += ("training.validate_every=2", "model.input.image_size=[64,96]")
    done = train("mutr3d_petr_synthetic", data=world, output=run, set=changes)
    assert done.recipe.model.detector.classes == ARGOVERSE2.classes
    for name in ("results.json", "results.feather"):
        track(run, data=world, output=run / name)
        evaluate(run / name, data=world)
        picture = run / f"{name}.png"
        render(run / name, data=world, output=picture, sheet=2, min_score=0.0)
        assert picture.stat().st_size > 10_000
