"""From samples of the index to `Frame` and `Annotations`."""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from syncl.data.augmentation import WorldTransform
from syncl.data.features import StoredFeatures
from syncl.data.images import ImageTransform, ResizeMethod, RGBImage, load_image, test_transform
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.samples import CameraImage, FutureCentres, Sample, SampleAnnotations
from syncl.data.past_images import PastImages
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.structures import Annotations, CameraRig, Frame, Trajectories

DamagedImages = Literal["fail", "skip"]

TransformOf = Callable[[tuple[int, int], float], ImageTransform]
"""From the (height, width) of an image file to its transform."""

Recolour = Callable[[int, RGBImage], NDArray[np.float32]]
"""From the number of a camera and its image to the image in other colours, as floating point numbers."""


@dataclass(frozen=True)
class ImageOptions:
    """How images become network input.

    Attributes:
        size: (H, W) of the network input.
        cameras: which cameras, in this order; None takes all the dataset has, in its order.
        resize: see `images.load_image`.
        damaged: whether a missing or damaged image stops the run or is reported and counted as a camera that
            delivered nothing.
        past: also read earlier images, chosen so, where a scene has images between its key frames.
        odometry: also say how the vehicle itself moves.
    """

    size: tuple[int, int]
    cameras: tuple[str, ...] | None = None
    resize: ResizeMethod = "exact"
    damaged: DamagedImages = "fail"
    past: PastImages | None = None
    odometry: bool = False


def build_frame(
    sample: Sample,
    cameras: tuple[str, ...],
    options: ImageOptions,
    transform_of: TransformOf | None = None,
    world: WorldTransform | None = None,
    recolour: Recolour | None = None,
    stored: StoredFeatures | None = None,
) -> Frame:
    """Decode a sample's images into a frame of one stream.

    Args:
        sample: the sample.
        cameras: names of the C cameras; those the sample lacks are marked invalid.
        options: size, resize method, what to do with damaged images.
        transform_of: the image transform for a source size; the test-time one if None.
        world: augmentation of the vehicle frame.
        recolour: augmentation of the images' colours.
        stored: what an image encoder made of these images; they are then not read.

    Raises:
        SynclError: an image is missing or damaged and `options.damaged` is "fail".
    """
    world = world or WorldTransform()
    height, width = options.size
    size = (len(cameras), height, width, 3)
    images = np.zeros(size if stored is None else 1, np.uint8 if recolour is None else np.float32)
    valid = np.zeros(len(cameras), np.bool_)
    intrinsics = np.tile(np.eye(3), (len(cameras), 1, 1))
    extrinsics = np.tile(np.eye(4), (len(cameras), 1, 1))
    by_name = {camera.channel: camera for camera in sample.cameras}
    for number, name in enumerate(cameras):
        camera = by_name.get(name)
        if camera is None:
            continue
        source, pinhole = (camera.height, camera.width), camera.intrinsics
        horizon = float(pinhole[1, 2])
        if transform_of is None:
            transform = test_transform(source, options.size, horizon)
        else:
            transform = transform_of(source, horizon)
        if world.mirror:
            transform = dataclasses.replace(transform, flip=not transform.flip)
        intrinsics[number] = transform.matrix() @ pinhole
        extrinsics[number] = camera.camera_from_vehicle
        if stored is not None:
            valid[number] = stored.camera_valid[number]
            continue
        image = _load(camera, transform, options)
        if image is not None:
            images[number] = image if recolour is None else recolour(number, image)
            valid[number] = True
    intrinsics, extrinsics = world.move_rig(intrinsics, extrinsics)
    if stored is None:
        # Copied into the network's layout at once: a strided tensor would cost every later operation.
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    else:
        pixels = torch.from_numpy(images).expand(len(cameras), 3, height, width)
    return Frame(
        images=pixels[None],
        rig=CameraRig(
            names=cameras,
            image_from_camera=torch.from_numpy(intrinsics)[None],
            camera_from_vehicle=torch.from_numpy(extrinsics)[None],
        ),
        camera_valid=torch.from_numpy(valid)[None],
        content_size=torch.tensor([height, width]).expand(1, len(cameras), 2).clone(),
        global_from_vehicle=torch.from_numpy(world.move_pose(sample.global_from_vehicle))[None],
        timestamp_s=torch.tensor([sample.timestamp_us * 1e-6], dtype=torch.float64),
        scenes=(sample.scene_name,),
        samples=(sample.token,),
        levels=None if stored is None else stored.levels,
    )


