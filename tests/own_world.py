"""Data of one's own for tests: a tiny world of four classes, and annotated recordings cut out of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.synthetic.own_data import DESCRIPTION
from syncl.geometry.poses import invert_pose
from syncl.rendering.nuscenes_scenes import _ground_truth


def as_recordings(world: Path, out: Path, scenes: int = 2) -> Path:
    """The first scenes of a world of own data as a folder of annotated recordings."""
    index = open_nuscenes(world, "own")
    for scene in index.scene_names[:scenes]:
        folder = out / scene
        cameras, frames, annotations = {}, [], []
        for row in index.scene_samples(scene):
            sample = index.sample(row)
            name = f"{len(frames):06d}"
            # Images were taken a little later or earlier; in a recording that is a pose of the camera's own.
            placed = {}
            for camera in sample.cameras:
                target = folder / "images" / camera.channel / f"{name}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(camera.path, target)
                pose = {"vehicle_from_camera": invert_pose(camera.camera_from_vehicle).tolist()}
                placed[camera.channel] = pose
                size = [camera.width, camera.height]
                matrix = camera.intrinsics.tolist()
                cameras.setdefault(camera.channel, {"image_size": size, "intrinsics": matrix, **pose})
            frames.append(
                {
                    "name": name,
                    "timestamp_s": sample.timestamp_us * 1e-6,
                    "global_from_vehicle": sample.global_from_vehicle.tolist(),
                    "cameras": placed,
                }
            )
            truth = sample.annotations
            for number in np.flatnonzero((truth.labels >= 0) & (truth.num_lidar_pts > 0)).tolist():
                annotations.append(
                    {
                        "frame": name,
                        "track": int(truth.identities[number]),
                        "class": index.dataset.classes[truth.labels[number]],
                        "box": truth.boxes[number, :7].tolist(),
                    }
                )
        (folder / "rig.yaml").write_text(
            yaml.safe_dump({"format": "syncl-rig-1", "cameras": cameras, "frames": frames})
        )
        (folder / "annotations.json").write_text(
            json.dumps({"format": "syncl-annotations-1", "annotations": annotations})
        )
    (out / "dataset.yaml").write_text(DESCRIPTION)
    names = list(index.scene_names[:scenes])
    (out / "splits.json").write_text(json.dumps({"train": names[:-1], "val": names[-1:]}))
    return out


def perfect(root: Path, version: str, task: str, out: Path) -> Path:
    """Results that are the annotations themselves."""
    index = open_nuscenes(root, version)
    rows = [row for scene in index.split_scenes("val") for row in index.scene_samples(scene)]
    tokens = [index.sample_token(row) for row in rows]
    kind = TrackingSubmission if task == "tracking" else DetectionSubmission
    submission = kind(tokens, dataset=index.dataset)
    for row in rows:
        sample = index.sample(row)
        objects = _ground_truth(index, row, sample, index.dataset.classes)
        submission.add(sample.token, objects, sample.global_from_vehicle)
    submission.save(out / f"{task}.json", overwrite=True)
    return out / f"{task}.json"
