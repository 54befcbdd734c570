"""PF-Track models as its goldens configure them, and what drives them frame by frame."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from golden import Golden
from heads import tiny_encoder
from mmdet3d_boxes import boxes_from_mmdet3d_0
from torch import Tensor

from syncl.backbones import CpFpnConfig, VoVNetConfig
from syncl.checkpoints.pf_track import PfTrackAdapter
from syncl.detectors import ImageEncoderConfig, PetrConfig
from syncl.detectors.reference_range import PointRange
from syncl.structures import Annotations, CameraRig, Frame, Predictions, Trajectories
from syncl.trackers import PfTrackConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.pf_track import PfTrack
from syncl.training.assignment import Assignment
from syncl.training.losses import LossConfig, set_losses

# The original's class filter takes the first seven class numbers.
TRACKED_CLASSES = 7


def class_names(count: int) -> tuple[str, ...]:
    return tuple(f"class_{index}" for index in range(count))


def range_of(numbers: list[float]) -> PointRange:
    x0, y0, z0, x1, y1, z1 = numbers
    return (x0, y0, z0, x1, y1, z1)


def count_layers(weights: dict[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def reasoning_config(weights: dict[str, Tensor], settings: dict[str, Any]) -> PfTrackConfig:
    """The tracker of `STReasoner` weights (without that prefix) and the original's settings."""
    layer = settings["hist_temporal_transformer"]["decoder"]["transformerlayers"]
    classes = len(weights["track_cls.6.bias"])
    return PfTrackConfig(
        untracked=class_names(classes)[TRACKED_CLASSES:],
        past_reasoning=settings["history_reasoning"],
        future_reasoning=settings["future_reasoning"],
        history=settings["hist_len"],
        future=settings["fut_len"],
        heads=layer["attn_cfgs"][0]["num_heads"],
        hidden=layer["feedforward_channels"],
        layers=count_layers(weights, "spatial_transformer.decoder.layers."),
        dropout=layer["ffn_dropout"],
    )


def reasoning_tracker(golden: Golden, **options: Any) -> PfTrack:
    """The tracker of a golden of the reasoning alone, on a tiny PETR with the golden's query embedding."""
    weights = golden.state_dict()
    dim = weights["ts_query_embed.0.bias"].shape[0]
    classes = class_names(len(weights["track_cls.6.bias"]))
    detector = PetrConfig(
        tiny_encoder(1, dim),
        classes,
        queries=2,
        dim=dim,
        layers=1,
        hidden=8,
        point_range=range_of(golden.config["pc_range"]),
        learned_contents=True,
    )
    tracker = replace(reasoning_config(weights, golden.config), **options)
    config = ModelConfig(InputConfig((8, 8)), detector, tracker)
    published = {f"STReasoner.{name}": tensor for name, tensor in weights.items()}
    return _load(config, published | golden.extra_state_dict(), whole=False)


def whole_tracker(golden: Golden) -> PfTrack:
    """The tracker of a golden that holds a complete checkpoint."""
    weights, settings = golden.state_dict(), golden.config
    head, runtime = settings["pts_bbox_head"], settings["runtime_tracker"]
    decoder = head["transformer"]["decoder"]["transformerlayers"]
    hidden, dim = weights["pts_bbox_head.transformer.decoder.layers.0.ffns.0.layers.0.0.weight"].shape
    backbone, neck = settings["img_backbone"], settings["img_neck"]
    centre_range = head["bbox_coder"]["post_center_range"]
    detector = PetrConfig(
        ImageEncoderConfig(
            VoVNetConfig(
                backbone["spec_name"].removesuffix("-eSE"),
                out_stages=tuple(int(name.removeprefix("stage")) for name in backbone["out_features"]),
                norm="fixed",
            ),
            CpFpnConfig(neck["out_channels"]),
        ),
        class_names(len(weights["pts_bbox_head.cls_branches.0.6.bias"])),
        queries=len(weights["reference_points.weight"]),
        dim=dim,
        heads=decoder["attn_cfgs"][0]["num_heads"],
        layers=count_layers(weights, "pts_bbox_head.transformer.decoder.layers."),
        hidden=hidden,
        depth_count=weights["pts_bbox_head.position_encoder.0.weight"].shape[1] // 3,
        position_range=range_of(head["position_range"]),
        point_range=range_of(settings["pc_range"]),
        learned_contents=True,
    )
    tracker = replace(
        reasoning_config(golden.state_dict("STReasoner."), settings["spatial_temporal_reason"]),
        birth_score=runtime["score_threshold"],
        record_score=runtime["record_threshold"],
        output_score=runtime["output_threshold"],
        miss_tolerance=runtime["max_age_since_update"],
        max_objects=head["bbox_coder"]["max_num"],
        output_range_m=centre_range[3],
        output_height_m=centre_range[5],
    )
    return _load(ModelConfig(InputConfig((64, 64)), detector, tracker), weights, whole=True)


