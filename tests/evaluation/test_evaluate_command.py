import json
import subprocess
import sys
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from syncl.commands.evaluate import evaluate
from syncl.errors import SynclError
from syncl.evaluation import TrackingMetrics
from syncl.evaluation.metric_tables import tracking_tables
from syncl.rendering import metric_figures


@pytest.mark.parametrize("task", ["tracking", "detection"])
def test_writes_the_official_keys_and_prints_tables(
    dataset: Any, task: Any, capsys: pytest.CaptureFixture[str]
):
    results = dataset.write(dataset.good(task))
    output, details = dataset.root / "out" / "metrics.json", dataset.root / "details.json"
    evaluate(results, data=dataset.root, task=task, output=output, details=details)
    metrics = json.loads(output.read_text())
    keys = {
        "tracking": {"label_metrics", "amota", "amotp", "recall", "motar", "gt", "mota", "ids", "lgd"},
        "detection": {
            "label_aps",
            "mean_dist_aps",
            "mean_ap",
            "label_tp_errors",
            "tp_errors",
            "tp_scores",
            "nd_score",
        },
    }
    assert keys[task] | {"eval_time", "cfg", "meta"} <= metrics.keys()
    assert ("car" if task == "tracking" else "car:0.5") in json.loads(details.read_text())
    printed = capsys.readouterr().out
    assert ("AMOTA 1.000" if task == "tracking" else "mAP 0.100") in printed
    if task == "tracking":
        assert "not part of the official set" in printed
        assert metrics["not_official"]["hota"] == 1


def test_metrics_are_not_written_over_results_or_one_another(dataset: Any):
    results = dataset.write(dataset.good("tracking"))
    before = results.read_bytes()
    metrics = dataset.root / "metrics.json"
    for output, details in ((results, None), (None, results), (metrics, metrics)):
        with pytest.raises(SynclError, match="would be written over the results or one another"):
            evaluate(results, data=dataset.root, output=output, details=details, overwrite=True)
    assert results.read_bytes() == before and not metrics.exists()


def test_the_overall_row_has_the_sum_of_objects_as_of_all_counts(
    dataset: Any, capsys: pytest.CaptureFixture[str]
):
    metrics = evaluate(dataset.write(dataset.good("tracking")), data=dataset.root)
    assert isinstance(metrics, TrackingMetrics)
    capsys.readouterr()
    counted = {name: {"car": 3.0, "truck": 4.0}.get(name, nan) for name in metrics.curves}
    table = tracking_tables(replace(metrics, label_metrics={**metrics.label_metrics, "gt": counted}))[1]
    Console().print(table)
    (overall,) = (line for line in capsys.readouterr().out.splitlines() if "overall" in line)
    assert overall.split()[1] == "7"


def test_names_of_files_and_scenes_are_no_markup(dataset: Any, capsys: pytest.CaptureFixture[str]):
    output = dataset.root / "of [bold] and [" / "b] :car:" / "metrics.json"
    evaluate(dataset.write(dataset.good("tracking")), data=dataset.root, output=output)
    assert f"wrote {output}\n" in capsys.readouterr().out


def test_causes_are_printed_and_written(dataset: Any, capsys: pytest.CaptureFixture[str]):
    content = dataset.good("tracking")
    content["results"]["s0"] = []
    tracks = dataset.write(content)
    detections = dataset.write(dataset.good("detection"), "detections.json")
    output = dataset.root / "metrics.json"
    metrics = evaluate(tracks, data=dataset.root, detections=detections, output=output)
    assert isinstance(metrics, TrackingMetrics) and metrics.causes is not None
    assert metrics.causes.misses.total == metrics.causes.misses.by_cause["born_late"] == 1
    printed = capsys.readouterr().out
    assert "misses: 1 of 3 objects, by cause" in printed and "born late" in printed
    assert "false boxes: 0 of 2 boxes" in printed and "misses by distance and speed" in printed
    written = json.loads(output.read_text())["not_official"]["causes"]
    assert written["misses"]["causes"]["born_late"]["detected"] == 1
    evaluate(tracks, data=dataset.root, causes=True, min_score=0.95)
    printed = capsys.readouterr().out
    assert "misses: 3 of 3 objects" in printed and "low score" in printed
    assert "causes without detections" in printed


