"""Removing a lens's distortion, so that what networks see is a pinhole's image."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from syncl.data.images import RGBImage
from syncl.data.recording.rig import RigCamera

Maps = tuple[NDArray[np.int16], NDArray[np.uint16]]


def undistortion_maps(camera: RigCamera) -> Maps:
    """For every pixel of the undistorted image, where it is in the file (OpenCV's fixed-point form).

    Made once for a camera and used for all its images; both images have the camera's size.
    """
    if camera.lens is None:
        raise ValueError(f"{camera.name} has no distortion")
    coefficients = np.array(camera.lens.coefficients)
    size = (camera.width, camera.height)
    target = camera.undistorted_intrinsics
    fisheye = camera.lens.model == "fisheye"
    make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    first, second = make(camera.intrinsics, coefficients, np.eye(3), target, size, cv2.CV_16SC2)
    return np.asarray(first, np.int16), np.asarray(second, np.uint16)


def undistort(image: RGBImage, camera: RigCamera, maps: Mapping[str, Maps]) -> RGBImage:
    """The image [h, w, 3] as a pinhole would see it; black where the lens saw nothing."""
    if camera.lens is None:
        return image
    first, second = maps[camera.name]
    return np.asarray(cv2.remap(image, first, second, cv2.INTER_LINEAR), np.uint8)