def _load(config: ModelConfig, weights: dict[str, Tensor], whole: bool) -> PfTrack:
    """Fill through the adapter and make sure that the way back gives the same."""
    adapter = PfTrackAdapter()
    tracker = config.build()
    assert isinstance(tracker, PfTrack)
    published = {} if whole else adapter.write(tracker.state_dict(), config).weights
    conversion = adapter.read(published | weights, config, "golden")
    assert not conversion.new
    tracker.load_state_dict(conversion.weights, strict=True)
    back = adapter.write(tracker.state_dict(), config).weights
    assert not whole or back.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), f"{name} does not survive there and back"
    return tracker.eval()


def see_images(tracker: PfTrack) -> Callable[[Tensor], None]:
    """Let the tracker see already normalised images; returns the function that shows it the next ones."""
    encoder = tracker.detector.image_encoder
    shown: list[Tensor] = []

    def encode(_: Frame) -> tuple[Tensor, ...]:
        images = shown[-1]
        levels = encoder.neck(encoder.backbone(images.flatten(0, 1)))
        return tuple(level.unflatten(0, images.shape[:2]) for level in levels)

    encoder.forward = encode  # type: ignore[method-assign,union-attr]
    return shown.append


def images_of(golden: Golden, frame: int) -> Tensor:
    """The golden's images [1, C, 3, H, W] of a frame: what all frames share plus its own."""
    name = f"img_frame{frame}"
    shape = tuple(golden.manifest["inputs"][name]["shape"])[-4:]
    return (golden.filled("img", shape) + golden.filled(name, shape))[None]


def frame_at(
    image_from_vehicle: Tensor,
    image_size: tuple[int, int],
    global_from_vehicle: Tensor,
    time_s: float,
    scene: str,
) -> Frame:
    """A frame of black images."""
    cameras = len(image_from_vehicle)
    return Frame(
        images=torch.zeros(1, cameras, 3, *image_size, dtype=torch.uint8),
        rig=CameraRig(
            tuple(f"camera_{index}" for index in range(cameras)),
            torch.eye(3, dtype=torch.float64).expand(1, cameras, 3, 3),
            image_from_vehicle.double()[None],
        ),
        camera_valid=torch.ones(1, cameras, dtype=torch.bool),
        content_size=torch.tensor(image_size).expand(1, cameras, 2),
        global_from_vehicle=global_from_vehicle.double()[None],
        timestamp_s=torch.tensor([time_s], dtype=torch.float64),
        scenes=(scene,),
        samples=(f"{scene} {time_s}",),
    )


def truth_of(golden: Golden, prefix: str) -> Annotations:
    """The ground truth `<prefix>gt_...` of a golden, trajectories included."""
    boxes = boxes_from_mmdet3d_0(golden.input(f"{prefix}gt_boxes").float(), bottom_centre=True)
    return Annotations(
        boxes=boxes[None],
        labels=golden.input(f"{prefix}gt_labels").long()[None],
        identities=golden.input(f"{prefix}gt_ids").long()[None],
        valid=torch.ones(1, len(boxes), dtype=torch.bool),
        trajectories=Trajectories(
            golden.input(f"{prefix}gt_traj").float()[None],
            golden.input(f"{prefix}gt_traj_mask").bool()[None],
        ),
    )


def losses_by_layer(
    predictions: Predictions, assignment: Assignment, truth: Annotations, config: LossConfig
) -> list[dict[str, Tensor]]:
    """Class and box loss of each decoder layer."""
    losses = []
    for layer in range(len(predictions.logits)):
        part = slice(layer, layer + 1)
        one = replace(
            predictions,
            logits=predictions.logits[part],
            codes=predictions.codes[part],
            embeddings=predictions.embeddings[part],
            references=predictions.references[part],
        )
        rows = Assignment(assignment.targets[part], assignment.supervised[part])
        losses.append(set_losses(one, rows, truth, config))
    return losses


def check_losses(
    golden: Golden, prefix: str, layers: list[dict[str, Tensor]], reasoning: dict[str, Tensor]
) -> None:
    """Compare a frame's losses with the golden's entries; the last layer's have no layer prefix there."""
    for index, losses in enumerate(layers):
        name = f"loss.{prefix}" if index + 1 == len(layers) else f"loss.{prefix}d{index}."
        golden.check(f"{name}loss_cls", losses["class"])
        golden.check(f"{name}loss_bbox", losses["box"])
    golden.check(f"loss.{prefix}loss_mem_cls", reasoning["refined_class"])
    golden.check(f"loss.{prefix}loss_mem_bbox", reasoning["refined_box"])
    golden.check(f"loss.{prefix}loss_for", reasoning["trajectory"])


def bookkeeping_of(targets: Tensor, track_count: int) -> Tensor:
    """Targets [Q] as the original keeps them.

    Tracks: the object, -2 if it is gone. Detection slots: the place among the objects that no track holds, -1
    if there is none.
    """
    slots, tracks = targets[: len(targets) - track_count], targets[len(targets) - track_count :]
    held = set(tracks[tracks >= 0].tolist())
    free = [index for index in range(int(targets.max()) + 1 + len(held)) if index not in held]
    places = [free.index(target) if target >= 0 else -1 for target in slots.tolist()]
    return torch.cat([torch.tensor(places, dtype=torch.int64), torch.where(tracks >= 0, tracks, -2)])
