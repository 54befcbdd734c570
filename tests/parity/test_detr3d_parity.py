"""DETR3D against the original: head, cross-attention alone, and the head inside PF-Track's tracker."""

from collections.abc import Callable, Iterator

import pytest
import torch
from golden import Golden
from heads import (
    annotations_of,
    check_boxes,
    feed,
    frame_of,
    layer_count,
    load_head,
    published_codes,
    sizes_in,
    tiny_encoder,
    train_frame,
)
from mmdet3d_boxes import boxes_to_mmdet3d_0
from torch import Tensor

from syncl.checkpoints.detr3d import HEAD, Detr3dAdapter
from syncl.checkpoints.mapping import read_entries, rule_entries
from syncl.detectors import Detr3dConfig
from syncl.detectors.detr3d.detr3d import Detr3d, Detr3dCrossAttention, Sight
from syncl.detectors.reference_range import ReferenceRange
from syncl.layers.numerics import inverse_sigmoid
from syncl.layers.sampling import tables_of, taps_of, weighted_samples
from syncl.structures import object_queries
from syncl.trackers.single_frame import best_pairs

OpenGolden = Callable[[str], Golden]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _config(golden: Golden, queries: int) -> Detr3dConfig:
    weights = golden.state_dict()
    hidden, dim = weights["transformer.decoder.layers.0.ffns.0.layers.0.0.weight"].shape
    levels = sum(name.startswith("feat") for name in golden.manifest["inputs"])
    cameras = golden.manifest["inputs"]["feat0"]["shape"][1]
    attentions = golden.config["transformer"]["decoder"]["transformerlayers"]["attn_cfgs"]
    low_high: list[float] = attentions[1]["pc_range"]
    return Detr3dConfig(
        tiny_encoder(levels, dim),
        tuple(f"class_{index}" for index in range(len(weights["cls_branches.0.6.bias"]))),
        queries=queries,
        dim=dim,
        heads=attentions[0]["num_heads"],
        layers=layer_count(golden),
        hidden=hidden,
        cameras=cameras,
        point_range=(low_high[0], low_high[1], low_high[2], low_high[3], low_high[4], low_high[5]),
    )


def _levels(golden: Golden, prefix: str = "feat") -> tuple[Tensor, ...]:
    count = sum(name.startswith(prefix) for name in golden.manifest["inputs"])
    return tuple(golden.input(f"{prefix}{level}") for level in range(count))


def test_detr3d_head(open_golden: OpenGolden) -> None:
    golden = open_golden("mutr3d/detr3d_head")
    published = {f"pts_bbox_head.{name}": tensor for name, tensor in golden.state_dict().items()}
    config = _config(golden, golden.config["num_query"])
    detector = load_head(Detr3dAdapter(), config, published).detector
    assert isinstance(detector, Detr3d)
    feed(detector, _levels(golden))
    (image_size, *_) = sizes_in(golden.notes)
    projections = golden.input("lidar2img")[None]

    features = detector.encode(frame_of(projections, image_size))
    queries = detector.initial_queries(features)
    (predictions,) = detector.decode(queries, features)

    unit = detector.point_range.normalise
    golden.check("init_reference", unit(queries.references))
    golden.check("hs", predictions.embeddings.transpose(1, 2))
    golden.check("inter_references", unit(predictions.codes[..., :3]))
    golden.check("all_cls_scores", predictions.logits)
    golden.check("all_bbox_preds", published_codes(predictions.codes))
    for layer, references in enumerate(predictions.references):
        taps = taps_of(references, projections, features.camera_valid, image_size, ())
        golden.check(f"mask_layer{layer}", taps.visible[0].transpose(0, 1))

    truth = annotations_of([golden.input("gt_boxes")], [golden.input("gt_labels")], bottom_centre=True)
    _, losses = train_frame(predictions, truth)
    golden.check("loss_values", losses)

    objects = best_pairs(predictions, golden.config["bbox_coder"]["max_num"], 61.2, 10.0)
    kept = objects.valid[0]
    golden.check("dec_labels", objects.labels[0, kept])
    golden.check("dec_scores", objects.scores[0, kept])
    check_boxes(golden, "dec_boxes", boxes_to_mmdet3d_0(objects.boxes[0, kept], bottom_centre=True))


def test_cross_attention(open_golden: OpenGolden) -> None:
    golden = open_golden("mutr3d/detr3d_cross_attn")
    config = golden.config
    dim, cameras, levels = config["embed_dims"], config["num_cams"], config["num_levels"]
    attention = Detr3dCrossAttention(dim, cameras, levels, dropout=0.0).eval()
    ours = {f"layers.0.cross_attention.{name}": tensor for name, tensor in attention.state_dict().items()}
    published = {
        f"transformer.decoder.layers.0.attentions.1.{name}": tensor
        for name, tensor in golden.state_dict().items()
    }
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    conversion = read_entries(published, rule_entries(ours, HEAD, "", ""), shapes, (), "golden")
    attention.load_state_dict(
        {
            name.removeprefix("layers.0.cross_attention."): tensor
            for name, tensor in conversion.weights.items()
        }
    )

    low_high = config["pc_range"]
    point_range = ReferenceRange(
        (low_high[0], low_high[1], low_high[2], low_high[3], low_high[4], low_high[5])
    )
    units = golden.input("reference_points")
    query, position = golden.input("query").transpose(0, 1), golden.input("query_pos").transpose(0, 1)
    (image_size, *_) = sizes_in(golden.notes)
    pyramid = _levels(golden, "ca_feat")
    projections = golden.input("lidar2img")
    every_camera = torch.ones(projections.shape[:2], dtype=torch.bool)
    shapes = tuple((level.shape[-2], level.shape[-1]) for level in pyramid)
    taps = taps_of(point_range.to_metres(units), projections, every_camera, image_size, shapes)
    golden.check("mask", taps.visible.transpose(1, 2))
    tables = tables_of(pyramid, units.dtype)
    alike = torch.ones(*units.shape[:2], cameras, levels)
    golden.check("sampled_level_sum", weighted_samples(tables, taps, alike)[..., ::4])
    update = attention(query, position, Sight(inverse_sigmoid(units), taps, tables, None))
    golden.check("output", (query + update).transpose(0, 1))


def test_pf_track_detr3d_head(open_golden: OpenGolden) -> None:
    golden = open_golden("pftrack/detr3d_tracking_head")
    units = golden.input("reference_points")
    detector = Detr3d(_config(golden, queries=len(units))).eval()
    shapes = {
        name: tensor.shape
        for name, tensor in detector.state_dict().items()
        # PF-Track makes queries outside the head, and the golden has no images.
        if not name.startswith(("query_embedding", "reference_points", "image_encoder"))
    }
    entries = rule_entries(shapes, HEAD, "", "")
    conversion = read_entries(golden.state_dict(), entries, shapes, (), "golden")
    assert not conversion.new
    detector.load_state_dict(conversion.weights, strict=False)
    feed(detector, _levels(golden))
    (image_size, *_) = sizes_in(golden.notes)
    features = detector.encode(frame_of(golden.input("lidar2img")[None], image_size))
    queries = object_queries(
        golden.input("query_targets")[None],
        golden.input("query_embeds")[None],
        detector.point_range.to_metres(units)[None],
    )
    (predictions,) = detector.decode(queries, features)
    golden.check("all_cls_scores", predictions.logits)
    golden.check("all_bbox_preds", published_codes(predictions.codes))
    golden.check("query_feats", predictions.embeddings[-1])
    golden.check("reference_points", detector.point_range.normalise(predictions.codes[-1][..., :3]))
