"""The greedy tracker and its Hungarian variant against the one published with StreamPETR."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from golden import Golden
from heads import frame_of

from syncl.classes import DETECTION_CLASSES
from syncl.recipes.synthetic import small_detr3d
from syncl.structures import Objects
from syncl.trackers import GreedyConfig
from syncl.trackers.greedy import Greedy
from syncl.trackers.greedy.tracker import CentreTracks

OpenGolden = Callable[[str], Golden]


def _tracker(golden: Golden) -> Greedy:
    config = golden.config
    detector = replace(small_detr3d(), classes=DETECTION_CLASSES).build()
    return GreedyConfig(
        min_score=config["score_threshold"],
        gate_m=config["max_diff"],
        miss_tolerance=config["max_age"],
        association="hungarian" if config["hungarian"] else "greedy",
    ).build(detector)


def _objects(rows: list[dict[str, Any]]) -> Objects:
    """Detections of one frame in the order of the file, which is not that of their scores."""
    boxes = torch.zeros(1, len(rows), 9, dtype=torch.float64)
    boxes[..., 3:6] = 1
    labels = torch.zeros(1, len(rows), dtype=torch.int64)
    scores = torch.zeros(1, len(rows), dtype=torch.float64)
    for index, row in enumerate(rows):
        boxes[0, index, :3] = torch.tensor(row["translation"])
        boxes[0, index, 7:9] = torch.tensor(row["velocity"])
        labels[0, index] = DETECTION_CLASSES.index(row["detection_name"])
        scores[0, index] = row["detection_score"]
    valid = torch.ones_like(labels, dtype=torch.bool)
    return Objects(boxes.float(), labels, scores.float(), torch.full_like(labels, -1), valid)


@pytest.mark.parametrize("name", ["center_tracker", "center_tracker_hungarian"])
@pytest.mark.parametrize("turned", [False, True], ids=["map", "turning vehicle"])
def test_tracks_after_every_frame(open_golden: OpenGolden, name: str, turned: bool) -> None:
    golden = open_golden(f"streampetr/{name}")
    tracker = _tracker(golden)
    state = tracker.initial_state()
    frame = frame_of(torch.eye(4).expand(1, 1, 4, 4), (8, 8))
    time_s = 100.0
    frames = zip(golden.manifest["detections"], golden.manifest["tracks"], golden.manifest["time_lags"])
    for index, (detections, tracks, lag) in enumerate(frames):
        time_s += lag or 1.0
        # The original works on the map; here the vehicle may move under the same objects.
        angle = torch.tensor(0.3 * index * turned, dtype=torch.float64)
        pose = torch.eye(4, dtype=torch.float64)
        pose[0, :2] = torch.stack([angle.cos(), -angle.sin()])
        pose[1, :2] = torch.stack([angle.sin(), angle.cos()])
        pose[:2, 3] = torch.tensor([3.0, -1.0]) * index * turned
        seen = _objects(detections)
        boxes = seen.boxes.double()
        boxes[..., :2] = (boxes[..., :2] - pose[:2, 3]) @ pose[:2, :2]
        boxes[..., 7:9] = boxes[..., 7:9] @ pose[:2, :2]
        now = replace(frame, timestamp_s=frame.timestamp_s + time_s, global_from_vehicle=pose[None])
        objects, state = tracker.step_given(now, state, replace(seen, boxes=boxes.float()))
        known = state.owned(CentreTracks)

        label = f"frame {index} "
        identities = torch.tensor([track["tracking_id"] for track in tracks], dtype=torch.int64)
        golden.compare(label + "identities", state.identities[0] + 1, identities)
        ages = torch.tensor([track["age"] for track in tracks], dtype=torch.int64)
        golden.compare(label + "ages", state.misses[0] + 1, ages)
        names = torch.tensor([DETECTION_CLASSES.index(track["name"]) for track in tracks], dtype=torch.int64)
        golden.compare(label + "classes", known.labels[0], names)
        centres = torch.tensor([track["ct"] for track in tracks]).reshape(-1, 2)
        ours = known.centres[0, :, :2].double() @ pose[:2, :2].T + pose[:2, 3]
        golden.compare(label + "centres", ours, centres)
        active = [track for track in tracks if track["active"] > 0]
        reported = objects.valid[0]
        golden.compare(
            label + "reported",
            objects.identities[0, reported] + 1,
            torch.tensor([track["tracking_id"] for track in active], dtype=torch.int64),
        )
        scores = torch.tensor([track["score"] for track in active])
        golden.compare(label + "scores", objects.scores[0, reported], scores)
