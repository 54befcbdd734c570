"""ADA-Track models as its goldens configure them, and frames for them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from golden import Golden
from heads import feed, frame_of, layer_count, tiny_encoder
from torch import Tensor

from syncl.checkpoints.ada_track import AdaTrackAdapter
from syncl.detectors import Mutr3dDetr3dConfig, PetrConfig
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.structures import Frame
from syncl.trackers import AdaTrackConfig, ClipNoise
from syncl.trackers.ada_track import AdaTrack
from syncl.trackers.model import InputConfig, ModelConfig


def ada_config(golden: Golden, weights: dict[str, Tensor], **changes: Any) -> ModelConfig:
    """The model of a golden whose weights have the names of a whole checkpoint."""
    settings = golden.config
    head = settings.get("pts_bbox_head", settings)
    layer = head["transformer"]["decoder"]["transformerlayers"]
    association = head["transformer"]["decoder"]["association_network"]
    hidden, dim = weights["pts_bbox_head.transformer.decoder.layers.0.ffns.0.layers.0.0.weight"].shape
    low = head["pc_range"]
    sizes: dict[str, Any] = {
        "classes": tuple(f"class_{index}" for index in range(head["num_classes"])),
        "dim": dim,
        "heads": layer["attn_cfgs"][0]["num_heads"],
        "layers": layer_count(golden),
        "hidden": hidden,
        "point_range": (low[0], low[1], low[2], low[3], low[4], low[5]),
    }
    detector: Mutr3dDetr3dConfig | PetrConfig
    if head["type"].startswith("DETR3D"):
        levels, queries = head["num_feature_levels"], len(weights["query_embedding.weight"])
        detector = Mutr3dDetr3dConfig(
            tiny_encoder(levels, dim), queries=queries, cameras=head["num_cams"], **sizes
        )
    else:
        queries = len(weights["reference_points.weight"])
        detector = PetrConfig(tiny_encoder(1, dim), queries=queries, learned_contents=True, **sizes)
    hungarian = settings.get("hungarian", False)
    noise = settings.get("qim_args", {"random_drop": 0, "fp_ratio": 0})
    tracker = AdaTrackConfig(
        birth_score=settings.get("score_thresh", 0.4),
        output_score=settings.get("filter_score_thresh", 0.35),
        affinity=settings.get("affinity_thresh", 0.3),
        pairing="hungarian" if hungarian else "greedy",
        pair_score=0.2 if hungarian else 0.0,
        own_share=settings.get("feature_update_rate"),
        gated=association["cross_attn_value_gate"],
        hidden=association["ffn_dims"],
        heads=association["num_heads"],
        dropout=association["dropout"],
        miss_tolerance=settings.get("miss_tolerance", 5),
        noise=ClipNoise(noise["random_drop"], 0.0, noise["fp_ratio"]),
    )
    return ModelConfig(InputConfig((8, 8)), detector, replace(tracker, **changes))


def ada_tracker(golden: Golden, weights: dict[str, Tensor], **changes: Any) -> AdaTrack:
    """The golden's tracker with its weights, through the adapter both ways.

    The goldens have no images, so backbone and neck keep their initial values.
    """
    config, adapter = ada_config(golden, weights, **changes), AdaTrackAdapter()
    torch.manual_seed(0)
    model = config.build()
    assert isinstance(model, AdaTrack)
    written = adapter.write(model.state_dict(), config)
    assert not written.new
    used = {name for name in weights if not name.startswith("query_interact.")}
    # A golden of a head alone has none of the tracker's own.
    assert used <= set(written.weights)
    lacking = {name for name in written.weights if name not in used and not name.startswith("img_")}
    assert lacking <= {"criterion.code_weights"}, lacking
    conversion = adapter.read(written.weights | weights, config, "golden")
    assert not conversion.new
    model.load_state_dict(conversion.weights, strict=True)
    back = adapter.write(model.state_dict(), config).weights
    assert all(torch.equal(back[name], weights[name]) for name in used)
    return model.eval()


def frames_of(golden: Golden, count: int, scenes: tuple[str, ...]) -> Iterator[Frame]:
    """The golden's frames; images are not looked at, see `show`."""
    levels = golden.manifest["inputs"]["feat{level}_t{frame}"]["shape"]
    # Where DETR3D samples a pyramid its finest level has stride 8; PETR attends one of 16.
    stride = 8 if len(levels) > 1 else 16
    image_size = (stride * levels[0][-2], stride * levels[0][-1])
    projections = golden.input("lidar2img")[None]
    rotations, translations = golden.input("l2g_r_mat").double(), golden.input("l2g_t").double()
    for index, time_s in enumerate(golden.input("timestamp")[:count]):
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = rotations[index].T, translations[index]
        yield replace(
            frame_of(projections, image_size),
            global_from_vehicle=pose[None],
            timestamp_s=time_s[None].double(),
            scenes=(scenes[index],),
            samples=(f"frame {index}",),
        )


def features_of(golden: Golden, frame: int) -> tuple[Tensor, ...]:
    """The feature levels of a frame."""
    shapes = golden.manifest["inputs"]["feat{level}_t{frame}"]["shape"]
    return tuple(golden.filled(f"feat{level}_t{frame}", tuple(shape)) for level, shape in enumerate(shapes))


def show(tracker: AdaTrack, levels: tuple[Tensor, ...]) -> None:
    """Let the tracker see these levels whatever the images."""
    feed(tracker.detector, levels)


def tracks_first(values: Tensor, objects: int, dim: int = 0) -> Tensor:
    """Rows in the original's order: tracks, then detections."""
    first, last = values.split([objects, values.shape[dim] - objects], dim=dim)
    return torch.cat([last, first], dim=dim)


def published_pairs(pairs: Tensor) -> Tensor:
    """Our pair numbers [..., 7] in the original's order, width before length."""
    return pairs[..., [0, 1, 2, 4, 3, 5, 6]]


def published(codes: Tensor) -> Tensor:
    """Our box codes in the original's order and heading."""
    return MMDET3D_0_CODE.from_library(codes)
