"""PETRv2 against the original head: two frames, time, feature-guided encoding, padding, losses, decoding."""

import dataclasses
import re

import pytest
import torch
from heads import feed, tiny_encoder
from mmdet3d_boxes import boxes_from_mmdet3d_0
from petr_heads import (
    CLASSES,
    check_decoding,
    load,
    make_annotations,
    make_frame,
    match_and_lose,
)

from syncl.checkpoints.petrv2 import Petrv2Adapter
from syncl.detectors import Petrv2Config
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.training.assignment import CostConfig
from syncl.training.losses import LossConfig

POSE_NOW = torch.tensor(
    [[0.8, -0.6, 0, 400.0], [0.6, 0.8, 0, -1200.0], [0, 0, 1, 2.0], [0, 0, 0, 1]], dtype=torch.float64
)
POSE_BEFORE = torch.tensor(
    [[0.6, -0.8, 0, 393.0], [0.8, 0.6, 0, -1207.0], [0, 0, 1, 1.9], [0, 0, 0, 1]], dtype=torch.float64
)
NOW_S = 1.5332e9


def sizes(text: str) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in re.findall(r"\((\d+), ?(\d+)\)", text)]


def build(golden):
    cfg = golden.config["cfg"]
    decoder = cfg["transformer"]["decoder"]
    config = Petrv2Config(
        tiny_encoder(1, 256),
        CLASSES[: golden.outputs["all_cls_scores"].shape[-1]],
        queries=cfg["num_query"],
        layers=decoder["num_layers"],
        hidden=decoder["transformerlayers"]["feedforward_channels"],
        position_range=tuple(cfg["position_range"]),
        point_range=tuple(cfg["bbox_coder"]["pc_range"]),
    )
    # Heads always hold six branches; a golden with fewer layers leaves the others unused.
    spare = "|".join(str(index) for index in range(config.layers, 6)) or "-"
    return load(Petrv2Adapter(), config, golden, rf"(cls|reg)_branches\.({spare})\..+")


@pytest.fixture(scope="module")
def run(open_golden):
    """The golden, its detector, what was captured inside, and the present frame's features and output."""
    golden = open_golden("streampetr/petrv2_head")
    detector = build(golden)
    inputs = golden.manifest["inputs"]
    features = golden.input("mlvl_feats_0")
    projections = golden.input("lidar2img")
    times = golden.input("timestamp")
    streams, cameras = projections.shape[0], projections.shape[1] // 2
    (image_size,) = sizes(inputs["pad_shape"])
    content = torch.tensor(sizes(inputs["img_shape"]))[:, None].repeat(1, cameras, 1)
    intervals = (times[:, cameras:] - times[:, :cameras]).mean(1)

    # The golden's past projections start at the present vehicle; ours at the past one, with poses between.
    before_from_now = torch.linalg.inv(POSE_BEFORE) @ POSE_NOW
    past = projections[:, cameras:].double() @ torch.linalg.inv(before_from_now)
    old = make_frame(
        past,
        image_size,
        POSE_BEFORE.repeat(streams, 1, 1),
        NOW_S - intervals,
        content_size=content,
    )
    now = make_frame(
        projections[:, :cameras],
        image_size,
        POSE_NOW.repeat(streams, 1, 1),
        torch.full((streams,), NOW_S, dtype=torch.float64),
        content_size=content,
    )
    captured = {}
    detector.position_encoder.register_forward_hook(lambda *a: captured.update(rays=a[2]))
    detector.grid_encoder.register_forward_pre_hook(lambda _, a: captured.update(sine=a[0]))
    with torch.no_grad():
        feed(detector, (features[:, cameras:],))
        memory = detector.initial_memory(streams)
        seen = detector.encode(old, memory)
        memory = detector.remember(memory, old, seen, None)
        feed(detector, (features[:, :cameras],))
        seen = detector.encode(now, memory)
        queries = detector.initial_queries(seen)
        (predictions,) = detector.decode(queries, seen)
    return golden, captured, seen, queries, predictions


def sliced(tensor, channel_step):
    """[B, C, H, W, D] as the golden's [:, :, ::step, ::3, ::5] of [B, C, D, H, W]."""
    return tensor.permute(0, 1, 4, 2, 3)[:, :, ::channel_step, ::3, ::5]


def test_outputs_and_encodings(run):
    golden, captured, seen, queries, predictions = run
    mask = golden.outputs["mask"]
    golden.check("position_encoder_slice", sliced(captured["rays"], 8))
    golden.check("sine_slice", sliced(captured["sine"], 12))
    positions = (seen.keys - seen.values).unflatten(1, mask.shape[1:])
    golden.check("pos_embed_slice", sliced(positions, 8))
    golden.check("mask", ~seen.token_valid.view(mask.shape).numpy())
    golden.check("query_embed_slice", queries.positions[0, :, ::8])
    golden.check("all_cls_scores", predictions.logits)
    codes = MMDET3D_0_CODE.to_library(torch.from_numpy(golden.outputs["all_bbox_preds"]))
    golden.compare("all_bbox_preds", predictions.codes, codes)


def test_assignment_losses_and_decoding(run):
    golden, _, _, _, predictions = run
    streams = predictions.logits.shape[1]
    boxes = [boxes_from_mmdet3d_0(golden.input(f"gt_boxes_{stream}")) for stream in range(streams)]
    labels = [golden.input(f"gt_labels_{stream}") for stream in range(streams)]
    annotations = make_annotations(boxes, labels)
    weights = tuple(golden.outputs["sd_code_weights"].tolist())
    targets, losses = match_and_lose(
        predictions, annotations, CostConfig(), dataclasses.replace(LossConfig(), code_weights=weights)
    )
    ours = [losses[0]["box"], losses[0]["class"], losses[-1]["box"], losses[-1]["class"]]
    golden.check("losses", torch.stack(ours))
    for stream in range(streams):
        golden.check(f"assigned_gt_inds_{stream}", targets[-1, stream] + 1)
        check_decoding(golden, f"{stream}", stream, predictions, boxes_from_mmdet3d_0, 1e-4)