def blind_frame(sample: Sample, cameras: tuple[str, ...]) -> Frame:
    """A sample's pose, time and calibration as a frame whose images nobody has read: they are black.

    Args:
        sample: the sample.
        cameras: names of the C cameras, all of which the sample must have.

    Raises:
        SynclError: the sample lacks one of them.
    """
    by_name = {camera.channel: camera for camera in sample.cameras}
    missing = [name for name in cameras if name not in by_name]
    if missing:
        raise SynclError(f"sample {sample.token}: no calibration of camera {missing[0]}")
    taken = [by_name[name] for name in cameras]
    sizes = torch.tensor([(camera.height, camera.width) for camera in taken])
    height, width = sizes.amax(0).tolist()
    return Frame(
        images=torch.zeros((), dtype=torch.uint8).expand(1, len(taken), 3, height, width),
        rig=CameraRig(
            cameras,
            torch.from_numpy(np.stack([camera.intrinsics for camera in taken]))[None],
            torch.from_numpy(np.stack([camera.camera_from_vehicle for camera in taken]))[None],
        ),
        camera_valid=torch.ones(1, len(taken), dtype=torch.bool),
        content_size=sizes[None],
        global_from_vehicle=torch.from_numpy(sample.global_from_vehicle)[None],
        timestamp_s=torch.tensor([sample.timestamp_us * 1e-6], dtype=torch.float64),
        scenes=(sample.scene_name,),
        samples=(sample.token,),
    )


def _load(camera: CameraImage, transform: ImageTransform, options: ImageOptions) -> NDArray[np.uint8] | None:
    try:
        size = (camera.height, camera.width)
        image = load_image(camera.path, transform, options.resize, size, camera.undistortion)
    except SynclError as error:
        if options.damaged == "fail":
            raise SynclError(f"{camera.channel}: {error}") from error
        warnings.warn(f"{camera.channel}: {error} (camera left out of this frame)", stacklevel=2)
        return None
    return image


def build_annotations(
    source: SampleAnnotations,
    options: AnnotationOptions,
    world: WorldTransform | None = None,
    future: FutureCentres | None = None,
    dataset: DatasetDescription = NUSCENES,
) -> Annotations:
    """The ground truth of one frame: [1, M, ...] with all rows valid.

    Args:
        source: a sample's annotations.
        options: classes and filters; the range filter applies after the augmentation.
        world: augmentation of the vehicle frame, the one the frame was built with.
        future: the same objects at the next frames, for trajectories.
        dataset: whose classes the sample's labels number.
    """
    boxes = source.boxes if world is None else world.move_boxes(source.boxes)
    class_of_label = np.array(
        [options.classes.index(name) if name in options.classes else -1 for name in dataset.classes] + [-1]
    )
    labels = class_of_label[source.labels]
    keep = labels >= 0
    keep &= options.enough_points(np.stack([source.num_lidar_pts, source.num_radar_pts], axis=1))
    keep &= source.visibility >= options.min_visibility
    if options.point_range is not None:
        low, high = np.array(options.point_range[:2]), np.array(options.point_range[3:5])
        keep &= ((boxes[:, :2] >= low) & (boxes[:, :2] <= high)).all(axis=1)
    kept = np.nan_to_num(boxes[keep], nan=0.0).astype(np.float32)
    return Annotations(
        boxes=torch.from_numpy(kept)[None],
        labels=torch.from_numpy(labels[keep].astype(np.int64))[None],
        identities=torch.from_numpy(source.identities[keep])[None],
        valid=torch.ones(1, int(keep.sum()), dtype=torch.bool),
        trajectories=None if future is None else _trajectories(future, keep, world or WorldTransform()),
    )


def _trajectories(future: FutureCentres, keep: NDArray[np.bool_], world: WorldTransform) -> Trajectories:
    centres = world.move_points(future.centres[keep]).astype(np.float32)
    return Trajectories(torch.from_numpy(centres)[None], torch.from_numpy(future.valid[keep])[None])
