"""The rig of all tests: frames of a small vehicle, objects around it, and every detector and tracker tiny.

Two cameras of 32 x 64 pixels unless a test asks for others, images of noise, and models of 32 channels that
take a step in milliseconds. `SMALL` has the detectors of the synthetic recipes instead, image head and all
but the depth.
Worlds on disk are fixtures (`conftest.py`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from syncl.backbones import CpFpnConfig, FpnConfig, ResNetConfig
from syncl.detectors import (
    BevDepthConfig,
    BevEncoderConfig,
    BevformerConfig,
    CentreHeadConfig,
    CentreTask,
    Detector,
    DetectorConfig,
    Detr3dConfig,
    DortConfig,
    DortDetr3dConfig,
    ImageEncoderConfig,
    Mutr3dDetr3dConfig,
    PetrConfig,
    Petrv2Config,
    RecurrenceConfig,
    StreamPetrConfig,
)
from syncl.recipes.synthetic import (
    small_bevformer,
    small_detr3d,
    small_petr,
    small_petrv2,
    small_streampetr,
)
from syncl.structures import Annotations, CameraRig, Clip, Frame, Trajectories
from syncl.trackers import ClipNoise, Mutr3dConfig, PfTrackConfig

HEIGHT, WIDTH = 32, 64
CAMERA_HEIGHT_M = 1.5

# Frames


def pose(x_m: float = 0.0, y_m: float = 0.0, yaw_rad: float = 0.0) -> Tensor:
    """[4, 4] float64 global_from_vehicle of a vehicle that stands level."""
    matrix = torch.eye(4, dtype=torch.float64)
    yaw = torch.tensor(yaw_rad, dtype=torch.float64)
    matrix[:2, :2] = torch.stack([torch.stack([yaw.cos(), -yaw.sin()]), torch.stack([yaw.sin(), yaw.cos()])])
    matrix[0, 3], matrix[1, 3] = x_m, y_m
    return matrix


def ring(cameras: int) -> Tensor:
    """[C, 4, 4] float64 camera_from_vehicle of level cameras in a ring, the first looks ahead."""
    angles = torch.arange(cameras, dtype=torch.float64) * (2 * torch.pi / cameras)
    matrices = torch.zeros(cameras, 4, 4, dtype=torch.float64)
    matrices[:, 0, 0], matrices[:, 0, 1] = angles.sin(), -angles.cos()
    matrices[:, 1, 2], matrices[:, 1, 3], matrices[:, 3, 3] = -1, CAMERA_HEIGHT_M, 1
    matrices[:, 2, 0], matrices[:, 2, 1] = angles.cos(), angles.sin()
    return matrices


def make_frame(
    time_s: float = 0.0,
    scenes: str | Sequence[str] = "a",
    poses: Tensor | Sequence[Tensor] | None = None,
    *,
    streams: int = 1,
    cameras: int = 2,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    speed_m_s: float = 0.0,
    focal_px: float | Tensor | None = None,
    seed: int | None = None,
) -> Frame:
    """A frame with images of noise.

    Args:
        time_s: of all streams.
        scenes: one name for all streams, or one each, which then say how many there are.
        poses: global_from_vehicle, one for all streams or one each; by default where the speed leads to.
        streams: B, where scenes do not say.
        cameras: in a ring.
        size: height and width of the images.
        speed_m_s: of a vehicle that drives along x, in the origin at time 0.
        focal_px: of all cameras or [C]; a view of 77 degrees by default.
        seed: of the noise; another for every time by default.
    """
    names = (scenes,) * streams if isinstance(scenes, str) else tuple(scenes)
    streams, (height, width) = len(names), size
    generator = torch.Generator().manual_seed(round(time_s * 100) if seed is None else seed)
    images = torch.randint(0, 256, (streams, cameras, 3, height, width), generator=generator)
    intrinsics = torch.zeros(streams, cameras, 3, 3, dtype=torch.float64)
    focal = torch.as_tensor(0.625 * width if focal_px is None else focal_px, dtype=torch.float64)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1
    given = pose(speed_m_s * time_s) if poses is None else poses
    given = given if isinstance(given, Tensor) else torch.stack(tuple(given))
    return Frame(
        images=images.to(torch.uint8),
        rig=CameraRig(
            tuple(f"CAM_{index}" for index in range(cameras)),
            intrinsics,
            ring(cameras).repeat(streams, 1, 1, 1),
        ),
        camera_valid=torch.ones(streams, cameras, dtype=torch.bool),
        content_size=torch.tensor(size).repeat(streams, cameras, 1),
        global_from_vehicle=given.expand(streams, 4, 4).clone(),
        timestamp_s=torch.full((streams,), time_s, dtype=torch.float64),
        scenes=names,
        samples=tuple(f"{name}-{time_s}" for name in names),
    )


# Objects


def make_objects(
    identities: Sequence[int],
    streams: int = 1,
    *,
    classes: int = 4,
    spacing_m: float = 8.0,
    future: int | None = None,
) -> Annotations:
    """Cars in a row along x, around the vehicle: place and class follow from the identity.

    Args:
        identities: of the objects of each stream.
        streams: B.
        classes: how many classes there are.
        spacing_m: between neighbours; identity 2.5 would be where the vehicle is.
        future: with so many frames of trajectories, along which objects drive a metre ahead each; or none.
    """
    numbers = torch.tensor(tuple(identities), dtype=torch.int64).repeat(streams, 1)
    boxes = torch.zeros(*numbers.shape, 9)
    boxes[..., 0] = (numbers - 2.5) * spacing_m
    boxes[..., 3:6] = torch.tensor([4.0, 2.0, 1.5])
    valid = torch.ones_like(numbers, dtype=torch.bool)
    trajectories = None
    if future is not None:
        centres = boxes[:, :, None, :3].repeat(1, 1, future + 1, 1)
        centres[..., 0] += torch.arange(future + 1.0)
        trajectories = Trajectories(centres, valid[..., None].repeat(1, 1, future + 1))
    return Annotations(boxes, numbers % classes, numbers, valid, trajectories)


def cars_at(*places: tuple[float, float]) -> Annotations:
    """Cars of 4 x 2 x 3 m that stand on the ground with their centres there, looking along x."""
    boxes = torch.zeros(1, len(places), 9)
    boxes[0, :, :2] = torch.tensor(places)
    boxes[..., 2], boxes[..., 3:6] = 1.5, torch.tensor([4.0, 2.0, 3.0])
    numbers = torch.arange(len(places))[None]
    return Annotations(boxes, numbers * 0, numbers, numbers >= 0)


def make_clip(
    *identities: Sequence[int],
    streams: int = 1,
    future: int | None = None,
    speed_m_s: float = 0.0,
) -> Clip:
    """A clip with these objects in each frame, half a second apart; see `make_objects` and `make_frame`."""
    times = [0.5 * number for number in range(len(identities))]
    return Clip(
        tuple(make_frame(time, streams=streams, speed_m_s=speed_m_s) for time in times),
        tuple(make_objects(row, streams, future=future) for row in identities),
    )


# Models

CLASSES = ("car", "truck", "pedestrian", "barrier")
DIM, OBJECT_QUERIES = 32, 12
SIZES = {"dim": DIM, "heads": 4, "layers": 2, "hidden": 48, "dropout": 0.0}


def tiny_encoder(pyramid: bool = True, dim: int = DIM) -> ImageEncoderConfig:
    """A residual net of four blocks, strides 8, 16 and 32; under a whole pyramid, or PETR's for tokens."""
    backbone = ResNetConfig(depth=None, blocks=(1, 1, 1, 1), stem_width=8, widths=(8, 8, 16, 16))
    return ImageEncoderConfig(backbone, FpnConfig(dim) if pyramid else CpFpnConfig(dim))


