"""BEVFormer against the original: the op, both attentions, alignment, encoder, head, whole on a stream."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from golden import Golden
from heads import (
    annotations_of,
    check_boxes,
    feed,
    frame_of,
    load_head,
    published_codes,
    tiny_encoder,
    train_frame,
)
from mmdet3d_boxes import boxes_to_mmdet3d_0
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncl.checkpoints.adapter import Part
from syncl.checkpoints.bevformer import HEAD, BevformerAdapter
from syncl.checkpoints.mapping import read_entries, rule_entries
from syncl.detectors import BevEncoderConfig, BevformerConfig, Detector
from syncl.detectors.bevformer.bev_encoder import (
    BevEncoder,
    History,
    SpatialCrossAttention,
    TemporalSelfAttention,
    View,
)
from syncl.detectors.bevformer.bev_memory import BevMemory, turned
from syncl.detectors.bevformer.bevformer import Bevformer
from syncl.detectors.bevformer.vehicle_motion import NUMBERS, VehicleMotion
from syncl.detectors.reference_range import PointRange
from syncl.geometry.poses import rigid_from_pose
from syncl.geometry.projection import project_points
from syncl.layers.deformable_attention import attend_grids, attend_rows, deformable_attention
from syncl.structures import Clip, Frame, Objects, Odometry
from syncl.trackers import SingleFrame
from syncl.trackers.single_frame import best_pairs
from syncl.training.strategies import BaselineConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

OpenGolden = Callable[[str], Golden]

RIGHT = torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
"""Where published weights have their frame: x to the right of the vehicle, y ahead."""


def filled(golden: Golden, name: str) -> Tensor:
    """An input whose manifest says a scale, and behind it what the numbers are."""
    found = re.match(r"fill_input\('(\w+)'\) scale=([\d.]+)", golden.manifest["inputs"][name]["how"])
    assert found is not None and found[1] == name
    return golden.filled(name, scale=float(found[2]))


def load(module: torch.nn.Module, published: dict[str, Tensor], ours: str, theirs: str = "") -> None:
    """Fill a module of a BEVFormer, whose names begin with `ours`, from published entries below `theirs`."""
    shapes = {f"{ours}{name}": tensor.shape for name, tensor in module.state_dict().items()}
    named = {f"{theirs}{name}": tensor for name, tensor in published.items()}
    conversion = read_entries(named, rule_entries(shapes, HEAD, "", ""), shapes, (), "golden")
    assert not conversion.new
    module.load_state_dict({name.removeprefix(ours): tensor for name, tensor in conversion.weights.items()})
    module.eval()


@pytest.mark.parametrize("form", [attend_rows, attend_grids, deformable_attention])
def test_deformable_attention(open_golden: OpenGolden, form: Callable[..., Tensor]) -> None:
    golden = open_golden("bevformer/msda")
    shapes = tuple((height, width) for height, width in golden.config["spatial_shapes"])
    values = filled(golden, "value").requires_grad_(form is not attend_rows)
    locations = (filled(golden, "location_logits") + 0.5).requires_grad_()
    logits = filled(golden, "weight_logits")
    weights = logits.flatten(3).softmax(-1).view_as(logits).requires_grad_()
    if form is attend_rows:
        with torch.no_grad():
            golden.check("output", form(values, shapes, locations, weights))
        return
    output = form(values, shapes, locations, weights)
    golden.check("output", output)
    (output * filled(golden, "upstream")).sum().backward()
    golden.check("grad_value", values.grad)
    golden.check("grad_location", locations.grad)
    golden.check("grad_weight", weights.grad)


@torch.no_grad()
def test_temporal_self_attention(open_golden: OpenGolden) -> None:
    golden = open_golden("bevformer/temporal_self_attention")
    config = golden.config
    shape = (config["bev_h"], config["bev_w"])
    module = TemporalSelfAttention(config["embed_dims"], config["num_heads"], shape)
    prefix = "bev_encoder.layers.0.temporal_attention."
    load(module, golden.state_dict(), prefix, "transformer.encoder.layers.0.attentions.0.")
    cells = _encoder(golden, layers=0).references
    golden.check("ref_2d", cells[:, None])
    x, positions = golden.input("query"), golden.input("bev_pos")
    previous, current = golden.input("prev_bev"), golden.input("bev_query_before_layers")
    shifted = cells + golden.input("shift")[:, None]

    for name, known in (("first", False), ("with_prev", True)):
        before = shifted if known else cells.expand(2, -1, -1)
        references = torch.stack([before, cells.expand(2, -1, -1)], dim=2)
        history = History(previous, current, torch.full((2, 1, 1), known), references)
        update = module(x, positions, history)
        first = History(*(part[:1] for part in history))
        golden.check(f"{name}_b1", (x[:1] + module(x[:1], positions[:1], first))[..., ::8])
        golden.compare(f"{name}_b2", (x + update)[:1, :, ::8], golden.outputs[f"{name}_b2"][:1])
        # The original asks with the first half of [prev_0, cur_0, prev_1, cur_1] in a batch of two.
        asked = torch.stack([previous[0], current[0]]) if known else x[[0, 0]]
        values = (previous, current) if known else (x, x)
        original = _attended(module, torch.cat([asked, x + positions], dim=-1), values, references)
        golden.check(f"{name}_b2", (x + original)[..., ::8])
        own = torch.cat([values[0], x + positions], dim=-1)
        assert torch.allclose(update, _attended(module, own, values, references), atol=1e-5)


def _attended(
    module: TemporalSelfAttention, queries: Tensor, values: tuple[Tensor, Tensor], references: Tensor
) -> Tensor:
    """What temporal self-attention makes of queries [B, N, 2 D] that are not its own."""
    attention = module.attention
    locations = references[:, :, None, :, None] + attention.offsets(queries, module.shapes)
    weights = attention.logits(queries).softmax(-1) / 2
    projected = attention.values(torch.cat(values, dim=1))
    out: Tensor = attention.output_projection(
        deformable_attention(projected, module.shapes, locations, weights)
    )
    return out


@torch.no_grad()
def test_spatial_cross_attention(open_golden: OpenGolden) -> None:
    golden = open_golden("bevformer/spatial_cross_attention")
    config = golden.config
    shapes = tuple((height, width) for height, width in config["levels"])
    encoder = _encoder(golden, layers=0)
    module = SpatialCrossAttention(
        config["embed_dims"], config["num_heads"], config["num_levels"], config["num_points"]
    )
    prefix = "bev_encoder.layers.0.spatial_attention."
    load(module, golden.state_dict(), prefix, "transformer.encoder.layers.0.attentions.1.")
    low, high = torch.tensor(config["pc_range"]).view(2, 3)
    golden.check("ref_3d", ((encoder.pillars - low) / (high - low))[::7].transpose(0, 1))
    tokens, x = filled(golden, "value").permute(2, 0, 1, 3), golden.input("query")
    projections = golden.input("lidar2img")
    height, width = config["img_shape"]
    everywhere = torch.ones(projections.shape[:2], dtype=torch.bool)
    sight = encoder.look_up(projections, everywhere, (height, width))
    golden.check("count", sight.cameras)
    mask = torch.from_numpy(golden.outputs["bev_mask"]).transpose(0, 1)
    theirs = torch.from_numpy(golden.outputs["reference_points_cam"]).transpose(0, 1)
    pixels, _ = project_points(projections.float(), encoder.pillars.flatten(0, 1)[None])
    units = (pixels / torch.tensor([width, height])).unflatten(2, encoder.pillars.shape[:2])
    for view in sight.views:
        place = (view.stream, view.camera)
        assert torch.equal(mask[place].any(-1).nonzero()[:, 0], view.cells)
        assert torch.equal(units[place][view.cells], view.references)
    seen = mask[:, :, ::3, :, None]
    golden.compare("reference_points_cam", units[:, :, ::3] * seen, theirs * seen)

    out = x + module(x, tokens, shapes, sight)
    golden.check("output_b1", out[:1, :, ::8])
    golden.compare("output_b2", out[:1, :, ::8], golden.outputs["output_b2"][:1])
    # In a batch of two the original takes the first stream's cells in both.
    firsts = {view.camera: view.cells for view in sight.views if view.stream == 0}
    views = tuple(
        View(stream, camera, cells, units[stream, camera, cells])
        for stream in (0, 1)
        for camera, cells in firsts.items()
    )
    golden.check("output_b2", (x + module(x, tokens, shapes, sight._replace(views=views)))[..., ::8])


@torch.no_grad()
@pytest.mark.parametrize("case", ["left", "right", "wrap", "wrap2", "still"])
def test_alignment(open_golden: OpenGolden, case: str) -> None:
    golden = open_golden("bevformer/prev_bev_alignment")
    encoder = _encoder(golden, layers=0)
    weights = golden.state_dict()
    told = {name: weights[name] for name in weights if name.startswith("can_bus_mlp")}
    load(encoder.motion_encoder, told, "bev_encoder.motion_encoder.", "transformer.")
    encoder.level_embedding.copy_(weights["level_embeds"])
    encoder.camera_embedding.copy_(weights["cams_embeds"])
    numbers = golden.input(f"can_bus_{case}")[None]
    previous = golden.input("prev_bev").transpose(0, 1)
    shape, centres = encoder.config.shape, {"own": None, "default": (100.0, 100.0)}
    for name, centre in centres.items():
        moved = turned(previous, shape, numbers[:, -1], centre)[0, :, ::16]
        golden.check(f"{name}_centre/{case}/prev_bev", moved)
    motion = VehicleMotion(numbers, torch.tensor([-torch.pi / 2], dtype=torch.float64), torch.ones(1))
    golden.check(f"{case}/shift", motion.shift(numbers, (102.4, 102.4)))
    added = encoder.motion_encoder(numbers.float()).expand(24, -1)
    golden.check(f"{case}/can_bus_query", added[:, ::4])
    tokens, _ = encoder.tokens((golden.input("feat0"), golden.input("feat1")))
    golden.check("tokens", tokens[0, :, ::3, ::16])


def test_encoder(open_golden: OpenGolden) -> None:
    golden = open_golden("bevformer/encoder")
    detector = _detector(golden, golden.state_dict())
    encoder = detector.bev_encoder
    layers: list[Tensor] = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: layers.append(output))
    bev, known = detector.initial_memory(1).bev, torch.tensor([False])
    for number in range(4):
        levels = _levels(golden, number)
        numbers = golden.input(f"can_bus_{number}")[None]
        if not numbers[0, [0, 1, 2, 17]].any():
            known = torch.tensor([False])
        motion = VehicleMotion(numbers, torch.tensor([-torch.pi / 2], dtype=torch.float64), torch.ones(1))
        with torch.no_grad():
            sight = encoder.look_up(
                golden.input("lidar2img")[None], torch.ones(1, 3, dtype=torch.bool), _image_size(levels)
            )
            previous = turned(bev, encoder.config.shape, numbers[:, -1], None)
            bev = encoder(levels, sight, numbers, previous, known, motion.shift(numbers, (102.4, 102.4)))
        known = torch.tensor([True])
        for layer, output in enumerate(layers):
            last = layer + 1 == len(layers)
            golden.check(f"t{number}/layer{layer}", output[0, :, ::8] if last else output[0, ::2, ::16])
        layers.clear()


def test_head(open_golden: OpenGolden) -> None:
    golden = open_golden("bevformer/head")
    detector = _detector(golden, golden.state_dict())
    levels, numbers = _levels(golden), golden.input("can_bus")
    feed(detector, levels)
    frame = _frame(golden.input("lidar2img"), numbers, _image_size(levels), time_s=0.0)
    # The golden's numbers are changes already: as after a frame in the origin.
    origin = torch.zeros(1, 4, dtype=torch.float64)
    memory = BevMemory(filled(golden, "prev_bev"), origin, torch.tensor([True]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VehicleMotion, "of", classmethod(lambda cls, _frame: _motion(numbers)))
        features = detector.encode(frame, memory)
    queries = detector.initial_queries(features)
    (predictions,) = detector.decode(queries, features)
    unit = detector.point_range.normalise
    golden.check("bev_embed", features.bev[0, :, ::8])
    golden.check("hs", predictions.embeddings[:, 0, :, ::8])
    golden.check("init_reference", unit(queries.references)[0])
    golden.check("inter_references", unit(predictions.codes[:, 0, :, :3]))
    golden.check("all_cls_scores", predictions.logits)
    golden.check("all_bbox_preds", published_codes(predictions.codes))

    coder = golden.config["bbox_coder"]
    low, high = torch.tensor(coder["post_center_range"]).view(2, 3)
    objects = best_pairs(predictions, coder["max_num"], 1e3, 1e3)
    inside = ((objects.boxes[..., :3] >= low) & (objects.boxes[..., :3] <= high)).all(-1)
    _check_detections(golden, "det_", replace(objects, valid=objects.valid & inside).detach())

    boxes, labels = golden.input("gt_boxes"), golden.input("gt_labels")
    truth = annotations_of([boxes], [labels], bottom_centre=False)
    targets, losses = train_frame(predictions, truth)
    names = [f"loss/{prefix}loss_{kind}" for prefix in ("d0.", "d1.", "") for kind in ("bbox", "cls")]
    for layer, assigned in enumerate(targets):
        golden.check(f"assigned_l{layer}", assigned[0] + 1)
    for name, loss in zip(names, losses, strict=True):
        golden.check(name, loss[None])
    losses.sum().backward()
    _check_gradients(golden, "grad_norms", detector, "")


@torch.no_grad()
def test_detector_on_a_stream(open_golden: OpenGolden) -> None:
    golden = open_golden("bevformer/detector")
    tracker = _tracker(golden, golden.state_dict())
    most = golden.config["pts_bbox_head"]["bbox_coder"]["max_num"]
    told = _recorded(tracker.detector)
    state = tracker.initial_state()
    for number, frame in enumerate(_stream(golden)):
        feed(tracker.detector, _levels(golden, number))
        decoded = tracker.look(frame, state)
        _, state = tracker.conclude(decoded)
        assert isinstance(state.detector_memory, BevMemory)
        golden.check(f"t{number}/can_bus_seen", told[-1][0])
        golden.check(f"t{number}/bev", state.detector_memory.bev[0, ::2, ::16])
        _check_detections(golden, f"t{number}/", best_pairs(decoded.standard, most, 61.2, 10.0))
        if number == 1:
            alone = tracker.look(frame, tracker.initial_state()).standard
            golden.check("single/scores", best_pairs(alone, most, 61.2, 10.0).scores[0])
            golden.check("single/can_bus_seen", told[-1][0])


def test_training_with_a_queue(open_golden: OpenGolden) -> None:
    golden = open_golden("bevformer/detector")
    tracker = _tracker(golden, golden.state_dict())
    chosen, stream = (0, 1, 3, 4), _stream(golden)
    levels = iter([_levels(golden, number) for number in chosen])
    tracker.detector.image_encoder.forward = lambda frame: next(levels)  # type: ignore[union-attr,assignment]
    told, views = _recorded(tracker.detector), list[Tensor]()
    tracker.detector.get_submodule("bev_encoder").register_forward_hook(lambda _m, _a, bev: views.append(bev))
    truth = annotations_of([golden.input("gt_boxes")], [golden.input("gt_labels")], bottom_centre=False)
    training = ClipTraining(
        tracker, BaselineConfig().build(tracker.detector.dim), UnrollConfig(context_frames=len(chosen) - 1)
    )
    losses = training(Clip(tuple(stream[number] for number in chosen), (truth,) * len(chosen)))
    for number, numbers in enumerate(told):
        golden.check(f"train/can_bus_{number}", numbers[0])
    golden.check("train/history_bev", views[-2][0, ::2, ::16])
    for ours, theirs in (("class", "loss_cls"), ("box", "loss_bbox")):
        both = [golden.outputs[f"train/loss/{layer}{theirs}"] for layer in ("d0.", "")]
        golden.compare(f"train/{theirs}", losses[ours][None], both[0] + both[1])
    losses["total"].backward()
    _check_gradients(golden, "train/grad_norms", tracker.detector, "pts_bbox_head.")


# From goldens to models and frames


def _encoder(golden: Golden, layers: int) -> BevEncoder:
    """The encoder of a golden of parts, with fresh weights."""
    config = golden.config
    shape = (config["bev_h"], config["bev_w"])
    return BevEncoder(
        BevEncoderConfig(shape, layers, config.get("num_points_in_pillar", 4)),
        dim=256,
        heads=8,
        hidden=512,
        dropout=0.0,
        levels=2,
        cameras=3,
        numbers=NUMBERS,
        point_range=_range(config.get("pc_range", [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])),
    ).eval()


def _range(numbers: list[float]) -> PointRange:
    a, b, c, d, e, f = numbers
    return (a, b, c, d, e, f)


def _config(golden: Golden, head: dict[str, Any], weights: dict[str, Tensor]) -> BevformerConfig:
    transformer = head["transformer"]
    encoder, decoder = transformer["encoder"], transformer["decoder"]
    spatial = encoder["transformerlayers"]["attn_cfgs"][1]["deformable_attention"]
    rows, columns = head["bev_h"], head["bev_w"]
    hidden, dim = weights["transformer.encoder.layers.0.ffns.0.layers.0.0.weight"].shape
    centre = transformer["rotate_center"]
    assert centre == [columns // 2, rows // 2]
    return BevformerConfig(
        tiny_encoder(spatial["num_levels"], dim),
        tuple(f"class_{index}" for index in range(len(weights["cls_branches.0.6.bias"]))),
        queries=len(weights["query_embedding.weight"]),
        dim=dim,
        heads=decoder["transformerlayers"]["attn_cfgs"][0]["num_heads"],
        layers=decoder["num_layers"],
        hidden=hidden,
        dropout=0.0,
        cameras=transformer["num_cams"],
        point_range=_range(encoder["pc_range"]),
        bev=BevEncoderConfig(
            (rows, columns),
            encoder["num_layers"],
            encoder["num_points_in_pillar"],
            spatial["num_points"],
        ),
    )


def _tracker(golden: Golden, published: dict[str, Tensor]) -> SingleFrame:
    """The detector of a golden behind a tracker that tracks nothing."""
    head = golden.config.get("pts_bbox_head", golden.config)
    bare = {name.removeprefix("pts_bbox_head."): tensor for name, tensor in published.items()}
    return load_head(BevformerAdapter(), _config(golden, head, bare), published)


def _detector(golden: Golden, published: dict[str, Tensor]) -> Bevformer:
    detector = _tracker(
        golden, {f"pts_bbox_head.{name}": tensor for name, tensor in published.items()}
    ).detector
    assert isinstance(detector, Bevformer)
    return detector


def _levels(golden: Golden, frame: int | None = None) -> tuple[Tensor, ...]:
    ending = "" if frame is None else f"_t{frame}"
    return tuple(golden.input(f"feat{level}{ending}") for level in range(2))


def _image_size(levels: tuple[Tensor, ...]) -> tuple[int, int]:
    """Strides are 8 and 16."""
    return 8 * levels[0].shape[-2], 8 * levels[0].shape[-1]


def _motion(numbers: Tensor) -> VehicleMotion:
    """The golden's numbers [18], in the frame of published weights."""
    return VehicleMotion(
        numbers[None], torch.tensor([-torch.pi / 2], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    )


def _frame(
    lidar2img: Tensor, numbers: Tensor, size: tuple[int, int], time_s: float, scene: str = "a"
) -> Frame:
    """A frame whose pose and odometry say these numbers [18]."""
    ego = rigid_from_pose(numbers[:3].numpy(), numbers[3:7].numpy())
    return replace(
        frame_of(lidar2img[None], size),
        global_from_vehicle=(torch.from_numpy(ego) @ RIGHT)[None],
        timestamp_s=torch.tensor([time_s], dtype=torch.float64),
        scenes=(scene,),
        odometry=Odometry(RIGHT[None], numbers[None, 3:7], numbers[None, 7:16]),
    )


def _stream(golden: Golden) -> list[Frame]:
    size = _image_size(_levels(golden, 0))
    scenes = golden.manifest["inputs"]["scenes"]["values"]
    return [
        _frame(golden.input("lidar2img"), numbers, size, float(number), scene)
        for number, (numbers, scene) in enumerate(zip(golden.input("can_bus"), scenes, strict=True))
    ]


def _recorded(detector: Detector) -> list[Tensor]:
    """What the detector's encoder is told of the vehicle's motion [B, 18], frame after frame, from now on."""
    told: list[Tensor] = []
    encoder = detector.get_submodule("bev_encoder")
    encoder.register_forward_pre_hook(lambda _module, arguments: told.append(arguments[2]))
    return told


def _check_detections(golden: Golden, prefix: str, objects: Objects) -> None:
    """Compare detections with those of the golden that they match; neighbours may swap their places."""
    kept = objects.valid[0]
    golden.check(f"{prefix}scores", objects.scores[0, kept])
    ours = boxes_to_mmdet3d_0(objects.boxes[0, kept], bottom_centre=True)
    theirs = torch.from_numpy(golden.outputs[f"{prefix}boxes"])
    labels = torch.from_numpy(golden.outputs[f"{prefix}labels"])
    apart = torch.cdist(ours[:, :3].double(), theirs[:, :3].double())
    apart = apart + 1e3 * (objects.labels[0, kept][:, None] != labels)
    rows, columns = linear_sum_assignment(apart.numpy())
    order = torch.from_numpy(columns)
    assert (torch.from_numpy(rows) - order).abs().max() <= 1
    golden.check(f"{prefix}labels", objects.labels[0, kept][order.argsort()])
    check_boxes(golden, f"{prefix}boxes", ours[order.argsort()])


def _check_gradients(golden: Golden, name: str, detector: Detector, prefix: str) -> None:
    """Norms of the gradients, in the original's order and of the original's parameters."""
    names = [f"detector.{parameter}" for parameter, _ in detector.named_parameters()]
    part = Part(HEAD)
    published = {
        entry.published: entry.ours.removeprefix("detector.") for entry in rule_entries(names, *part)
    }
    parameters = dict(detector.named_parameters())
    norms = []
    for theirs in golden.manifest["grad_norm_names"]:
        gradient = parameters[published[f"pts_bbox_head.{theirs.removeprefix(prefix)}"]].grad
        norms.append(0.0 if gradient is None else float(gradient.double().norm()))
    golden.check(name, torch.tensor(norms, dtype=torch.float64))
