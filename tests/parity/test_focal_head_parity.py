"""StreamPETR's auxiliary image head against the original: predictions, 2D matching, heat maps, losses."""

import re

import pytest
import torch
from golden import Golden
from petr_heads import CLASSES

from syncl.checkpoints.mapping import read_entries, rule_entries
from syncl.checkpoints.streampetr import FOCAL_HEAD
from syncl.detectors.streampetr.focal_head import FocalHead, FocalHeadConfig, cell_centres
from syncl.training.objectives.image import (
    ImageLossConfig,
    ImageTargets,
    heat_maps,
    image_losses,
    match_cells,
)

STRIDE = 16


def read_targets(golden: Golden, images: int) -> ImageTargets:
    boxes = [golden.input(f"gt_boxes2d_{image}") for image in range(images)]
    centres = [golden.input(f"gt_centers2d_{image}") for image in range(images)]
    labels = [golden.input(f"gt_labels2d_{image}") for image in range(images)]
    most = max(len(own) for own in boxes)
    targets = ImageTargets(
        torch.zeros(1, images, most, 4),
        torch.zeros(1, images, most, 2),
        torch.zeros(1, images, most, dtype=torch.int64),
        torch.zeros(1, images, most, dtype=torch.bool),
    )
    for image, own in enumerate(boxes):
        targets.boxes[0, image, : len(own)] = own
        targets.centres[0, image, : len(own)] = centres[image]
        targets.labels[0, image, : len(own)] = labels[image].long()
        targets.valid[0, image, : len(own)] = True
    return targets


@pytest.fixture(scope="module")
def run(open_golden):
    golden = open_golden("streampetr/focal_head")
    head = FocalHead(FocalHeadConfig(), golden.config["in_channels"], golden.config["num_classes"], 1).eval()
    shapes = {name: tensor.shape for name, tensor in head.state_dict().items()}
    entries = rule_entries(shapes, FOCAL_HEAD, "", "")
    conversion = read_entries(golden.state_dict(), entries, shapes, (), golden.name)
    assert not conversion.new
    head.load_state_dict(conversion.weights)
    features = golden.input("img_feats")
    with torch.no_grad():
        predictions = head(features)
    assert len(CLASSES) >= golden.config["num_classes"]
    size = (features.shape[-2] * STRIDE, features.shape[-1] * STRIDE)
    return golden, predictions, read_targets(golden, features.shape[1]), size


def every(golden: Golden, name: str) -> int:
    """The stride of the rows the golden keeps."""
    return int(re.search(r"rows ::(\d+)", golden.manifest["outputs"][name]["meaning"])[1])


def test_predictions(run):
    golden, predictions, _, _ = run
    rows, columns = predictions.grid_size
    here = cell_centres(rows, columns, predictions.boxes)
    golden.check("location", here.view(1, rows, columns, 2))
    for name, ours in {
        "enc_cls_scores": predictions.logits,
        "enc_bbox_preds": predictions.boxes,
        "pred_centers2d": predictions.centres,
        "centerness": predictions.centerness[..., None],
    }.items():
        golden.check(name, ours[0][:, :: every(golden, name)])


def test_matching_heat_maps_and_losses(run):
    golden, predictions, targets, size = run
    flat = predictions.map(lambda tensor: tensor.flatten(0, 1))
    goal = targets.map(lambda tensor: tensor.flatten(0, 1))
    extent = torch.tensor([size[1], size[0]], dtype=torch.float32)
    matched = match_cells(flat, goal, extent, ImageLossConfig())
    heat = heat_maps(goal, size, predictions.grid_size)
    for image in range(len(matched)):
        golden.check(f"assigned_gt_inds_{image}", matched[image] + 1)
        golden.check(f"heatmap_{image}", heat[image])
    losses = image_losses(predictions, targets, size, ImageLossConfig())
    order = ("image_centerness", "image_centre", "image_box", "image_class", "image_giou")
    golden.check("losses", torch.stack([losses[name] for name in order]))
