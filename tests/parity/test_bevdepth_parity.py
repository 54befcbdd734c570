"""DORT's base detector against the original: lift and splat, time, and the centre head."""

import re
from collections.abc import Callable

import torch
from golden import Golden
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.bevdepth.bev_backbone import BevBackbone, shifted
from syncl.detectors.bevdepth.blocks import residual_stage
from syncl.detectors.bevdepth.centre_head import (
    Candidates,
    CentreHead,
    CentreHeadConfig,
    CentreTask,
)
from syncl.detectors.bevdepth.suppression import Suppression
from syncl.detectors.bevdepth.view_transform import BevGrid, ViewTransform, lift_points
from syncl.geometry.boxes import decode_boxes
from syncl.structures import Annotations
from syncl.training.objectives.centres import CentreLossConfig, centre_losses, centre_targets
from syncl.training.objectives.depths import depth_loss

OpenGolden = Callable[[str], Golden]


def grid_of(config: dict) -> BevGrid:
    (low_x, high_x, cell), (low_y, high_y, _), (low_z, high_z, _) = (config[f"{axis}bound"] for axis in "xyz")
    return BevGrid(
        low_x, low_y, cell, (round((high_y - low_y) / cell), round((high_x - low_x) / cell)), low_z, high_z
    )


def load(module: nn.Module, published: dict[str, Tensor], rules: dict[str, str]) -> None:
    """Fill a module from published entries whose names begin otherwise; every one is used."""
    named = {}
    for name, tensor in published.items():
        for theirs, ours in rules.items():
            if found := re.match(theirs, name):
                named[found.expand(ours) + name[found.end(0) :]] = tensor
                break
    missing, left = module.load_state_dict(named, strict=False)
    assert not missing and not left


