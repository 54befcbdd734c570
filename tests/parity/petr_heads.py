"""What parity tests of temporal heads share: frames with pose and time, losses by layer, decoding by rows."""

import re
from typing import Any

import numpy as np
import torch
from golden import Golden
from heads import load_head

from syncl.checkpoints.adapter import Adapter
from syncl.detectors import Detector
from syncl.structures import Annotations, CameraRig, Frame, Predictions
from syncl.trackers.single_frame import best_pairs
from syncl.training.assignment import CostConfig, matching_cost, standard_assignment
from syncl.training.losses import LossConfig, set_losses

CLASSES = tuple("abcdefghij")


def load(adapter: Adapter, detector: Any, golden: Golden, unused: str = "-") -> Detector:
    """The detector of a golden's head; `unused` matches names of the golden that none of its layers uses."""
    weights = {
        f"pts_bbox_head.{name}": tensor
        for name, tensor in golden.state_dict().items()
        if not re.fullmatch(unused, name)
    }
    return load_head(adapter, detector, weights).detector


def make_frame(
    image_from_vehicle,
    image_size: tuple[int, int],
    pose=None,
    time_s=None,
    intrinsics=None,
    content_size=None,
    scenes: tuple[str, ...] = (),
) -> Frame:
    """A frame of black images; without intrinsics the projection stands for the extrinsics."""
    projections = torch.as_tensor(image_from_vehicle).double()
    streams, cameras = projections.shape[:2]
    if intrinsics is None:
        intrinsics = torch.eye(3, dtype=torch.float64).expand(streams, cameras, 3, 3)
    intrinsics = torch.as_tensor(intrinsics).double()[..., :3, :3]
    padded = torch.eye(4, dtype=torch.float64).repeat(streams, cameras, 1, 1)
    padded[..., :3, :3] = intrinsics
    rig = CameraRig(
        tuple(f"CAM_{index}" for index in range(cameras)), intrinsics, torch.linalg.inv(padded) @ projections
    )
    if content_size is None:
        content_size = torch.tensor(image_size).repeat(streams, cameras, 1)
    if pose is None:
        pose = torch.eye(4, dtype=torch.float64).repeat(streams, 1, 1)
    return Frame(
        torch.zeros(streams, cameras, 3, *image_size, dtype=torch.uint8),
        rig,
        torch.ones(streams, cameras, dtype=torch.bool),
        content_size,
        torch.as_tensor(pose).double(),
        torch.zeros(streams, dtype=torch.float64) if time_s is None else torch.as_tensor(time_s).double(),
        scenes or ("scene",) * streams,
        ("sample",) * streams,
    )


def make_annotations(boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> Annotations:
    """Annotations of boxes in our layout, one tensor a stream."""
    most = max(len(part) for part in boxes)
    padded = torch.ones(len(boxes), most, 9)
    padded_labels = torch.zeros(len(boxes), most, dtype=torch.int64)
    valid = torch.zeros(len(boxes), most, dtype=torch.bool)
    for stream, (part, own) in enumerate(zip(boxes, labels, strict=True)):
        padded[stream, : len(part)] = part
        padded_labels[stream, : len(own)] = own.long()
        valid[stream, : len(part)] = True
    identities = torch.arange(most).expand(len(boxes), -1).masked_fill(~valid, -1)
    return Annotations(padded, padded_labels, identities, valid)


def match_and_lose(
    predictions: Predictions, annotations: Annotations, cost: CostConfig, loss: LossConfig
) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Assigned objects [L, B, Q] (-1 = none) and the losses of each layer."""
    nothing = torch.zeros(predictions.logits.shape[1], 0, dtype=torch.int64)
    costs = matching_cost(predictions, annotations, cost)
    assignment = standard_assignment(costs, nothing, nothing, predictions.valid, annotations)
    layers = []
    for layer in range(len(predictions.logits)):
        one = Predictions(
            predictions.logits[layer : layer + 1],
            predictions.codes[layer : layer + 1],
            predictions.embeddings[layer : layer + 1],
            predictions.references[layer : layer + 1],
            predictions.valid,
            predictions.object_count,
        )
        own = type(assignment)(
            assignment.targets[layer : layer + 1], assignment.supervised[layer : layer + 1]
        )
        layers.append(set_losses(one, own, annotations, loss))
    return assignment.targets, layers


def check_decoding(golden: Golden, suffix: str, stream: int, predictions: Predictions, to_ours, tolerance):
    """Compare decoded boxes row by row, matched by place: neighbouring scores may swap."""
    coder = golden.config["cfg"]["bbox_coder"]
    planar, height = coder["post_center_range"][3], coder["post_center_range"][5]
    objects = best_pairs(predictions, coder["max_num"], planar, height)
    theirs = to_ours(torch.from_numpy(golden.outputs[f"decoded_boxes_{suffix}"]))
    labels = torch.from_numpy(golden.outputs[f"decoded_labels_{suffix}"])
    head = len(theirs) + 10
    own = objects.valid[stream]
    boxes, own_labels = objects.boxes[stream, own][:head], objects.labels[stream, own][:head]
    distance = torch.cdist(theirs, boxes) + 1e3 * (labels[:, None] != own_labels)
    rows = distance.argmin(1)
    assert len(set(rows.tolist())) == len(theirs), "a decoded box stands for two of the golden's"
    assert (rows - torch.arange(len(rows))).abs().max() <= 3
    chosen = boxes[rows]
    turns = ((theirs[:, 6] - chosen[:, 6]) / (2 * np.pi)).round() * 2 * np.pi
    chosen = torch.cat([chosen[:, :6], (chosen[:, 6] + turns)[:, None], chosen[:, 7:]], dim=1)
    golden.compare(f"decoded_boxes_{suffix}", chosen, theirs, tolerance)
    golden.check(f"decoded_labels_{suffix}", own_labels[rows])
    golden.check(f"decoded_scores_{suffix}", objects.scores[stream, own][:head][rows], tolerance)
