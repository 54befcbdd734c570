"""The official devkit on a generated world: it opens, its boxes sit right, its evaluations run.

Needs a python with nuscenes-devkit 1.2.0 and motmetrics 1.4.0; its path goes into SYNCL_OFFICIAL_PYTHON.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

# Annotations as results: perfect detections and tracks of everything that has points.
OFFICIAL_SCRIPT = """
import json, sys
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.eval.tracking.evaluate import TrackingEval
from nuscenes.eval.tracking.utils import category_to_tracking_name
from nuscenes.utils.geometry_utils import view_points

root, work = sys.argv[1], sys.argv[2]
nusc = NuScenes("v1.0-mini", root, verbose=False)
held_out = ("scene-0103", "scene-0916")
val = [s for s in nusc.sample if nusc.get("scene", s["scene_token"])["name"] in held_out]
inside = seen = 0
detections, tracks = {}, {}
for sample in val:
    detections[sample["token"]], tracks[sample["token"]] = [], []
    for token in sample["anns"]:
        record = nusc.get("sample_annotation", token)
        if not record["num_lidar_pts"]:
            continue
        velocity = nusc.box_velocity(token)[:2].tolist()
        box = {"sample_token": sample["token"], "translation": record["translation"], "size": record["size"],
               "rotation": record["rotation"], "velocity": velocity}
        attribute = [nusc.get("attribute", a)["name"] for a in record["attribute_tokens"]]
        name = category_to_detection_name(record["category_name"])
        detections[sample["token"]].append(
            {**box, "detection_name": name, "detection_score": 0.9,
             "attribute_name": (attribute + [""])[0]})
        name = category_to_tracking_name(record["category_name"])
        if name:
            tracks[sample["token"]].append(
                {**box, "tracking_id": record["instance_token"], "tracking_name": name,
                 "tracking_score": 0.9})
    for channel, token in sample["data"].items():
        if channel.startswith("CAM"):
            _, boxes, intrinsics = nusc.get_sample_data(token)
            for box in boxes:
                u, v, _ = view_points(box.center[:, None], intrinsics, normalize=True)[:, 0]
                inside += 0 <= u <= 176 and box.center[2] > 0
                seen += 1
meta = dict(use_camera=True, use_lidar=False, use_radar=False, use_map=False, use_external=False)
for name, results in (("detection", detections), ("tracking", tracks)):
    with open(f"{work}/{name}.json", "w") as file:
        json.dump({"meta": meta, "results": results}, file)
detection = DetectionEval(nusc, config_factory("detection_cvpr_2019"), f"{work}/detection.json", "mini_val",
                          f"{work}/det", verbose=False)
summary = detection.main(plot_examples=0, render_curves=False)
tracking = TrackingEval(config_factory("tracking_nips_2019"), f"{work}/tracking.json", "mini_val",
                        f"{work}/trk", "v1.0-mini", root, verbose=False).main(render_curves=False)
print(json.dumps({"samples": len(val), "boxes_in_cameras": seen, "centres_inside": int(inside),
                  "map": summary["mean_ap"], "mave": summary["tp_errors"]["vel_err"],
                  "amota": tracking["amota"],
                  "classes": {k: v for k, v in tracking["label_metrics"]["amota"].items()}}))
"""


@pytest.mark.slow
def test_the_official_devkit_opens_and_evaluates_a_world(tmp_path: Path) -> None:
    python = os.environ.get("SYNCL_OFFICIAL_PYTHON")
    if not python:
        pytest.skip(
            "set SYNCL_OFFICIAL_PYTHON to a python that has nuscenes-devkit 1.2.0 and motmetrics 1.4.0"
        )
    root = tmp_path / "world"
    generate_world(root, WorldConfig(1, 2, 12, 176, 64, 21))
    script = [python, "-c", OFFICIAL_SCRIPT, str(root), str(tmp_path)]
    run = subprocess.run(script, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.strip().splitlines()[-1])
    assert found["samples"] == 24
    assert found["boxes_in_cameras"] > 200
    assert found["centres_inside"] > 0.6 * found["boxes_in_cameras"]
    # The truth itself as results scores (nearly) full marks.
    assert found["map"] > 0.9
    assert found["mave"] < 0.05
    assert found["amota"] > 0.8
    assert all(value > 0.5 for value in found["classes"].values())
