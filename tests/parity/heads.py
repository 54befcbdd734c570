"""Detectors for goldens of heads alone: published names and values in, given features instead of images."""

import re
from dataclasses import replace
from typing import Any

import torch
from golden import TOLERANCE, Golden
from mmdet3d_boxes import boxes_from_mmdet3d_0
from torch import Tensor, nn

from syncl.backbones import FpnConfig, ResNetConfig
from syncl.checkpoints.adapter import Adapter
from syncl.detectors import Detector, ImageEncoderConfig
from syncl.detectors.passed import Features
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.structures import Annotations, CameraRig, Frame, Predictions, Queries
from syncl.trackers import Decoded, SingleFrame, SingleFrameConfig, TrackState
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.assignment import Assignment
from syncl.training.losses import LossConfig, set_losses
from syncl.training.strategies import BaselineConfig


def tiny_encoder(levels: int, channels: int) -> ImageEncoderConfig:
    """An encoder that is never run, with the number of levels and channels a head needs."""
    backbone = ResNetConfig(
        depth=None, blocks=(1, 1, 1, 1), stem_width=4, widths=(4, 4, 4, 4), out_stages=(1,)
    )
    return ImageEncoderConfig(backbone, FpnConfig(channels, num_outs=levels))


def load_head(adapter: Adapter, detector: Any, weights: dict[str, Tensor]) -> SingleFrame:
    """A detector of this configuration with a golden's head, through the adapter in both directions.

    What the golden does not hold (the image encoder, for a head alone) keeps its initial values: our model is
    written in the published format, overwritten with the golden's entries, and read back.
    """
    config = ModelConfig(InputConfig((8, 8)), detector, SingleFrameConfig())
    tracker = config.build()
    assert isinstance(tracker, SingleFrame)
    published = adapter.write(tracker.state_dict(), config).weights
    unknown = set(weights) - set(published)
    assert not unknown, f"the adapter does not write {sorted(unknown)}"
    conversion = adapter.read(published | weights, config, "golden")
    assert not conversion.new
    tracker.load_state_dict(conversion.weights, strict=True)
    back = adapter.write(tracker.state_dict(), config).weights
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), f"{name} does not survive there and back"
    return tracker.eval()


def feed(detector: Detector, levels: tuple[Tensor, ...]) -> None:
    """Let the detector see these feature levels [B, C, D, H, W] whatever the images."""
    detector.image_encoder.forward = lambda frame: levels  # type: ignore[union-attr]


def frame_of(
    image_from_vehicle: Tensor, image_size: tuple[int, int], content: list[tuple[int, int]] | None = None
) -> Frame:
    """A frame of black images with these projections [B, C, 4, 4]; `content` per stream if padded."""
    streams, cameras = image_from_vehicle.shape[:2]
    sizes = torch.tensor(content or [image_size] * streams)
    return Frame(
        images=torch.zeros(streams, cameras, 3, *image_size, dtype=torch.uint8),
        rig=CameraRig(
            names=tuple(f"camera_{index}" for index in range(cameras)),
            image_from_camera=torch.eye(3, dtype=torch.float64).expand(streams, cameras, 3, 3),
            camera_from_vehicle=image_from_vehicle.double(),
        ),
        camera_valid=torch.ones(streams, cameras, dtype=torch.bool),
        content_size=sizes[:, None].expand(streams, cameras, 2),
        global_from_vehicle=torch.eye(4, dtype=torch.float64).expand(streams, 4, 4),
        timestamp_s=torch.zeros(streams, dtype=torch.float64),
        scenes=("scene",) * streams,
        samples=tuple(f"sample_{index}" for index in range(streams)),
    )


def published_codes(codes: Tensor) -> Tensor:
    """Our box codes in the order and heading of mmdetection3d before 1.0."""
    return MMDET3D_0_CODE.from_library(codes)


def annotations_of(boxes: list[Tensor], labels: list[Tensor], bottom_centre: bool) -> Annotations:
    """Ground truth from the original's boxes, padded to the longest."""
    most = max(len(rows) for rows in boxes)
    result = Annotations(
        boxes=torch.zeros(len(boxes), most, 9),
        labels=torch.zeros(len(boxes), most, dtype=torch.int64),
        identities=torch.full((len(boxes), most), -1),
        valid=torch.zeros(len(boxes), most, dtype=torch.bool),
    )
    for stream, (rows, numbers) in enumerate(zip(boxes, labels, strict=True)):
        count = len(rows)
        result.boxes[stream, :count] = boxes_from_mmdet3d_0(rows.float(), bottom_centre)
        result.labels[stream, :count] = numbers.long()
        result.identities[stream, :count] = torch.arange(count)
        result.valid[stream, :count] = True
    return result