def _tiny(cameras: int) -> dict[str, DetectorConfig]:
    pyramid, tokens = tiny_encoder(), tiny_encoder(pyramid=False)
    return {
        "detr3d": Detr3dConfig(pyramid, CLASSES, queries=OBJECT_QUERIES, cameras=cameras, **SIZES),
        "mutr3d_detr3d": Mutr3dDetr3dConfig(
            pyramid, CLASSES, queries=OBJECT_QUERIES, cameras=cameras, **SIZES
        ),
        "petr": PetrConfig(tokens, CLASSES, queries=OBJECT_QUERIES, **SIZES),
        "petrv2": Petrv2Config(tokens, CLASSES, queries=OBJECT_QUERIES, **SIZES),
        "streampetr": StreamPetrConfig(
            tokens,
            CLASSES,
            queries=OBJECT_QUERIES - 3,
            propagated=3,
            memory_slots=8,
            objects_a_frame=4,
            **SIZES,
        ),
        "bevformer": BevformerConfig(
            pyramid,
            CLASSES,
            queries=OBJECT_QUERIES,
            cameras=cameras,
            bev=BevEncoderConfig((8, 10), layers=2),
            **SIZES,
        ),
    }


CENTRE_HEAD = CentreHeadConfig(
    (CentreTask(("car", "truck")), CentreTask(("pedestrian", "barrier"), (2.0, 1.0))),
    shared=16,
    hidden=8,
    task_candidates=10,
    candidates=16,
    min_score=0.0,
)


