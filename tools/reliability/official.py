"""Change every field of every table and of results, and compare with what the official devkit makes of it.

    syncl generate WORLD --train-scenes 1 --val-scenes 2 --keyframes 4 --width 64 --height 32
    PYTHONPATH=src DEVKIT_PYTHON tools/reliability/official.py WORLD [--task detection] [--only sample]

Needs a Python with nuscenes-devkit 1.2.0, motmetrics 1.4.0 and rich; the world is copied. What the devkit
scores, `syncl.evaluation` is to score with the same numbers, to 1e-9; what the devkit refuses, it may refuse.
"""

import argparse
import copy
import json
import math
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

VERSION, SPLIT = "v1.0-mini", "mini_val"
TOLERANCE = 1e-9
LIMIT_S = 5.0
RACK = "static_object.bicycle_rack"
VISION = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}
Tables = dict[str, list[dict[str, Any]]]
ABSENT = object()


def read_tables(world: Path) -> Tables:
    """All tables; barriers become bicycle racks, the first of them around a bicycle."""
    tables = {path.stem: json.loads(path.read_text()) for path in sorted((world / VERSION).glob("*.json"))}
    names = {row["token"]: row["name"] for row in tables["category"]}
    kinds = {row["token"]: names[row["category_token"]] for row in tables["instance"]}
    bicycles = {
        row["sample_token"]: row
        for row in tables["sample_annotation"]
        if kinds[row["instance_token"]] == "vehicle.bicycle" and row["num_lidar_pts"]
    }
    for row in tables["category"]:
        if row["name"] == "movable_object.barrier":
            row["name"] = RACK
    racks = [row for row in tables["sample_annotation"] if kinds[row["instance_token"]].endswith("barrier")]
    rack = next(row for row in racks if row["sample_token"] in bicycles)
    rack |= {"translation": bicycles[rack["sample_token"]]["translation"], "size": [3.0, 3.0, 3.0]}
    return tables


def make_results(tables: Tables, task: str, classes: list[str]) -> dict[str, Any]:
    """The truth moved about, some of it missing, some under another identity; scores of two values."""
    from syncl.dataset_description import NUSCENES

    held_out = {row["token"] for row in tables["scene"] if row["name"] in ("scene-0103", "scene-0916")}
    results = {row["token"]: [] for row in tables["sample"] if row["scene_token"] in held_out}
    names = {row["token"]: row["name"] for row in tables["category"]}
    kinds = {row["token"]: NUSCENES.label(names[row["category_token"]]) for row in tables["instance"]}
    draw = np.random.default_rng(0)
    for row in tables["sample_annotation"]:
        label, token = kinds[row["instance_token"]], row["sample_token"]
        if token not in results or label < 0 or draw.random() < 0.15:
            continue
        name = NUSCENES.classes[label]
        if classes and name not in classes:
            continue
        box = {
            "sample_token": token,
            "translation": np.add(row["translation"], (*draw.normal(0, 0.4, 2), 0)).tolist(),
            "size": row["size"],
            "rotation": row["rotation"],
            "velocity": draw.normal(0, 1, 2).tolist(),
        }
        score = float(draw.choice([0.4, 0.8]))
        identity = row["instance_token"] + ("x" if draw.random() < 0.1 else "")
        if task == "detection":
            box |= {"detection_name": name, "detection_score": score, "attribute_name": ""}
        elif name in NUSCENES.tracked:
            box |= {"tracking_name": name, "tracking_score": score, "tracking_id": identity}
        else:
            continue
        results[token].append(box)
    return {"meta": VISION, "results": results}


def changes(value: Any, other: Any) -> Iterator[tuple[str, Any]]:
    """What a field may hold instead."""
    yield from (
        ("missing", ABSENT),
        ("null", None),
        ("empty text", ""),
        ("a text", "x"),
        ("-1", -1),
        ("0", 0),
    )
    yield from (("nan", math.nan), ("empty list", []), ("true", True), ("1e300", 1e300), ("another's", other))
    if isinstance(value, bool):
        yield "false", False
    elif isinstance(value, int | float):
        yield from (("+ 0.4", value + 0.4), ("x 1000", value * 1000), ("/ 1000", value / 1000))
        yield from (
            ("as text", str(value)),
            ("inf", math.inf),
            ("- 1", value - 1),
            ("1", 1),
            ("float", float(value)),
        )
    elif isinstance(value, str):
        yield "longer", value + "é"
    elif isinstance(value, list) and value and isinstance(value[0], int | float):
        yield from (("nans", [math.nan] * len(value)), ("infs", [math.inf] * len(value)))
        yield from (("zeros", [0] * len(value)), ("negative", [-item for item in value]))
        yield from (("short", value[:-1]), ("long", [*value, 1.0]), ("a null", [None, *value[1:]]))
        yield from (("texts", [str(item) for item in value]), ("doubled", [2 * item for item in value]))
        yield "turned", value[1:] + value[:1]
    elif isinstance(value, list):
        yield from (("one unknown", ["x"]), ("twice", value * 2 or ["x", "y"]), ("a text in a list", [""]))