def test_causes_say_what_they_cannot_use(dataset: Any):
    tracks, root = dataset.write(dataset.good("tracking")), dataset.root
    detections = dataset.write(dataset.good("detection"), "detections.json")
    with pytest.raises(SynclError, match="--causes, --detections: sort the failures of tracks"):
        evaluate(detections, data=root, task="detection", detections=detections)
    with pytest.raises(SynclError, match=r"--min-score.*add --causes"):
        evaluate(tracks, data=root, min_score=0.1)
    with pytest.raises(SynclError, match="--min-score: nan"):
        evaluate(tracks, data=root, causes=True, min_score=float("nan"))
    with pytest.raises(SynclError, match="--causes, --detections: sort the failures of tracks"):
        evaluate(detections, data=root, task="detection", causes=True)
    with pytest.raises(SynclError, match=r"nowhere.json: there is no such file.*--task detection"):
        evaluate(tracks, data=root, causes=True, detections=root / "nowhere.json")
    with pytest.raises(SynclError, match=r"detections.*detection_name.*the detector's own boxes"):
        evaluate(tracks, data=root, causes=True, detections=tracks)
    other = dataset.good("detection")
    other["results"] = {"elsewhere": []}
    output = root / "metrics.json"
    with pytest.raises(SynclError, match=r"'elsewhere'.*of the same samples"):
        wrong = dataset.write(other, "other.json")
        evaluate(tracks, data=root, causes=True, detections=wrong, output=output)
    assert not output.exists()


def test_forecasts_of_tracks_are_read_over(dataset: Any):
    content = dataset.good("tracking")
    plain, foreseen = dataset.root / "plain.json", dataset.root / "foreseen.json"
    evaluate(dataset.write(content), data=dataset.root, output=plain)
    content["meta"]["forecast_step_s"] = 0.5
    for boxes in content["results"].values():
        for box in boxes:
            box["forecast"] = [[1.0, 2.0], [3.0, 4.0]]
    evaluate(dataset.write(content), data=dataset.root, output=foreseen)
    without, having = json.loads(plain.read_text()), json.loads(foreseen.read_text())
    for metrics in (without, having):
        del metrics["eval_time"], metrics["meta"]
    assert without == having and having["amota"] == 1


def test_no_metrics_file_is_left_after_an_error(dataset: Any):
    content = dataset.good("tracking")
    content["results"]["s1"][0]["size"] = [0, 0, 0]
    output = dataset.root / "out" / "metrics.json"
    with pytest.raises(SynclError, match="sample s1, box 0: field 'size'"):
        evaluate(dataset.write(content), data=dataset.root, output=output)
    assert not output.parent.exists()


def test_existing_files_are_kept_unless_asked(dataset: Any):
    output = dataset.root / "metrics.json"
    output.write_text("precious")
    results = dataset.write(dataset.good("tracking"))
    with pytest.raises(SynclError, match="already exists"):
        evaluate(results, data=dataset.root, output=output)
    assert output.read_text() == "precious"
    evaluate(results, data=dataset.root, output=output, overwrite=True)
    assert json.loads(output.read_text())["amota"] == 1


@pytest.mark.parametrize(("task", "count"), [("tracking", 3), ("detection", 5)])
def test_plots(dataset: Any, task: Any, count: int, monkeypatch: pytest.MonkeyPatch):
    """Of two metrics or two classes, and all of them together; a page takes a fifth of a second."""
    whole = metric_figures._write_official
    first = lambda draws, *more: whole(dict(list(draws.items())[: count - 1]), *more)  # noqa: E731
    monkeypatch.setattr(metric_figures, "_write_official", first)
    plots: Path = dataset.root / "plots"
    evaluate(dataset.write(dataset.good(task)), data=dataset.root, task=task, plots=plots)
    files = list(plots.iterdir())
    assert len(files) == count
    assert all(file.read_bytes().startswith(b"%PDF") for file in files)


def test_metrics_need_neither_torch_nor_pandas(dataset: Any):
    results = dataset.write(dataset.good("tracking"))
    code = f"""
import sys
for name in ("torch", "pandas", "motmetrics", "nuscenes", "sklearn", "matplotlib", "cv2"):
    sys.modules[name] = None
from pathlib import Path
from syncl.evaluation import evaluate_tracking
print(evaluate_tracking(Path({str(results)!r}), Path({str(dataset.root)!r}), "v1.0-mini", "mini_val").amota)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.0"


def test_the_command_module_is_light():
    heavy = {"numpy", "scipy", "rich", "torch"}
    code = f"import sys; import syncl.commands.evaluate; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
