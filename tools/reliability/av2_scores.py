"""Score results in Argoverse 2's own layout with its official package, as its challenges do.

    syncl track RUN --data av2/ --output results.feather
    AV2_PYTHON tools/reliability/av2_scores.py results.feather av2/val [--range 150] [--output scores.json]

Needs a Python with av2 0.3.6, and trackeval 1.3.0 where the results have tracks; syncl is not needed. Boxes
outside the region of interest of the maps do not count. Tracks are scored by HOTA and MOTA, each at the score
thresholds that serve it best, and averaged over recalls (AMOTA, AMOTP's kin).
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from av2.evaluation import SensorCompetitionCategories
from av2.evaluation.detection.eval import evaluate as evaluate_detections
from av2.evaluation.detection.utils import DetectionCfg
from av2.geometry.geometry import mat_to_xyz, quat_to_mat
from av2.utils.io import read_city_SE3_ego, read_feather

CENTRE, SIZE = ["tx_m", "ty_m", "tz_m"], ["length_m", "width_m", "height_m"]
QUATERNION = ["qw", "qx", "qy", "qz"]
CLASSES = [category.value for category in SensorCompetitionCategories]


def annotations_of(split: Path) -> pd.DataFrame:
    """All annotations of the categories that are scored."""
    tables = []
    for path in sorted(split.glob("*/annotations.feather")):
        table = read_feather(path)
        tables.append(table.assign(log_id=path.parent.name))
    whole = pd.concat(tables).reset_index(drop=True)
    return whole[whole["category"].isin(CLASSES)]


def sequences(table: pd.DataFrame, split: Path, sweeps: dict[str, list[int]]) -> dict[str, list[dict]]:
    """Boxes in the city's frame, sweep by sweep, as the package's tracking evaluation takes them."""
    found: dict[str, list[dict]] = {}
    scored = "score" in table.columns
    for log, times in sweeps.items():
        poses = read_city_SE3_ego(split / log)
        own = table[table["log_id"] == log]
        frames = []
        for time in times:
            rows, pose = own[own["timestamp_ns"] == time], poses[time]
            turned = pose.rotation @ quat_to_mat(rows[QUATERNION].to_numpy(float).reshape(-1, 4))
            names = rows["category"].to_numpy().astype(str)
            frame = {
                "timestamp_ns": time,
                "seq_id": log,
                "track_id": rows["track_uuid"].to_numpy().astype(str),
                "translation_m": pose.transform_point_cloud(rows[CENTRE].to_numpy(float).reshape(-1, 3)),
                "size": rows[SIZE].to_numpy(float).reshape(-1, 3),
                "yaw": mat_to_xyz(turned)[..., 2],
                "velocity_m_per_s": np.zeros((len(rows), 3)),
                "label": np.array([CLASSES.index(name) for name in names], int),
                "name": names,
                "ego_translation_m": pose.translation.tolist(),
            }
            frames.append(frame | ({"score": rows["score"].to_numpy(float)} if scored else {}))
        found[log] = frames
    return found


def detection_scores(results: pd.DataFrame, truth: pd.DataFrame, split: Path, range_m: float) -> pd.DataFrame:
    config = DetectionCfg(dataset_dir=split, max_range_m=range_m)
    return evaluate_detections(results, truth, config, n_jobs=1)[2]


def tracking_scores(
    results: pd.DataFrame, truth: pd.DataFrame, split: Path, range_m: float
) -> dict[str, dict[str, dict[str, float]]]:
    """Metric -> "best" and "mean" -> value of each class that occurs."""
    from av2.evaluation.tracking.eval import constants, evaluate

    truth = truth[truth["num_interior_pts"] > 0]
    present = sorted(set(truth["category"]))
    # The package fails on classes that nobody annotated.
    constants.AV2_CATEGORIES = tuple(present)
    results = results[results["category"].isin(present)]
    sweeps = {log: sorted(table["timestamp_ns"].unique().tolist()) for log, table in truth.groupby("log_id")}
    labels, predictions = sequences(truth, split, sweeps), sequences(results, split, sweeps)
    found = {}
    # Whatever `out` says, the package writes its plots below the present folder.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for metric in ("HOTA", "MOTA"):
            _, best, mean = evaluate(predictions, labels, metric, range_m, None, "scores/all.json")
            found[metric] = {"best": best, "mean": mean}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("split", type=lambda text: Path(text).resolve())
    parser.add_argument("--range", type=float, default=150.0, dest="range_m")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results, truth = pd.read_feather(options.results), annotations_of(options.split)
    table = detection_scores(results.copy(), truth.copy(), options.split, options.range_m)
    scores: dict[str, object] = {"detection": table.T.to_dict()}
    print(table.to_string())
    if "track_uuid" in results.columns:
        tracks = tracking_scores(results, truth, options.split, options.range_m)
        scores["tracking"] = tracks
        for metric, values in tracks.items():
            for kind, of_class in values.items():
                shown = ", ".join(f"{name} {value:.3f}" for name, value in of_class.items())
                print(f"{metric} {kind}: {shown}; mean of classes {np.mean(list(of_class.values())):.3f}")
    if options.output is not None:
        options.output.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    sys.exit(main())
