"""PETR against the original head, alone (`streampetr/petr_head`) and inside PF-Track's tracker."""

import re
from collections.abc import Callable, Iterator
from typing import Any

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
from torch import Tensor, nn

from syncl.backbones import CpFpnConfig, VoVNetConfig
from syncl.checkpoints.adapter import Adapter
from syncl.checkpoints.petr import PetrAdapter
from syncl.checkpoints.pf_track import PfTrackAdapter
from syncl.detectors import ImageEncoderConfig, PetrConfig
from syncl.detectors.petr import Petr
from syncl.detectors.reference_range import PointRange
from syncl.layers.positional import encode_grid, encode_points
from syncl.structures import object_queries
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.single_frame import best_pairs

OpenGolden = Callable[[str], Golden]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _load(adapter: Adapter, golden: Golden, settings: dict[str, Any], query_count: int) -> Petr:
    """The golden's head; `settings` are the original's."""
    attention = settings["transformer"]["decoder"]["transformerlayers"]["attn_cfgs"][0]
    weights = golden.state_dict()
    hidden, dim = weights["transformer.decoder.layers.0.ffns.0.layers.0.0.weight"].shape
    config = PetrConfig(
        tiny_encoder(1, dim),
        tuple(f"class_{index}" for index in range(len(weights["cls_branches.0.6.bias"]))),
        queries=query_count,
        dim=dim,
        layers=layer_count(golden),
        hidden=hidden,
        heads=attention["num_heads"],
        depth_count=weights["position_encoder.0.weight"].shape[1] // 3,
        position_range=_range(settings["position_range"]),
        point_range=_range(settings["bbox_coder"]["pc_range"]),
    )
    published = {f"pts_bbox_head.{name}": tensor for name, tensor in weights.items()}
    detector = load_head(adapter, config, published).detector
    assert isinstance(detector, Petr)
    return detector


def _range(numbers: list[float]) -> PointRange:
    x0, y0, z0, x1, y1, z1 = numbers
    return (x0, y0, z0, x1, y1, z1)