def test_view_transform(open_golden: OpenGolden) -> None:
    golden = open_golden("dort/view_transform")
    config, features = golden.config, golden.input("img_feat")
    rotation, place, intrinsics, turn, shift = (
        golden.input(name) for name in ("rots", "trans", "intrins", "post_rots", "post_trans")
    )
    module = ViewTransform(
        channels=config["numC_input"],
        context=config["numC_Trans"],
        hidden=config["extra_depth_net"]["numC_input"],
        blocks=3,
        depths_m=tuple(config["grid_config"]["dbound"]),
        grid=grid_of(config["grid_config"]),
        numbers=33,
    ).eval()
    rules = {
        r"depthnet\.": "depth.predict.",
        r"extra_depthnet\.layers\.0\.": "depth.blocks.",
        r"featnet\.": "context.",
        r"dcn\.0\.": "depth.deformable.",
        r"dcn\.1\.": "depth.deformable_norm.",
        r"se\.input_conv\.": "depth.reduce.",
        r"se\.fc\.0\.": "depth.calibration_norm.",
        r"se\.fc\.1\.": "depth.calibration_gate.",
    }
    load(module, golden.state_dict(), rules)

    eye = torch.eye(4, dtype=torch.float64).expand(*place.shape[:2], 4, 4)
    vehicle_from_camera, image, camera = eye.clone(), eye.clone(), eye.clone()
    vehicle_from_camera[..., :3, :3], vehicle_from_camera[..., :3, 3] = rotation, place
    camera[..., :3, :3] = intrinsics
    image[..., :3, :3] = turn
    image[..., :2, 2] += shift[..., :2]
    projections = image @ camera @ torch.linalg.inv(vehicle_from_camera)
    size = tuple(config["data_config"]["input_size"])
    points = lift_points(projections, size, tuple(features.shape[-2:]), module.depths)
    golden.check("geom", points[:, :, ::8].float())
    numbers = torch.cat([p.flatten(2) for p in (intrinsics, turn, shift, rotation, place)], -1).flatten(0, 1)
    valid = torch.ones(features.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        bev, depth = module(features, projections, numbers, valid, size)
    golden.check("depth_digit", depth.logits.flatten(0, 1)[:, ::3])
    golden.check("bev", bev[:, ::2, ::2, ::2])
    golden.check("bev_sum", bev.sum((2, 3)))
    golden.check("bev_nonzero", (bev != 0).any(1).sum((1, 2)))
    loss = depth_loss(depth.logits, golden.input("depth_gt"), depth.depths)
    golden.check("depth_loss", config["loss_depth_weight"] * loss)


def test_views_of_the_past_and_the_encoder(open_golden: OpenGolden) -> None:
    golden = open_golden("dort/bev_temporal")
    config, grid = golden.config, grid_of(golden.config["grid"])
    channels, frames = config["channels"], config["frames"]
    before = residual_stage(channels, channels, 2).eval()
    encoder = BevBackbone(channels * frames, config["neck_out"]).eval()
    load(before, golden.state_dict("pre_process_net."), {r"layers\.0\.": ""})
    rules = {
        r"layers\.": "stages.",
        r"neck\.conv\.": "join.",
        # The upsampling in front is no module of ours.
        **{rf"neck\.up2\.{number}\.": f"refine.{number - 1}." for number in range(1, 5)},
    }
    load(encoder, golden.state_dict("neck_bev."), rules)

    shape = (1, channels, *grid.shape)
    views = torch.stack([golden.filled(f"bev_f{number}", shape) for number in range(frames)])
    poses = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    for number in range(frames):
        poses[number, :3, :3] = golden.input(f"rots{number}")[0, 0]
        poses[number, :3, 3] = golden.input(f"trans{number}")[0, 0]
    with torch.no_grad():
        views = before(views[:, 0])
        golden.check("pre0", views[None, 0, ::2, ::4, ::4])
        views[1:] = shifted(views[1:], poses[:1] @ torch.linalg.inv(poses[1:]), grid)
        for number in range(1, frames):
            golden.check(f"shift{number}", views[None, number, ::2, ::4, ::4])
        golden.check("bev", encoder(views.flatten(0, 1)[None])[:, ::2, ::4, ::4])


def head_of(golden: Golden) -> CentreHead:
    config, coder = golden.config, golden.config["bbox_coder"]
    classes = tuple(name for task in config["tasks"] for name in task["class_names"])
    cell = coder["voxel_size"][0] * coder["out_size_factor"]
    low_x, low_y = coder["pc_range"]
    grid = BevGrid(low_x, low_y, cell, (round(-2 * low_y / cell), round(-2 * low_x / cell)), -10, 10)
    tasks = tuple(CentreTask(tuple(task["class_names"])) for task in config["tasks"])
    head_config = CentreHeadConfig(
        tasks,
        shared=config["share_conv_channel"],
        task_candidates=coder["max_num"],
        candidates=coder["max_num"] * len(tasks),
        min_score=coder["score_threshold"],
    )
    head = CentreHead(head_config, classes, config["in_channels"], grid).eval()
    published = golden.state_dict()
    names = ("reg", "height", "dim", "rot", "vel", "heatmap")
    kinds = [f"task_heads.{task}.{name}" for task in range(len(tasks)) for name in names]
    entries = {
        name.replace("shared_conv.conv", "shared.0").replace("shared_conv.bn", "shared.1"): tensor
        for name, tensor in published.items()
        if name.startswith("shared_conv.")
    }
    entries["branches.0.weight"] = torch.cat([published[f"{kind}.0.conv.weight"] for kind in kinds])
    for entry in ("weight", "bias", "running_mean", "running_var"):
        entries[f"branches.1.{entry}"] = torch.cat([published[f"{kind}.0.bn.{entry}"] for kind in kinds])
    entries["branches.1.num_batches_tracked"] = torch.tensor(0)
    for number, kind in enumerate(kinds):
        for entry in ("weight", "bias"):
            entries[f"outputs.{number}.{entry}"] = published[f"{kind}.1.{entry}"]
    head.load_state_dict(entries)
    return head


def annotated(golden: Golden) -> Annotations:
    boxes = golden.input("gt_boxes")
    boxes[:, 2] += boxes[:, 5] / 2
    labels = golden.input("gt_labels").long()
    numbers = torch.arange(len(labels))
    return Annotations(boxes[None], labels[None], numbers[None], (numbers >= 0)[None])


def test_centre_head(open_golden: OpenGolden) -> None:
    golden = open_golden("dort/center_head")
    head = head_of(golden)
    bev = functional.avg_pool2d(golden.filled("bev"), 5, stride=1, padding=2) * 5
    with torch.no_grad():
        _, maps = head(bev)
    config = CentreLossConfig(
        overlap=golden.config["train_cfg"]["gaussian_overlap"],
        smallest_radius=golden.config["train_cfg"]["min_radius"],
    )
    losses = dict(zip(golden.manifest["loss_names"], golden.outputs["losses"], strict=True))
    annotations, decoded = annotated(golden), 0
    found = head.candidates(maps)
    logits, boxes = found.logits.sigmoid(), decode_boxes(found.codes)
    for task, heat in enumerate(maps.heat):
        parts = ("reg", "height", "dim", "rot", "vel")
        for name, part in zip(parts, maps.boxes[0, task].split((2, 1, 3, 2, 2)), strict=True):
            golden.check(f"raw_{name}{task}", part[:, ::8, ::8])
        golden.check(f"raw_heatmap{task}", heat[0, :, ::8, ::8])

        targets = centre_targets(maps, task, annotations, config)
        ones = (targets.heat == 1).sum().float()
        golden.check(f"hm{task}", torch.stack([targets.heat.sum(), ones]))
        # The original has a task's objects class by class; slots of those outside the view stay empty.
        labels = annotations.labels[0]
        own = labels.argsort(stable=True)
        own = own[torch.isin(labels[own], torch.tensor(maps.labels[task]))]
        kept = own[: len(golden.outputs[f"ind{task}"])]
        golden.check(f"ind{task}", targets.cells[0, kept])
        golden.check(f"anno{task}", targets.codes[0, kept])
        ours = centre_losses(maps, task, targets, config)
        names = {"xy": "place", "z": "height", "whl": "size", "yaw": "heading", "vel": "velocity"}
        for theirs, own in names.items():
            golden.compare(f"{own}{task}", ours[own], losses[f"task{task}.loss_{theirs}"])
        golden.compare(f"heat{task}", ours["heat"], losses[f"%stask{task}.loss_heatmap"])

        rows = (found.tasks[0] == task) & found.valid[0]
        first = sum(len(other) for other in maps.labels[:task])
        golden.check(f"dec{task}_scores", logits[0, rows])
        # Scores of neighbours differ by less than they round: rows are compared with their match.
        theirs = torch.from_numpy(golden.outputs[f"dec{task}_bboxes"])
        nearest = torch.cdist(theirs, boxes[0, rows]).argmin(1)
        assert nearest.unique().numel() == len(theirs)
        golden.check(f"dec{task}_bboxes", boxes[0, rows][nearest])
        golden.check(f"dec{task}_labels", (found.labels[0, rows][nearest] - first).float())
        decoded += len(theirs)
    assert decoded == int(found.valid.sum())


def test_suppression_by_distance(open_golden: OpenGolden) -> None:
    golden = open_golden("dort/center_head")
    head = head_of(golden)
    task = head.config.tasks.index(CentreTask(("barrier",)))
    radius = golden.config["test_cfg"]["min_radius"][task]
    codes = torch.zeros(1, len(golden.outputs[f"dec{task}_scores"]), 9)
    codes[0] = torch.from_numpy(golden.outputs[f"dec{task}_bboxes"])
    scores = torch.from_numpy(golden.outputs[f"dec{task}_scores"])[None]
    rule = Suppression([CentreTask(("barrier",), (0.0,), radius_m=radius**0.5)], ("barrier",))
    nothing = torch.zeros_like(scores, dtype=torch.int64)
    candidates = Candidates(codes, nothing, nothing, scores, nothing == 0)
    golden.check("barrier_keep", rule(codes, scores, candidates)[0].nonzero()[:, 0])