def cases(
    tables: Tables, results: dict[str, Any], only: list[str] | None
) -> Iterator[tuple[str, Tables, dict[str, Any]]]:
    """Each change by name, of one record or of all."""
    samples = set(results["results"])
    boxes = [box for listed in results["results"].values() for box in listed]
    results_fields = {"num_pts": 3} | boxes[0]
    for name, rows in (*tables.items(), ("results", boxes)):
        if only and name not in only:
            continue
        mine = [
            n
            for n, row in enumerate(rows)
            if row.get("sample_token", row["token"] if name == "sample" else None) in samples
        ]
        place = mine[len(mine) // 2] if mine else len(rows) - 1
        fields = results_fields if name == "results" else rows[place]
        for field, value in fields.items():
            other = rows[place - 1].get(field, value)
            for what, new in changes(value, other):
                for reach in ("one", "all"):
                    if reach == "all" and (field == "token" or what in ("another's", "longer")):
                        continue
                    changed = copy.deepcopy(results if name == "results" else rows)
                    listed = (
                        [box for part in changed["results"].values() for box in part]
                        if name == "results"
                        else changed
                    )
                    for number, row in enumerate(listed):
                        if reach == "one" and number != place:
                            continue
                        if new is ABSENT:
                            row.pop(field, None)
                        elif reach == "all" and what in RELATIVE:
                            row[field] = RELATIVE[what](row.get(field, value))
                        else:
                            row[field] = copy.deepcopy(new)
                    label = f"{name}.{field} {what} ({reach})"
                    yield (
                        (label, tables, changed)
                        if name == "results"
                        else (label, tables | {name: changed}, results)
                    )


RELATIVE: dict[str, Callable[[float], float]] = {
    "+ 0.4": lambda value: value + 0.4,
    "x 1000": lambda value: value * 1000,
    "/ 1000": lambda value: value / 1000,
    "- 1": lambda value: value - 1,
    "float": float,
}


@contextmanager
def limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def official(root: Path, path: Path, task: str) -> dict[str, Any] | str:
    """The devkit's summary, or how it failed."""
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval
    from nuscenes.eval.tracking.evaluate import TrackingEval

    try:
        with limited(), np.errstate(all="ignore"), tempfile.TemporaryDirectory() as folder:
            if task == "tracking":
                config = config_factory("tracking_nips_2019")
                scored = TrackingEval(config, str(path), SPLIT, folder, VERSION, str(root), verbose=False)
            else:
                nusc = NuScenes(VERSION, str(root), verbose=False)
                config = config_factory("detection_cvpr_2019")
                scored = DetectionEval(nusc, config, str(path), SPLIT, folder, verbose=False)
            return json.loads(json.dumps(scored.evaluate()[0].serialize()))
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"


def ours(root: Path, path: Path, task: str) -> dict[str, Any] | str:
    """Our summary, or why it was refused; anything but a `SynclError` is an error of this program."""
    from syncl.errors import SynclError
    from syncl.evaluation.detection import evaluate_detection
    from syncl.evaluation.tracking import evaluate_tracking

    shutil.rmtree(root / ".syncl", ignore_errors=True)
    try:
        function = evaluate_tracking if task == "tracking" else evaluate_detection
        return function(path, root, VERSION, SPLIT).summary()
    except SynclError as error:
        return str(error)


def difference(one: Any, other: Any) -> float:
    """The largest relative difference of numbers; infinite where one has what the other lacks."""
    if isinstance(one, dict):
        if not isinstance(other, dict):
            return math.inf
        left_out = ("eval_time", "cfg", "meta")
        return max((difference(one[key], other.get(key)) for key in one if key not in left_out), default=0.0)
    if other is None:
        return math.inf
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return abs(one - other) / max(1.0, abs(one)) if one != other else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path)
    parser.add_argument("--task", choices=("tracking", "detection"), default="tracking")
    parser.add_argument("--only", nargs="*", help="tables, or results")
    parser.add_argument("--classes", nargs="*", default=[], help="of results; the fewer, the faster")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases, drawn")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    tables = read_tables(given.world)
    results = make_results(tables, given.task, given.classes)
    draw = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root, path = Path(folder) / "world", Path(folder) / "results.json"
        (root / VERSION).mkdir(parents=True)
        shutil.copytree(given.world / "maps", root / "maps")
        written: Tables = {}
        plain = [("as it is", tables, results)]
        for number, (label, some, found) in enumerate(chain(plain, cases(tables, results, given.only))):
            if number and draw.random() >= given.share:
                continue
            for name, rows in some.items():
                if written.get(name) is not rows:
                    (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
                    written[name] = rows
            path.write_text(json.dumps(found))
            mine = ours(root, path, given.task)
            # What we score is compared; what we refuse is to be refused there, too.
            theirs = official(root, path, given.task)
            if isinstance(theirs, str):
                verdict = "both refuse" if isinstance(mine, str) else "only the devkit refuses"
            elif isinstance(mine, str):
                verdict = "ONLY OURS REFUSES"
            else:
                verdict = "equal" if difference(theirs, mine) <= TOLERANCE else "DIFFERENT"
            counts[verdict] += 1
            if counts.total() % 25 == 0:
                print(f"... {counts.total()}: {dict(counts)}", file=sys.stderr, flush=True)
            if verdict.isupper() or not number:
                said = next((one for one in (mine, theirs) if isinstance(one, str)), None)
                detail = f"by {difference(theirs, mine):.1e}" if said is None else said
                print(f"{label}: {verdict}: {detail}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    sys.exit(any(verdict.isupper() for verdict in counts))


if __name__ == "__main__":
    main()