def _record(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Outputs of modules in the next forward pass."""
    outputs: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _i, output, name=name: outputs.update({name: output}))
    return outputs


def _maps(tensor: Tensor) -> Tensor:
    """[B, C, H, W, D] as the original's [B, C, D, H, W]."""
    return tensor.permute(0, 1, 4, 2, 3)


def test_petr_head(open_golden: OpenGolden) -> None:
    golden = open_golden("streampetr/petr_head")
    features = golden.filled("mlvl_feats_0")
    streams = features.shape[0]
    detector = _load(PetrAdapter(), golden, golden.config["cfg"], golden.config["num_query"])
    feed(detector, (features,))
    # Sizes are stated in prose only: one padded size, then the content of every sample.
    (padded,) = sizes_in(golden.manifest["inputs"]["pad_shape"])
    contents = sizes_in(golden.manifest["inputs"]["img_shape"])
    frame = frame_of(golden.input("lidar2img"), padded, contents)
    recorded = _record({"ray": detector.position_encoder, "grid": detector.grid_encoder})

    encoded = detector.encode(frame)
    queries = detector.initial_queries(encoded)
    (predictions,) = detector.decode(queries, encoded)

    shape = (*features.shape[:2], *features.shape[-2:])
    golden.check("mask", ~encoded.token_valid.view(shape))
    golden.check("position_encoder_slice", _maps(recorded["ray"])[:, :, ::8, ::3, ::5])
    grid = encode_grid(encoded.token_valid.view(shape), detector.dim // 2)
    golden.check("sine_slice", _maps(grid)[:, :, ::12, ::3, ::5])
    golden.check("pos_embed_slice", _maps(recorded["ray"] + recorded["grid"])[:, :, ::8, ::3, ::5])
    golden.check("query_embed_slice", queries.positions[0, :, ::8])
    golden.check("all_cls_scores", predictions.logits)
    golden.check("all_bbox_preds", published_codes(predictions.codes))

    truth = annotations_of(
        [golden.input(f"gt_boxes_{stream}") for stream in range(streams)],
        [golden.input(f"gt_labels_{stream}") for stream in range(streams)],
        bottom_centre=False,
    )
    assigned, losses = train_frame(predictions, truth)
    for stream in range(streams):
        golden.check(f"assigned_gt_inds_{stream}", assigned[-1, stream] + 1)
    golden.check("losses", losses)

    objects = best_pairs(predictions, golden.config["cfg"]["bbox_coder"]["max_num"], 61.2, 10.0)
    for stream in range(streams):
        kept = objects.valid[stream]
        first = slice(golden.outputs[f"decoded_scores_{stream}"].shape[0])
        golden.check(f"decoded_labels_{stream}", objects.labels[stream, kept][first])
        golden.check(f"decoded_scores_{stream}", objects.scores[stream, kept][first])
        boxes = boxes_to_mmdet3d_0(objects.boxes[stream, kept][first])
        check_boxes(golden, f"decoded_boxes_{stream}", boxes)


def test_pf_track_petr_head(open_golden: OpenGolden) -> None:
    golden = open_golden("pftrack/petr_tracking_head")
    units = golden.input("reference_points")
    detector = _load(PfTrackAdapter(), golden, golden.config, len(units))
    features = golden.filled("mlvl_feats")
    feed(detector, (features,))
    contents = golden.filled("query_targets")
    scaled = re.search(
        r"rows 0\.\.(\d+) .*multiplied by ([\d.]+)", golden.manifest["inputs"]["query_targets"]["how"]
    )
    assert scaled
    contents[: int(scaled[1]) + 1] *= float(scaled[2])
    (image_size, *_) = sizes_in(golden.notes)
    golden.check("query_embedding_pos2posemb3d", encode_points(units, detector.dim // 2))
    projections = golden.input("lidar2img")[None]
    queries = object_queries(
        contents[None],
        golden.filled("query_embeds")[None],
        detector.point_range.to_metres(units)[None],
    )
    recorded = _record(
        {"ray": detector.position_encoder, "grid": detector.grid_encoder, "input": detector.input_projection}
    )
    encoded = detector.encode(frame_of(projections, image_size))
    (predictions,) = detector.decode(queries, encoded)

    coordinates = detector.ray_coordinates(projections.double().inverse(), image_size, features.shape[-2:])
    cells = torch.ones(1, features.shape[1], *features.shape[-2:], dtype=torch.bool)
    golden.check("coords3d", _maps(coordinates)[0, :, ::12, ::3, ::6])
    golden.check("position_embedding_3d", _maps(recorded["ray"])[0, :, ::16, ::3, ::6])
    golden.check("sine_embedding_3d", _maps(encode_grid(cells, detector.dim // 2))[0, :, ::12, ::3, ::6])
    golden.check("sine_embedding_adapted", _maps(recorded["grid"])[0, :, ::16, ::3, ::6])
    golden.check("input_proj", _maps(recorded["input"])[0, :, ::16, ::3, ::6])
    golden.check("all_cls_scores", predictions.logits)
    golden.check("all_bbox_preds", published_codes(predictions.codes))
    golden.check("query_feats", predictions.embeddings[-1])
    golden.check("reference_points", detector.point_range.normalise(predictions.codes[-1][..., :3]))

    (content, *_) = sizes_in(golden.manifest["outputs"]["padded_all_cls_scores"]["meaning"])
    padded = detector.encode(frame_of(projections, image_size, [content]))
    (predictions,) = detector.decode(queries, padded)
    grid = encode_grid(padded.token_valid.view(cells.shape), detector.dim // 2)
    golden.check("padded_sine_embedding_3d", _maps(grid)[0, :, ::12, ::3, ::6])
    golden.check("padded_all_cls_scores", predictions.logits)
    golden.check("padded_all_bbox_preds", published_codes(predictions.codes))


def test_a_whole_pf_track_checkpoint(open_golden: OpenGolden) -> None:
    """Every name of the original tracker's checkpoint is used or accounted for, and comes back."""
    golden = open_golden("pftrack/cam3d_tracker")
    weights = golden.state_dict()
    hidden, dim = weights["pts_bbox_head.transformer.decoder.layers.0.ffns.0.layers.0.0.weight"].shape
    layers = {
        name.split(".")[4] for name in weights if name.startswith("pts_bbox_head.transformer.decoder.layers")
    }
    config = ModelConfig(
        InputConfig((64, 64)),
        PetrConfig(
            ImageEncoderConfig(VoVNetConfig("V-19-slim", out_stages=(4, 5)), CpFpnConfig(dim)),
            tuple(f"class_{index}" for index in range(len(weights["pts_bbox_head.cls_branches.0.6.bias"]))),
            queries=len(weights["reference_points.weight"]),
            dim=dim,
            layers=len(layers),
            hidden=hidden,
            depth_count=weights["pts_bbox_head.position_encoder.0.weight"].shape[1] // 3,
            learned_contents=True,
        ),
        SingleFrameConfig(),
    )
    conversion = PfTrackAdapter().read(weights, config, "golden")
    assert not conversion.new
    assert all(name.startswith(("STReasoner.", "criterion.")) for name in conversion.ignored)
    back = PfTrackAdapter().write(conversion.weights, config).weights
    expected = {name for name in weights if not name.startswith("STReasoner.")}
    assert back.keys() == expected
    for name in expected:
        golden.compare(f"weights: {name.split('.')[0]}", back[name], weights[name])