def layer_count(golden: Golden) -> int:
    """Decoder layers in a golden's weights."""
    names = (name.partition("decoder.layers.")[2] for name in golden.state_dict())
    return 1 + max(int(name.partition(".")[0]) for name in names if name)


def sizes_in(text: str) -> list[tuple[int, int]]:
    """Image sizes (height, width) a manifest speaks of: `(160, 400)` or `256x448`, in order."""
    found = re.findall(r"\((\d+), ?(\d+)\)|\b(\d+)x(\d+)\b", text)
    return [(int(a or c), int(b or d)) for a, b, c, d in found]


def decoded_of(predictions: Predictions, track_identities: Tensor) -> Decoded:
    """A look that gave these predictions, whose last queries are tracks [B, N] that hold these objects."""
    streams, rows = predictions.valid.shape
    nobody = torch.full((streams, rows - track_identities.shape[1]), -1)
    nothing = predictions.codes.new_zeros(streams, rows, 1)
    queries = Queries(
        nothing,
        nothing,
        predictions.codes[0].detach(),
        torch.cat([nobody, track_identities], dim=1),
        predictions.valid,
        predictions.object_count,
    )
    frame = frame_of(torch.eye(4).expand(streams, 1, 4, 4), (8, 8))
    features = Features(frame.rig.image_from_vehicle, frame.camera_valid, frame.image_size, ())
    identities = queries.identities[:, :0]
    state = TrackState(
        identities,
        identities,
        identities >= 0,
        identities.sum(1),
        frame.global_from_vehicle,
        frame.timestamp_s,
        frame.scenes,
    )
    return Decoded(state, frame, features, queries, (predictions,))


def train_frame(predictions: Predictions, truth: Annotations) -> tuple[Tensor, Tensor]:
    """Assignment [L, B, Q] without tracks, and losses as goldens order them: box, class for each layer."""
    strategy = BaselineConfig().build(predictions.embeddings.shape[-1])
    no_tracks = torch.zeros(len(truth.boxes), 0, dtype=torch.int64)
    assignment, _ = strategy.assign(decoded_of(predictions, no_tracks), truth)
    losses = []
    for layer in range(len(predictions.logits)):
        values = set_losses(*layer_of(predictions, assignment, layer), truth, LossConfig())
        losses += [values["box"], values["class"]]
    return assignment.targets, torch.stack(losses)


def layer_of(predictions: Predictions, assignment: Assignment, layer: int) -> tuple[Predictions, Assignment]:
    """One decoder layer's predictions and targets."""
    part = slice(layer, layer + 1)
    one = replace(
        predictions,
        logits=predictions.logits[part],
        codes=predictions.codes[part],
        embeddings=predictions.embeddings[part],
        references=predictions.references[part],
    )
    return one, replace(assignment, targets=assignment.targets[part], supervised=assignment.supervised[part])


def check_boxes(golden: Golden, name: str, boxes: Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare boxes [N, 9]; headings, which are equal up to whole turns, by sine and cosine."""
    theirs = torch.from_numpy(golden.outputs[name])

    def parts(rows: Tensor) -> Tensor:
        return torch.cat([rows[:, :6], rows[:, 6:7].sin(), rows[:, 6:7].cos(), rows[:, 7:]], dim=1)

    golden.compare(name, parts(boxes), parts(theirs), tolerance)


def check_gradients(
    golden: Golden,
    adapter: Adapter,
    config: ModelConfig,
    tracker: nn.Module,
    key: str = "grad_norms",
    tolerance: float = TOLERANCE,
) -> None:
    """Norms of the gradients, which do not change when box codes are permuted, by published name.

    -1 stands for parameters without gradient, and for those that the original builds and never uses.
    """
    gradients = {name: torch.zeros_like(tensor) for name, tensor in tracker.state_dict().items()}
    without = set()
    for name, parameter in tracker.named_parameters():
        if parameter.grad is None:
            without.add(name)
        else:
            gradients[name] = parameter.grad
    entries = adapter.entries(gradients, config)
    published = adapter.write(gradients, config).weights
    absent = {entry.published for entry in entries if entry.ours in without} | set(adapter.constants(config))
    names = golden.manifest["grad_norm_names"]
    unused = [name for name in names if name not in published]
    known = {name: torch.tensor(-1.0) for name in (*absent, *unused)}
    norms = torch.stack([known[name] if name in known else published[name].norm().float() for name in names])
    golden.check(key, norms, tolerance)
    theirs = torch.from_numpy(golden.outputs[key])
    # Each by itself, too: sums in another order, as of two threads, move some by 1e-4 and more.
    assert ((norms - theirs).abs() <= 10 * tolerance * theirs.abs() + 1e-5 * theirs.abs().mean()).all(), [
        (name, float(a), float(b))
        for name, a, b in zip(names, norms, theirs)
        if abs(a - b) > 10 * tolerance * abs(b) + 1e-5 * float(theirs.abs().mean())
    ]
