"""What belongs to a run is found in folders and files, and plots are made of it."""

import json
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest

from syncl.commands.plot import plot
from syncl.commands.report import report
from syncl.errors import SynclError
from syncl.rendering.report.run_files import UNKNOWN, read_runs, settings_of

CLASSES = ("car", "pedestrian")
RECALLS = np.linspace(0.1, 1, 40)[::-1]


def metrics(amota: float = 0.5) -> dict:
    names = ("amota", "amotp", "recall", "mota", "gt", "ids")
    return {"label_metrics": {name: dict.fromkeys(CLASSES, amota) for name in names}, "amota": amota}


def details() -> dict:
    values = np.where(RECALLS <= 0.6, 0.7 * RECALLS, np.nan).tolist()
    return {name: {"recall_hypo": RECALLS.tolist(), "mota": values, "motar": values} for name in CLASSES}


RECIPE = {
    "type": "Recipe",
    "name": "petr_small",
    "model": {
        "detector": {"type": "PetrConfig"},
        "tracker": {"type": "Mutr3dConfig"},
        "input": {"image_size": [128, 352]},
    },
    "training": {
        "seed": 7,
        "steps": 300,
        "strategy": {"type": "SynclConfig"},
        "optimiser": {"learning_rate": 0.0002},
        "data": {"batch_size": 2, "clip_length": 3},
    },
}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "syncl_seed7"
    write(run / "metrics.json", metrics())
    write(run / "details.json", details())
    write(run / "results.json", {"meta": {}, "results": {}})
    write(run / "recipe.json", RECIPE)
    write(run / "log.jsonl", '{"step": 25, "group": "train", "total": 40.0}\n{"step": 50, "gro')
    write(run / "tracks.mp4", "not looked into here")
    write(run / "other.mp4", "")
    write(
        run / "notes.json", {"commit": "abc", "hardware": {"device": "one GPU", "cores": 8}, "fed": "by hand"}
    )
    header = json.dumps({"__metadata__": {"notes": json.dumps({"minutes": "12.5", "new": ""})}}).encode()
    (run / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return run


def test_a_folder_gives_what_it_has(folder: Path):
    (run,) = read_runs([str(folder)])
    assert run.name == "syncl_seed7" and run.metrics["amota"] == 0.5
    assert set(run.files) == {
        *("results", "metrics", "details", "recipe", "log", "model", "notes", "video"),
    }
    assert run.files["video"].name == "tracks.mp4"
    # The last line was cut off in the middle of being written.
    assert run.log == ({"step": 25, "group": "train", "total": 40.0},)
    settings = settings_of(run)
    expected = {
        "recipe": "petr_small",
        "strategy": "Syncl",
        "detector": "Petr",
        "tracker": "Mutr3d",
        "image size (h, w)": "128, 352",
        "seed": "7",
        "learning rate": "0.0002",
        "training minutes": "12.5",
        "commit": "abc",
        "hardware": "device one GPU, cores 8",
        "fed": "by hand",
        "precision": UNKNOWN,
        "initialised from": UNKNOWN,
    }
    assert {label: settings[label] for label in expected} == expected


def test_a_log_may_hold_figures_that_are_no_numbers(folder: Path, tmp_path: Path):
    entries = [{"step": n, "group": "train", "total": 3.0 if n % 2 else float("nan")} for n in range(4)]
    entries.append({"step": 4, "group": "validation", "amota": float("nan")})
    lines = [orjson.dumps(entry) for entry in entries]
    assert b"null" in lines[0]
    (folder / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (run,) = read_runs([str(folder)])
    assert [entry["total"] for entry in run.log[1:4:2]] == [3.0, 3.0]
    assert np.isnan([run.log[0]["total"], run.log[4]["amota"]]).all()
    (folder / "results.json").unlink()
    report((str(folder),), output=tmp_path / "report.html")
    assert "<figcaption>loss</figcaption><svg" in (tmp_path / "report.html").read_text()


def test_names_and_paths_may_hold_equals_signs(folder: Path):
    moved = folder.rename(folder.parent / "rate=0.1")
    for text, name in ((f"{moved}", "rate=0.1"), (f"mine={moved}", "mine"), (f"k=5={moved}", "k=5")):
        (run,) = read_runs([text])
        assert run.name == name and run.metrics["amota"] == 0.5
    with pytest.raises(SynclError, match=r"called 'rate=0\.1'; .* other=.*/rate=0\.1$"):
        read_runs([str(moved), str(moved)])


def test_paths_may_hold_commas(folder: Path):
    moved = folder.rename(folder.parent / "lr=0.1,decay=0")
    for text, name in ((f"{moved}", "lr=0.1,decay=0"), (f"a=b={moved}", "a=b")):
        (run,) = read_runs([text])
        assert run.name == name and run.files["recipe"] == moved / "recipe.json"
    files = f"{moved.parent}/./lr=0.1,decay=0/metrics.json"
    (run,) = read_runs([files])
    assert set(run.files) == {"metrics"}


def test_files_are_known_by_what_they_hold(folder: Path, tmp_path: Path):
    for name, kind in (("results", "r"), ("metrics", "m"), ("details", "d"), ("recipe", "c")):
        (folder / f"{name}.json").rename(tmp_path / f"{kind}.json")
    files = ",".join(str(tmp_path / f"{kind}.json") for kind in "dmrc")
    (run,) = read_runs([f"mine={files}"])
    assert run.name == "mine" and run.metrics and run.details and run.recipe["name"] == "petr_small"
    assert run.files["results"] == tmp_path / "r.json"
    boxes = {"meta": {}, "results": {"s": [{"sample_token": "s", "detection_name": "car"}]}}
    (run,) = read_runs([f"{tmp_path / 'r.json'},{write(tmp_path / 'b.json', boxes)}"])
    assert run.files["detections"] == tmp_path / "b.json" and run.files["results"] == tmp_path / "r.json"
    (run,) = read_runs([f"{tmp_path / 'm.json'}"])
    assert run.name == "m" and run.details is None and settings_of(run)["seed"] == UNKNOWN


def test_a_record_of_an_experiment_knows_commit_and_hardware(folder: Path, tmp_path: Path):
    record = {
        "experiment": "pilot",
        "arm": "syncl",
        "metrics": metrics(0.25),
        "recipe": RECIPE,
        "commit": "1234",
        "hardware": {"device": "x86_64", "cores": 2},
        "synthetic": True,
    }
    path = write(tmp_path / "syncl_seed7.json", record)
    (run,) = read_runs([str(path)])
    assert run.metrics["amota"] == 0.25
    settings = settings_of(run)
    assert settings["commit"] == "1234" and settings["hardware"] == "device x86_64, cores 2"
    (folder / "notes.json").unlink()
    (run,) = read_runs([f"{folder},{path}"])
    assert run.metrics["amota"] == 0.5 and settings_of(run)["commit"] == "1234"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "{", r"metrics\.json: not valid JSON"),
        ("metrics.json", "[1]", r"metrics\.json: holds a list, expected an object"),
        ("metrics.json", {"label_aps": {}}, r"metrics\.json: detection metrics; a report is of tracking"),
        ("metrics.json", {"label_metrics": {}}, r"field 'label_metrics' has no 'amota' per class"),
        (
            "metrics.json",
            {"label_metrics": {"amota": {"car": "0.5"}}},
            r"metrics\.json: label_metrics\.amota: expected a number or null for each class",
        ),
        ("metrics.json", metrics() | {"not_official": 0}, r"metrics\.json: not_official: expected an object"),
        ("metrics.json", metrics() | {"cfg": {"dist_th_tp": "2"}}, r"cfg\.dist_th_tp: expected a number"),
        (
            "details.json",
            {"car": {"recall_hypo": -1.0}},
            r"details\.json: car\.recall_hypo: expected a list of numbers, null where unknown",
        ),
        ("details.json", {"car": {"mota": []}}, r"details\.json: class 'car' has no 'recall_hypo'"),
        ("log.jsonl", '{"step": 1}\n{}\n', r"log\.jsonl: line 1: no entry of a training log"),
        ("model.safetensors", "short", r"model\.safetensors: not a complete model file"),
    ],
)
def test_damaged_files_are_named(folder: Path, name: str, content: object, message: str):
    write(folder / name, content)
    with pytest.raises(SynclError, match=message):
        read_runs([str(folder)])


