"""Whether a frame can be looked at: what is wrong with it is named before anything remembers it."""

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.structures.frame import Frame

_SINGULAR, _LARGEST = 1e-9, 1e12
_NO_TRANSFORM = "is no transform (nan, infinite or singular)"


def check_frame(frame: Frame) -> None:
    """Make sure that shapes and types of a frame are what `Frame` says, and that its values can be used.

    A single nan would otherwise stay for good in what a temporal detector or a tracker remembers.

    Raises:
        SynclError: it is no frame; else naming sample, camera and field: a field of another shape or type
            (times, poses and calibration need float64); a scene without a name; a time, pose, calibration
            or image that is not finite, a pose or projection that is singular.
    """
    if not isinstance(frame, Frame):
        raise SynclError(
            f"frame: {type(frame).__name__}; make one of images with tracker.frame(images, ...), or open a "
            "recording with tracker.open(folder)"
        )
    _check_form(frame)
    if frame.images.is_meta:
        return  # Cost is being counted without values.
    rig, images = frame.rig, frame.images
    problems = {
        "timestamp_s": (~frame.timestamp_s.isfinite()[:, None], "is not a finite number"),
        "global_from_vehicle": (_singular(frame.global_from_vehicle)[:, None], _NO_TRANSFORM),
        "rig.image_from_camera": (_singular(rig.image_from_camera), _NO_TRANSFORM),
        "rig.camera_from_vehicle": (_singular(rig.camera_from_vehicle), _NO_TRANSFORM),
    }
    if frame.odometry is not None:
        mounted, readings = frame.odometry.ego_from_vehicle, frame.odometry.readings
        problems["odometry.ego_from_vehicle"] = (_singular(mounted)[:, None], _NO_TRANSFORM)
        problems["odometry.readings"] = (~readings.isfinite(), "has numbers that are nan or infinite")
    if images.is_floating_point():
        sums = images.sum((2, 3, 4), dtype=torch.float32)
        problems["images"] = (~sums.isfinite(), "has pixels that are nan or infinite")
    # One of a step's host round trips; a device cannot raise.
    if bool(torch.cat([bad for bad, _ in problems.values()], dim=1).any()):
        name, (bad, what) = next(item for item in problems.items() if bool(item[1][0].any()))
        stream, camera = bad.nonzero()[0].tolist()
        of_camera = f", camera {rig.names[camera]}" if name.startswith(("rig.", "images")) else ""
        raise SynclError(
            f"sample {frame.samples[stream]}{of_camera}: {name} {what}; leave this frame out, the next one "
            "goes on from the state before it"
        )
    if frame.past is not None:
        check_frame(frame.past)


def _singular(matrices: Tensor) -> Tensor:
    regular: Tensor = torch.linalg.det(matrices).abs() > _SINGULAR
    return ~(regular & (matrices.abs() < _LARGEST).flatten(-2).all(-1))


def _check_form(frame: Frame) -> None:
    streams, cameras, rig = len(frame.samples), len(frame.rig.names), frame.rig
    where = f"sample {frame.samples[0]}" if streams else "a frame without samples"
    forms = {
        "images": (frame.images, (streams, cameras, 3, *frame.images.shape[-2:]), None),
        "rig.image_from_camera": (rig.image_from_camera, (streams, cameras, 3, 3), torch.float64),
        "rig.camera_from_vehicle": (rig.camera_from_vehicle, (streams, cameras, 4, 4), torch.float64),
        "camera_valid": (frame.camera_valid, (streams, cameras), torch.bool),
        "content_size": (frame.content_size, (streams, cameras, 2), None),
        "global_from_vehicle": (frame.global_from_vehicle, (streams, 4, 4), torch.float64),
        "timestamp_s": (frame.timestamp_s, (streams,), torch.float64),
    }
    odometry = frame.odometry
    if odometry is not None:
        forms["odometry.ego_from_vehicle"] = (odometry.ego_from_vehicle, (streams, 4, 4), torch.float64)
        forms["odometry.ego_rotation"] = (odometry.ego_rotation, (streams, 4), torch.float64)
        forms["odometry.readings"] = (odometry.readings, (streams, 9), torch.float64)
    for name, (tensor, shape, dtype) in forms.items():
        if tuple(tensor.shape) != shape:
            raise SynclError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, expected {shape}: {streams} samples, "
                f"{cameras} cameras ({', '.join(rig.names)})"
            )
        if dtype is not None and tensor.dtype != dtype:
            why = " (float32 holds the seconds since 1970 to two minutes)" if name == "timestamp_s" else ""
            raise SynclError(f"{where}: {name} is {tensor.dtype}, and needs {dtype}{why}")
    if len(frame.scenes) != streams:
        raise SynclError(f"{where}: {len(frame.scenes)} scenes for {streams} samples; name one for each")
    if not all(frame.scenes):
        raise SynclError(f"{where}: scenes: '' is no name; a tracker's state has it before the first frame")
