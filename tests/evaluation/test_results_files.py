"""Reading results: what is refused, and how clearly; what is accepted, and with which remark."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from syncl.data.nuscenes.results.result_files import read_frame_objects
from syncl.errors import SynclError
from syncl.evaluation import evaluate_detection, evaluate_tracking, read_results
from syncl.evaluation.ground_truth import read_ground_truth

NAN = float("nan")
TASKS = ("detection", "tracking")


def evaluate(dataset: Any, task: str, path: Path) -> Any:
    function = evaluate_detection if task == "detection" else evaluate_tracking
    return function(path, dataset.root, "v1.0-mini", "mini_val")


@pytest.mark.parametrize("task", TASKS)
def test_good_results_are_scored_without_remarks(dataset: Any, task: str, recwarn: pytest.WarningsRecorder):
    metrics = evaluate(dataset, task, dataset.write(dataset.good(task)))
    assert metrics.remarks == ()
    assert metrics.meta == {"use_camera": True}
    assert not recwarn.list
    score = metrics.label_aps["car"][2.0] if task == "detection" else metrics.label_metrics["amota"]["car"]
    assert score == pytest.approx(1)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("translation", [NAN, 0, 0], "is nan"),
        ("translation", [1, 2], "must be a list of 3 numbers"),
        ("translation", [1, 2, None], "must be a list of 3 numbers"),
        ("translation", ["1", 2, 3], "must be a list of 3 numbers"),
        ("translation", "here", "must be a list of 3 numbers"),
        ("translation", None, "must be a list of 3 numbers"),
        ("size", [NAN, 1, 1], "is nan"),
        ("size", [0, 1, 1], "must be positive"),
        ("size", [1, 1, -2], "must be positive"),
        ("rotation", [0, 0, 0, 0], "is the zero quaternion"),
        ("rotation", [NAN, 0, 0, 0], "is nan"),
        ("rotation", [1, 0, 0], "must be a list of 4 numbers"),
        ("velocity", [1, 0, 0], "must be a list of 2 numbers"),
        ("score", NAN, "must be a finite number"),
        ("score", "high", "must be a number, not 'high'"),
        ("score", None, "must be a number, not None"),
        ("name", "tank", "is 'tank'; known are"),
        ("sample_token", 3, "must be a string"),
    ],
)
def test_bad_values_name_sample_and_field(dataset: Any, task: str, field: str, value: Any, message: str):
    content = dataset.good(task)
    key = f"{task}_{field}" if field in ("score", "name") else field
    content["results"]["s1"].append(dataset.box(task, 1, **{key: value}))
    with pytest.raises(SynclError) as caught:
        evaluate(dataset, task, dataset.write(content))
    assert f"results.json: sample s1, box 1: field '{key}' {message}" in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_every_missing_field_is_named(dataset: Any, task: str):
    for field in dataset.box(task):
        content = dataset.good(task)
        del content["results"]["s2"][0][field]
        with pytest.raises(SynclError, match=f"sample s2, box 0: field '{field}' is missing"):
            evaluate(dataset, task, dataset.write(content))


@pytest.mark.parametrize("task", TASKS)
def test_results_of_the_other_task_are_recognised(dataset: Any, task: str):
    (other,) = {*TASKS} - {task}
    with pytest.raises(SynclError, match=f"these are results of --task {other}"):
        evaluate(dataset, task, dataset.write(dataset.good(other)))


@pytest.mark.parametrize(
    ("task", "field", "value"),
    [
        ("detection", "attribute_name", "vehicle.flying"),
        ("detection", "attribute_name", ["vehicle.moving"]),
        ("tracking", "tracking_id", None),
        ("tracking", "tracking_id", 1.5),
        ("tracking", "tracking_id", ["a"]),
        ("tracking", "tracking_name", "barrier"),
        ("tracking", "num_pts", "many"),
    ],
)
def test_bad_values_of_one_task(dataset: Any, task: str, field: str, value: Any):
    content = dataset.good(task)
    content["results"]["s0"][0][field] = value
    with pytest.raises(SynclError, match=f"sample s0, box 0: field '{field}'"):
        evaluate(dataset, task, dataset.write(content))


@pytest.mark.parametrize("task", TASKS)
def test_coverage_of_samples(dataset: Any, task: str):
    content = dataset.good(task)
    missing = {**content, "results": {"s0": [], "s2": []}}
    with pytest.raises(SynclError, match="field 'results' misses sample s1"):
        evaluate(dataset, task, dataset.write(missing))
    content["results"]["stranger"] = []
    with pytest.raises(SynclError, match="field 'results' names sample 'stranger'"):
        evaluate(dataset, task, dataset.write(content))


@pytest.mark.parametrize("task", TASKS)
def test_number_of_boxes(dataset: Any, task: str):
    content = dataset.good(task)
    content["results"]["s0"] = [dataset.box(task, tracking_id=str(n)) for n in range(500)]
    evaluate(dataset, task, dataset.write(content))
    content["results"]["s0"] *= 2
    with pytest.raises(SynclError, match="sample s0: field 'results' holds 1000 boxes; at most 500"):
        evaluate(dataset, task, dataset.write(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSON"),
        ("[]", "field 'results' must be an object"),
        ('{"meta": {}}', "field 'results' must be an object"),
        ('{"meta": {}, "results": []}', "field 'results' must be an object"),
        ('{"meta": {}, "results": {"s0": {}, "s1": [], "s2": []}}', "sample s0: must be a list of boxes"),
        ('{"meta": {}, "results": {"s0": [3], "s1": [], "s2": []}}', "sample s0, box 0: must be an object"),
        ('{"results": {"s0": [], "s1": [], "s2": []}}', "field 'meta' must be an object"),
        ('{"meta": {}, "results": {"s0": [], "s1": [], "s2": []}} x', "not valid JSON"),
    ],
)
def test_damaged_files(dataset: Any, text: str, message: str):
    with pytest.raises(SynclError, match=message):
        evaluate(dataset, "tracking", dataset.write(text))


@pytest.mark.parametrize("task", TASKS)
def test_truncated_files_name_the_sample(dataset: Any, task: str):
    text = json.dumps(dataset.good(task))
    begin = text.index('"s1": [')
    for end in (begin + 40, begin + 55, begin + 160, text.index('"s2": [') - 2):
        with pytest.raises(SynclError, match=r"results\.json: truncated JSON in sample 's1' \(line 1 column"):
            evaluate(dataset, task, dataset.write(text[:end]))


def test_missing_file(dataset: Any):
    with pytest.raises(SynclError, match=r"nowhere\.json: cannot be read"):
        evaluate(dataset, "tracking", dataset.root / "nowhere.json")


@pytest.mark.parametrize(
    ("task", "change", "remark"),
    [
        ("tracking", {"rotation": [2.0, 0, 0, 0]}, "1 boxes with a rotation that is not a unit quaternion"),
        ("detection", {"velocity": [NAN, NAN]}, "1 boxes with a velocity that is nan or infinite"),
        ("detection", {"velocity": [None, None]}, "1 boxes with a velocity that is nan or infinite"),
        ("tracking", {"translation": [float("inf"), 0, 0]}, "1 boxes with an infinite centre"),
        ("detection", {"sample_token": "elsewhere"}, "1 boxes whose sample_token is not"),
        ("detection", {"num_pts": 0}, "1 boxes with num_pts 0"),
        ("tracking", {"tracking_name": "truck"}, "1 tracks with several classes"),
    ],
)
def test_what_is_odd_but_accepted_is_counted(dataset: Any, task: str, change: dict[str, Any], remark: str):
    content = dataset.good(task)
    content["results"]["s1"][0] |= change
    with pytest.warns(UserWarning, match=remark):
        metrics = evaluate(dataset, task, dataset.write(content))
    assert len(metrics.remarks) == 1
    assert metrics.remarks[0].startswith(remark)


def test_repeated_ids_are_counted(dataset: Any):
    content = dataset.good("tracking")
    content["results"]["s1"] += 2 * [
        dataset.box("tracking", 1, translation=[130.0, 50.0, 0.0], tracking_id="2")
    ]
    with pytest.warns(UserWarning, match="1 tracking ids that occur more than once in a sample"):
        evaluate(dataset, "tracking", dataset.write(content))


def test_whole_numbers_and_strings_are_different_ids(dataset: Any):
    content = dataset.good("tracking")
    content["results"]["s1"][0]["tracking_id"] = 1
    truth = read_ground_truth(dataset.root, "v1.0-mini", "mini_val")
    boxes = read_results(dataset.write(content), truth.samples, "tracking").boxes
    assert boxes.identity.tolist() == [0, 1, 0]


@pytest.mark.parametrize("task", TASKS)
def test_all_empty_results_are_scored(dataset: Any, task: str):
    content = {"meta": {}, "results": {token: [] for token in dataset.tokens}}
    metrics = evaluate(dataset, task, dataset.write(content))
    if task == "detection":
        assert (metrics.mean_ap, metrics.nd_score) == (0, 0)
    else:
        assert (metrics.amota, metrics.amotp, metrics.overall("fn")) == (0, 2, 3)
        assert metrics.label_metrics["faf"]["car"] == 500


def test_custom_splits_ignore_other_samples(dataset: Any):
    (dataset.root / "v1.0-mini" / "splits.json").write_text(json.dumps({"mine": ["scene-0103"]}))
    content = dataset.good("tracking")
    content["results"]["stranger"] = [{"nonsense": 1}]
    with pytest.warns(UserWarning, match="1 sample of other scenes than the evaluated"):
        metrics = evaluate_tracking(dataset.write(content), dataset.root, "v1.0-mini", "mine")
    assert metrics.amota == 1


@pytest.mark.parametrize("task", TASKS)
def test_chosen_scenes_of_a_larger_file_are_scored(dataset: Any, task: str):
    content = dataset.good(task)
    content["results"]["of another scene"] = []
    path, score = dataset.write(content), evaluate_tracking if task == "tracking" else evaluate_detection
    with pytest.raises(SynclError, match="names sample 'of another scene', which the split does not hold"):
        score(path, dataset.root, "v1.0-mini", "mini_val")
    with pytest.warns(UserWarning, match="1 sample of other scenes than the evaluated"):
        chosen = score(path, dataset.root, "v1.0-mini", "mini_val", ["scene-0103"])
    whole = score(dataset.write(dataset.good(task)), dataset.root, "v1.0-mini", "mini_val")
    same = [dataclasses.replace(metrics, seconds=0.0).summary() for metrics in (chosen, whole)]
    assert json.dumps(same[0]) == json.dumps(same[1])


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_file_is_called_empty(dataset: Any, tmp_path: Path, content: str):
    path = tmp_path / "results.json"
    path.write_text(content)
    for read in (lambda: evaluate(dataset, "tracking", path), lambda: read_frame_objects(path)):
        with pytest.raises(SynclError, match=rf"an empty file \({len(content)} bytes\)"):
            read()


@pytest.mark.parametrize("identity", [2**64, 10**30, -(2**64)])
def test_ids_beyond_64_bits_are_to_be_texts(dataset: Any, identity: int):
    """Read as floats they would lose digits, and tracks would become one."""
    content = dataset.good("tracking")
    content["results"]["s1"][0]["tracking_id"] = identity
    path = dataset.write(content)
    for read in (lambda: evaluate(dataset, "tracking", path), lambda: read_frame_objects(path)):
        with pytest.raises(SynclError, match=r"s1'?, box 0: .*tracking_id.*64 bits: write larger ones"):
            read()
    content["results"]["s1"][0] |= {"tracking_id": str(identity)}
    assert read_frame_objects(dataset.write(content))["s1"].identities[0] == str(identity)
