import copy
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from syncl.errors import SynclError
from syncl.rendering import metric_figures
from syncl.rendering.diagnosis_figures import MatchingCosts, plot_costs
from syncl.rendering.figures import add_legend, new_figure, plain
from syncl.rendering.metric_figures import _curve, plot_class_bars, plot_recall_curves

RECALLS = np.linspace(0.1, 1, 40).round(12)[::-1]
CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")


def details(best_recall=0.7, height=0.9):
    """As the official file has it: recall from 1 down to 0.1, nan where it is not achieved."""
    motar = np.where(best_recall >= RECALLS, height - 0.4 * RECALLS, np.nan)
    return {name: {"recall_hypo": RECALLS.tolist(), "motar": motar.tolist()} for name in CLASSES}


def label_metrics(scale=1.0):
    values = {name: scale * (number + 1) / 10 for number, name in enumerate(CLASSES)}
    return {
        "amota": {**values, "trailer": float("nan")},
        "recall": values,
        "ids": dict.fromkeys(CLASSES, 7.0),
    }


def svg_text(path):
    # matplotlib draws letters as shapes and keeps the words as comments.
    return path.read_text()


def test_curves_run_up_to_the_achieved_recall():
    recall, values = _curve("run", details(0.7), "car", "motar")
    assert (np.diff(recall) > 0).all() and recall[0] == 0.1 and recall[-1] <= 0.7
    np.testing.assert_allclose(values, 0.9 - 0.4 * recall)


def test_one_panel_a_class_and_one_line_a_run(tmp_path):
    target = tmp_path / "new" / "curves.svg"
    plot_recall_curves({"baseline": details(0.5), "SynCL": details(0.8)}, target)
    content = svg_text(target)
    ElementTree.parse(target)
    for words in (*CLASSES, "baseline", "SynCL", "MOTAR"):
        assert f"<!-- {words} -->" in content


def test_runs_without_the_first_class_are_in_the_legend(tmp_path):
    second = details()
    del second["bicycle"]
    plot_recall_curves({"baseline": details(), "SynCL": second}, tmp_path / "curves.svg")
    content = svg_text(tmp_path / "curves.svg")
    assert content.count("<!-- SynCL -->") == content.count("<!-- baseline -->") == 1


def test_bars_name_classes_and_values(tmp_path):
    plot_class_bars({"baseline": label_metrics(), "SynCL": label_metrics(1.1)}, tmp_path / "bars.svg")
    content = svg_text(tmp_path / "bars.svg")
    for words in ("AMOTA", "identity switches", "0.30", "0.33", "7", "trailer"):
        assert f"<!-- {words} -->" in content


def test_names_of_runs_are_shown_as_they_are(tmp_path, recwarn):
    names = ("_old", "$x_1$", r"a$\foo$", "1 $", 'ä <b> & "q"=1')
    details_of = {name: details() for name in names}
    plot_recall_curves(details_of, tmp_path / "curves.svg")
    plot_class_bars(dict.fromkeys(names, label_metrics()), tmp_path / "bars.svg")
    figure, panels = new_figure(1)
    for name in names:
        panels[0].plot([0], [0], label=plain(name))
    add_legend(figure, panels, 5)
    shown = figure.legends[0].get_texts()
    assert len(shown) == len(names) and not recwarn.list
    for text, name in zip(shown, names):
        drawn, is_mathematics = text._preprocess_math(text.get_text())
        assert not is_mathematics and drawn.removeprefix("\u200b") == name
    for file in ("curves.svg", "bars.svg"):
        assert "_old -->" in svg_text(tmp_path / file)


def test_bars_of_zeros_stand_on_the_axis(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(metric_figures, "save_figure", lambda figure, *_: kept.append(figure))
    zeros = {metric: dict.fromkeys(CLASSES, value) for metric, value in (("ids", 0.0), ("recall", np.nan))}
    plot_class_bars({"run": zeros | {"amota": label_metrics()["amota"]}}, tmp_path / "bars.png")
    ranges = [panel.get_ylim() for panel in kept[0].axes]
    assert ranges[1:] == [(0, 1), (0, 1)] and ranges[0][0] == 0 and 0.7 < ranges[0][1] < 0.9


def test_pictures_are_written_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    plot_recall_curves({"run": details()}, tmp_path / "curves.png")
    plot_class_bars({"run": label_metrics()}, tmp_path / "bars.png")
    for name in ("curves.png", "bars.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture.shape[1] == 1440 and picture.std() > 10


def test_a_class_never_matched_and_a_class_of_one_run_only(tmp_path):
    first, second = details(), details()
    first["car"]["recall_hypo"] = first["car"]["motar"] = [float("nan")] * 40
    del second["bus"]
    plot_recall_curves({"a": first, "b": second}, tmp_path / "curves.svg")
    assert "<!-- bus -->" in svg_text(tmp_path / "curves.svg")


def test_bad_input_is_named(tmp_path):
    target = tmp_path / "plot.png"
    with pytest.raises(SynclError, match="nothing to plot"):
        plot_recall_curves({}, target)
    with pytest.raises(SynclError, match="nothing to plot"):
        plot_class_bars({}, target)
    with pytest.raises(SynclError, match=r"run: class bicycle has no 'mata'; there are motar, recall_hypo"):
        plot_recall_curves({"run": details()}, target, metric="mata")
    with pytest.raises(SynclError, match=r"run: no metric 'mata'; there are amota, ids, recall"):
        plot_class_bars({"run": label_metrics()}, target, metrics=("mata",))
    short = copy.deepcopy(details())
    short["car"]["motar"] = [0.5]
    with pytest.raises(SynclError, match=r"run: class car: 1 values of 'motar' for 40 recalls"):
        plot_recall_curves({"run": short}, target)
    with pytest.raises(SynclError, match=r"plot\.bmp: plots are written as \.png, \.svg, \.pdf"):
        plot_recall_curves({"run": details()}, tmp_path / "plot.bmp")
    target.write_bytes(b"earlier")
    with pytest.raises(SynclError, match=r"plot\.png: this file already exists"):
        plot_class_bars({"run": label_metrics()}, target)
    assert target.read_bytes() == b"earlier"


@pytest.mark.parametrize("checkpoints", [1, 3])
def test_legends_are_not_wider_than_the_figure(checkpoints):
    costs = np.linspace(0.0, 4.0, 40)
    mixture = np.full(2, 0.5), np.array([1.0, 3.0]), np.full(2, 0.2)
    found = [MatchingCosts("demo", costs, costs < 1, *mixture)] * checkpoints
    figure = plot_costs(found)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 5 and legend.get_window_extent().x1 <= figure.bbox.x1
