"""Writing the folder of Autoware's node: three ONNX files, its parameter file, and a manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from syncl.checkpoints.upgrades import Json
from syncl.deployment.autoware.engines import (
    INPUTS,
    MEMORY,
    NODE_MEAN,
    NODE_STD,
    OUTPUTS,
    HeadWithMemory,
    ImageFeatures,
    PositionEmbedding,
    fitting_detector,
)
from syncl.deployment.manifest import AUTOWARE, write_manifest
from syncl.deployment.programs import LEAST_OPSET, OnnxProgram, check_opset, write_onnx
from syncl.detectors.streampetr import StreamPetr
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_rigid
from syncl.structures import Frame
from syncl.trackers import Tracker
from syncl.trackers.model import ModelConfig

PARAMETERS = "ml_package_camera_streampetr.param.yaml"
_BACKBONE, _POSITIONS, _HEAD = INPUTS
# Class logits and box codes of the exported programs and of the model may differ by this much.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class AutowareExport:
    """What was written.

    Attributes:
        folder: with the files.
        nodes: of each program's graph, by the file's stem.
        size_bytes: of all programs.
        logits: largest difference of a class logit from the model, over the frames that were checked.
        codes: the same of box codes: metres, logarithms of metres, sines and cosines, m/s.
        frames: how many frames that are, one after another.
    """

    folder: Path
    nodes: Mapping[str, int]
    size_bytes: int
    logits: float
    codes: float
    frames: int


@torch.no_grad()
def write_autoware(
    folder: Path,
    tracker: Tracker,
    config: ModelConfig,
    drive: Sequence[Frame],
    *,
    source: Mapping[str, Json],
    opset: int = LEAST_OPSET,
) -> AutowareExport:
    """Write the folder's files, after driving with them as the node does.

    Args:
        folder: an empty folder.
        tracker: to export, in inference mode, on the CPU.
        config: that it was built from.
        drive: frames of the rig and size that the node is to hand over, all cameras there.
        source: what the manifest says of where the model comes from.
        opset: of ONNX.

    Raises:
        SynclError: the model does not fit the node, there is no such opset, a package is missing, or the
            programs do not do what the model does.
    """
    detector = fitting_detector(tracker, config.input)
    check_opset(opset)
    cameras = drive[0].rig.names
    programs = programs_of(detector, len(cameras), drive[0].image_size)
    given = Node(detector, drive[0], programs).first
    nodes = {}
    for stem, program in programs.items():
        arguments = tuple(given[name] for name in INPUTS[stem])
        traced = torch.export.export(program.eval(), arguments, strict=False)
        nodes[stem] = write_onnx(traced, INPUTS[stem], OUTPUTS[stem], opset, folder / f"{stem}.onnx")
    written = {stem: OnnxProgram(folder / f"{stem}.onnx") for stem in INPUTS}
    logits, codes = differences(written, detector, drive)
    if max(logits, codes) > _TOLERANCE:
        raise SynclError(
            f"the exported programs are not the model: largest difference of a logit {logits:.2g}, of a box "
            f"code {codes:.2g}; report this, please"
        )
    (folder / PARAMETERS).write_text(parameters(detector, tracker, len(cameras), drive[0].image_size))
    size_bytes = sum((folder / f"{stem}.onnx").stat().st_size for stem in INPUTS)
    write_manifest(
        folder,
        {
            "source": dict(source),
            "cameras": list(cameras),
            "images": {
                "message_encoding": "rgb8",
                "height": drive[0].image_size[0],
                "width": drive[0].image_size[1],
                "node_mean": list(NODE_MEAN),
                "node_std": list(NODE_STD),
            },
            "classes": list(detector.classes),
            "nodes": cast(Json, nodes),
            "opset": opset,
            "checked": {"frames": len(drive), "logits": logits, "codes": codes},
        },
        AUTOWARE,
    )
    return AutowareExport(folder, nodes, size_bytes, logits, codes, len(drive))


def parameters(detector: StreamPetr, tracker: Tracker, cameras: int, image_size: tuple[int, int]) -> str:
    """The node's file of what depends on the programs.

    Args:
        detector: of the model.
        tracker: around it, which says how far it looks.
        cameras: how many.
        image_size: (H, W) of the images that the node makes.
    """
    config, rules = detector.config, getattr(tracker, "config", None)
    low, span = detector.point_range.low.tolist(), detector.point_range.span.tolist()
    sides = [
        getattr(rules, "output_range_m", max(map(abs, low[:2]))),
        getattr(rules, "output_height_m", low[2] + span[2]),
    ]
    reach = [float(sides[0]), float(sides[0]), float(sides[1])]
    names = ", ".join(f'"{name.upper()}"' for name in detector.classes)
    values = {
        "class_names": f"[{names}]",
        "detection_range": [-side for side in reach] + reach,
        "input_image_height": image_size[0],
        "input_image_width": image_size[1],
        "num_proposals": len(detector.layers) * detector.query_count,
        "rois_number": cameras,
        "pre_memory_length": config.memory_slots,
        "post_memory_length": config.memory_slots + config.objects_a_frame,
    }
    lines = ["/**:", "  ros__parameters:", "    model_params:"]
    return "\n".join([*lines, *(f"      {name}: {value}" for name, value in values.items())]) + "\n"


def programs_of(detector: StreamPetr, cameras: int, image_size: tuple[int, int]) -> dict[str, nn.Module]:
    """The three programs by the stem of their file."""
    return {
        _BACKBONE: ImageFeatures(detector),
        _POSITIONS: PositionEmbedding(detector, image_size),
        _HEAD: HeadWithMemory(detector, cameras, image_size),
    }


Programs = Mapping[str, nn.Module | OnnxProgram]


class Node:
    """What the node does around the programs, frame after frame, in float32 as it does.

    Args:
        detector: of the model, for sizes.
        start: the first frame, whose pose and time are the origin.
        programs: by stem, as modules or files.
    """

    def __init__(self, detector: StreamPetr, start: Frame, programs: Programs) -> None:
        config = detector.config
        rows, dim = config.memory_slots, detector.dim
        shapes = dict(zip(MEMORY, ((dim,), (3,), (1,), (4, 4), (2,))))
        self._held = {name: torch.zeros(1, rows, *shape) for name, shape in shapes.items()}
        self._start = start
        self._programs = programs
        self._fixed = self._run(_POSITIONS, _calibration(start))
        self._scale = [torch.tensor(values)[:, None, None] for values in (NODE_MEAN, NODE_STD)]
        mean, std = self._scale
        self.first = (
            {"img": (start.images.float() - mean) / std}
            | _calibration(start)
            | {"x": self._run(_BACKBONE, {"img": (start.images.float() - mean) / std})["img_feats"]}
            | self._fixed
            | self._moment(start)
        )

    def _moment(self, frame: Frame) -> dict[str, Tensor]:
        pose = frame.global_from_vehicle.clone()
        pose[:, :3, 3] -= self._start.global_from_vehicle[:, :3, 3]
        now = (frame.timestamp_s - self._start.timestamp_s).float()
        held = self._held | {"timestamp": self._held["timestamp"] + now}
        poses = {"data_ego_pose": pose.float(), "data_ego_pose_inv": invert_rigid(pose).float()}
        return poses | {f"pre_memory_{name}": tensor for name, tensor in held.items()}

    def step(self, frame: Frame) -> dict[str, Tensor]:
        """What the head tells of a frame."""
        mean, std = self._scale
        seen = self._run(_BACKBONE, {"img": (frame.images.float() - mean) / std})
        told = self._run(_HEAD, {"x": seen["img_feats"]} | self._fixed | self._moment(frame))
        rows = self._held["embedding"].shape[1]
        self._held = {name: told[f"post_memory_{name}"][:, :rows] for name in MEMORY}
        now = (frame.timestamp_s - self._start.timestamp_s).float()
        self._held["timestamp"] = self._held["timestamp"] - now
        return told

    def _run(self, stem: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        program = self._programs[stem]
        if isinstance(program, OnnxProgram):
            return program(given)
        return dict(zip(OUTPUTS[stem], program(*(given[name] for name in INPUTS[stem]))))


def _calibration(frame: Frame) -> dict[str, Tensor]:
    rig = frame.rig
    intrinsics = torch.eye(4).repeat(1, len(rig.names), 1, 1)
    intrinsics[..., :3, :3] = rig.image_from_camera.float()
    return {
        "img_metas_pad": torch.tensor([*frame.image_size, 3.0]),
        "intrinsics": intrinsics,
        "img2lidar": rig.vehicle_from_image.float(),
    }


@torch.no_grad()
def differences(programs: Programs, detector: StreamPetr, drive: Sequence[Frame]) -> tuple[float, float]:
    """The largest differences of logits and codes between programs run as the node runs them, and the model.

    As the node's, the model's memory starts with nothing, not with the points that it learned to start with.
    """
    node = Node(detector, drive[0], programs)
    start = drive[0]
    memory = detector.initial_memory(1)
    origin = start.global_from_vehicle[:, None, :3, 3].expand_as(memory.references)
    memory = replace(
        memory,
        references=origin,
        timestamps_s=start.timestamp_s[:, None].expand_as(memory.timestamps_s),
        started=torch.ones_like(memory.started),
    )
    logits = codes = 0.0
    for frame in drive:
        features = detector.encode(frame, memory)
        (expected,) = detector.decode(detector.initial_queries(features), features)
        memory = detector.remember(memory, frame, features, expected)
        told = node.step(frame)
        for name, values in (("all_cls_scores", expected.logits), ("all_bbox_preds", expected.codes)):
            # What is no number is as far as can be; max() would pass over it.
            apart = float((told[name][0].T - values.flatten(0, 2)).abs().nan_to_num(nan=torch.inf).max())
            logits, codes = (max(logits, apart), codes) if "cls" in name else (logits, max(codes, apart))
    return logits, codes
