"""Lenses: how they depart from a pinhole, and images as a pinhole would have seen them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RGBImage = NDArray[np.uint8]
Maps = tuple[NDArray[np.int16], NDArray[np.uint16]]

COEFFICIENTS: dict[Literal["pinhole", "fisheye"], tuple[int, ...]] = {
    "pinhole": (4, 5, 8, 12, 14),
    "fisheye": (4,),
}
"""How many a lens of each model can have."""

# Each is 9 MB of an image of 1600x900.
_KEPT = 16


@dataclass(frozen=True)
class Lens:
    """How a lens departs from a pinhole, in OpenCV's models.

    Attributes:
        model: "pinhole" (radial and tangential) or "fisheye" (equidistant).
        coefficients: k1 k2 p1 p2, then k3, then k4 k5 k6 (rational), then s1 s2 s3 s4 (thin prism), then
            tau_x tau_y (tilted sensor); of a fisheye k1 k2 k3 k4.
        focal_scale: focal length of the undistorted image relative to the given one; below 1 more of a wide
            view stays inside the image.
    """

    model: Literal["pinhole", "fisheye"]
    coefficients: tuple[float, ...]
    focal_scale: float = 1.0

    def undistorted(self, intrinsics: Array) -> Array:
        """[3, 3] intrinsics of the image after its distortion is removed, from those of the file."""
        scale = self.focal_scale
        return np.asarray(intrinsics * np.array([[scale, scale, 1.0], [1.0, scale, 1.0], [1.0, 1, 1]]))


@dataclass(frozen=True)
class Undistortion:
    """Takes a lens's distortion out of images [h, w, 3] of one camera; black where the lens saw nothing.

    Attributes:
        lens: the lens.
        intrinsics: of the image file, pixels, row by row.
    """

    lens: Lens
    intrinsics: tuple[float, ...]

    @staticmethod
    def of(lens: Lens | None, intrinsics: Array) -> "Undistortion | None":
        """What is to be done with a camera's images; None where there is no distortion."""
        return None if lens is None else Undistortion(lens, tuple(intrinsics.ravel().tolist()))

    def __call__(self, image: RGBImage) -> RGBImage:
        """The image as a pinhole with `Lens.undistorted` intrinsics would see it."""
        import cv2  # Evaluation names lenses, but does without.

        first, second = self.maps((image.shape[0], image.shape[1]))
        return np.asarray(cv2.remap(image, first, second, cv2.INTER_LINEAR), np.uint8)

    def maps(self, size: tuple[int, int]) -> Maps:
        """For every pixel of the undistorted image of (height, width), where it is in the file (OpenCV's
        fixed-point form). Those of the last cameras are kept.
        """
        return _maps(self, size)


@lru_cache(maxsize=_KEPT)
def _maps(of: Undistortion, size: tuple[int, int]) -> Maps:
    import cv2

    intrinsics, coefficients = np.reshape(of.intrinsics, (3, 3)), np.array(of.lens.coefficients)
    target = of.lens.undistorted(intrinsics)
    fisheye = of.lens.model == "fisheye"
    make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    first, second = make(intrinsics, coefficients, np.eye(3), target, (size[1], size[0]), cv2.CV_16SC2)
    return np.asarray(first, np.int16), np.asarray(second, np.uint16)