def test_bad_requests_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(SynclError, match="name at least one run"):
        read_runs([])
    with pytest.raises(SynclError, match=r"nowhere: there is no such file or folder"):
        read_runs([str(tmp_path / "nowhere")])
    with pytest.raises(SynclError, match=r"'a=' names no path"):
        read_runs(["a="])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SynclError, match=r"empty' has neither results\.json nor metrics\.json; write them"):
        read_runs([str(tmp_path / "empty")])
    with pytest.raises(SynclError, match=r"two runs are called 'syncl_seed7'.*other=.*syncl_seed7"):
        read_runs([str(folder), str(folder)])
    other = write(tmp_path / "other.json", metrics())
    with pytest.raises(SynclError, match=r"metrics\.json and .*other\.json both hold the metrics"):
        read_runs([f"{folder},{other}"])
    strange = write(tmp_path / "strange.json", {"a": 1})
    (tmp_path / "results.feather").write_bytes(b"ARROW1")
    with pytest.raises(SynclError, match=r"results\.feather: a report takes results as JSON; write them"):
        read_runs([f"{tmp_path / 'results.feather'}"])
    with pytest.raises(SynclError, match=r"strange\.json: holds nothing known of a run \(keys a\)"):
        read_runs([str(strange)])


def test_plots_of_several_runs(folder: Path, tmp_path: Path, capsys):
    output = tmp_path / "plots"
    plot((str(folder), f"again={folder}"), output=output)
    assert sorted(file.name for file in output.iterdir()) == ["classes.png", "mota.png", "motar.png"]
    assert "mota.png" in capsys.readouterr().out
    for file in output.iterdir():
        assert cv2.imread(str(file)).std() > 10
    before = (output / "mota.png").read_bytes()
    with pytest.raises(SynclError, match=r"mota\.png: this file already exists"):
        plot((str(folder),), output=output)
    assert (output / "mota.png").read_bytes() == before
    plot((str(folder),), output=tmp_path / "drawn", format="svg", curves=("mota",), bars=())
    assert [file.name for file in (tmp_path / "drawn").iterdir()] == ["mota.svg"]


def test_plots_say_what_they_lack(folder: Path, tmp_path: Path):
    (folder / "details.json").unlink()
    output = tmp_path / "plots"
    with pytest.raises(SynclError, match=r"syncl_seed7: no details\.json.*syncl evaluate --details"):
        plot((str(folder),), output=output)
    plot((str(folder),), output=output, curves=())
    assert [file.name for file in output.iterdir()] == ["classes.png"]
    (folder / "metrics.json").unlink()
    with pytest.raises(SynclError, match=r"syncl_seed7: no metrics\.json; write it with syncl evaluate"):
        plot((str(folder),), output=tmp_path / "more", curves=())