# What fresh weights propose lies far apart.
SUPPRESSING_HEAD = dataclasses.replace(
    CENTRE_HEAD, tasks=tuple(dataclasses.replace(task, radius_m=12.0) for task in CENTRE_HEAD.tasks)
)


def tiny_bevdepth(**changes: object) -> BevDepthConfig:
    """BEVDepth over three frames, a view of 16 x 16 cells; it has candidates in the place of queries."""
    config = BevDepthConfig(
        tiny_encoder(),
        CLASSES,
        point_range=(-32.0, -32.0, -5.0, 32.0, 32.0, 3.0),
        cell_m=4.0,
        depths_m=(1.0, 31.0, 5.0),
        context=8,
        depth_hidden=8,
        depth_blocks=1,
        frames=3,
        bev_channels=8,
        head=CENTRE_HEAD,
    )
    return dataclasses.replace(config, **changes)


def small_mutr3d_detr3d() -> Mutr3dDetr3dConfig:
    """MUTR3D's DETR3D in the size of the recipes' DETR3D."""
    base = small_detr3d()
    return Mutr3dDetr3dConfig(**{field.name: getattr(base, field.name) for field in dataclasses.fields(base)})


def _of_few_layers(make: Callable[[], DetectorConfig]) -> DetectorConfig:
    config = make()
    return dataclasses.replace(config, image=tiny_encoder(dim=config.dim), layers=2)


DETECTORS: dict[str, DetectorConfig] = _tiny(cameras=2)
"""Every detector, tiny, for two cameras; `OBJECT_QUERIES` object queries each."""

_RECIPES: dict[str, Callable[[], DetectorConfig]] = {
    "detr3d": small_detr3d,
    "mutr3d_detr3d": small_mutr3d_detr3d,
    "petr": small_petr,
    "petrv2": small_petrv2,
    "streampetr": small_streampetr,
    "bevformer": small_bevformer,
}
SMALL: dict[str, Callable[[], DetectorConfig]] = {
    name: partial(_of_few_layers, make) for name, make in _RECIPES.items()
}
"""Every detector with all that synthetic recipes have (proposals, lifted tracks, six cameras), but depth."""

TINY_RUN = (
    "model.input.image_size=[64,96]",
    "model.detector.image.backbone.blocks=[1,1,1,1]",
    "model.detector.image.backbone.stem_width=8",
    "model.detector.image.backbone.widths=[8,8,16,16]",
    "model.detector.queries=24",
    "model.detector.layers=2",
    "model.detector.proposals.count=8",
)
"""What makes a run of a synthetic recipe short, where it does not matter how well a model could learn."""

# Nothing is forgotten or made up at random, so that what a test sees follows from what it does.
TRACKERS: dict[str, Mutr3dConfig | PfTrackConfig] = {
    "mutr3d": Mutr3dConfig(heads=4, hidden=48, noise=ClipNoise()),
    "pf_track": PfTrackConfig(heads=4, hidden=48, dropout=0.0),
}
"""Every trained tracker, tiny, without noise in training."""


def make_tracker(detector: str = "petr", tracker: str = "mutr3d", **changes: object):
    """A tracker of `TRACKERS` with changes, on one of `DETECTORS`; the same fresh weights each time."""
    torch.manual_seed(0)
    config = dataclasses.replace(TRACKERS[tracker], **changes)
    return config.build(DETECTORS[detector].build())


RECURRENCE = RecurrenceConfig(
    turns=2, grid=(2, 2, 2), channels=8, groups=2, volume=8, blocks=1, dim=16, least_m=(3.0, 3.0, 2.0)
)


def dort_on(
    base: BevDepthConfig | Detr3dConfig, recurrence: RecurrenceConfig = RECURRENCE, **sizes: object
) -> DortConfig | DortDetr3dConfig:
    """A detector with DORT's recurrence behind it; one of queries remembers two frames and refines five."""
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    if isinstance(base, BevDepthConfig):
        return DortConfig(**fields, recurrence=recurrence, **sizes)
    few = {"frames": 3, "refined": 5, "min_score": 0.0}
    return DortDetr3dConfig(**fields, recurrence=recurrence, **few | sizes)


def unsettled(detector: Detector) -> Detector:
    """A detector with a recurrence that says something from the start."""
    torch.nn.init.normal_(detector.recurrence.said.weight, std=0.3)
    return detector
