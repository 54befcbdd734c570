"""PF-Track's box coder and assigner: box code, top-k decoding, matching costs, Hungarian result."""

import ast
from collections.abc import Callable

import torch
from golden import Golden
from heads import annotations_of, check_boxes, published_codes
from mmdet3d_boxes import boxes_from_mmdet3d_0, boxes_to_mmdet3d_0

from syncl.geometry.boxes import decode_boxes, encode_boxes
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.structures import Predictions
from syncl.trackers.single_frame import best_pairs
from syncl.training.assignment import CostConfig, hungarian, matching_cost


def _predictions(golden: Golden) -> Predictions:
    how = golden.manifest["inputs"]["code"]["how"]
    scale = torch.tensor(ast.literal_eval(how.partition("times ")[2]))
    codes = MMDET3D_0_CODE.to_library(golden.filled("code") * scale)
    layers, streams, count, _ = codes.shape
    return Predictions(
        golden.filled("cls", scale=1.5),
        codes,
        torch.zeros(layers, streams, count, 1),
        codes[..., :3],
        torch.ones(streams, count, dtype=torch.bool),
        count,
    )


def test_box_code(open_golden: Callable[[str], Golden]) -> None:
    golden = open_golden("pftrack/bbox_coder")
    boxes = boxes_from_mmdet3d_0(golden.input("boxes"))
    golden.check("normalized", published_codes(encode_boxes(boxes)))
    check_boxes(golden, "denormalized", boxes_to_mmdet3d_0(decode_boxes(encode_boxes(boxes))))


def test_decoding(open_golden: Callable[[str], Golden]) -> None:
    golden = open_golden("pftrack/bbox_coder")
    _, _, _, range_m, _, height_m = golden.config["post_center_range"]
    objects = best_pairs(_predictions(golden), golden.config["max_num"], range_m, height_m)
    kept = objects.valid[0]
    golden.check("det_labels", objects.labels[0, kept])
    golden.check("det_scores", objects.scores[0, kept])
    check_boxes(golden, "det_bboxes", boxes_to_mmdet3d_0(objects.boxes[0, kept]))


def test_matching(open_golden: Callable[[str], Golden]) -> None:
    golden = open_golden("pftrack/bbox_coder")
    predictions = _predictions(golden)
    count = golden.manifest["inputs"]["gt"]["shape"][0]
    labels = torch.arange(count) % predictions.logits.shape[-1]
    truth = annotations_of([golden.input("boxes")[:count]], [labels], bottom_centre=False)
    classification = matching_cost(predictions, truth, CostConfig(box=0.0))
    box = matching_cost(predictions, truth, CostConfig(classification=0.0))
    golden.check("cost_cls", classification[-1, 0])
    golden.check("cost_reg", box[-1, 0])
    cost = matching_cost(predictions, truth, CostConfig())
    assigned = hungarian(cost, predictions.valid, truth.valid)[-1, 0]
    golden.check("assigned_gt_inds", assigned + 1)
    golden.check("assigned_labels", torch.where(assigned >= 0, labels[assigned.clamp(min=0)], -1))
