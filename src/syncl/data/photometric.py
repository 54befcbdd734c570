"""Random colours, as single-shot detectors and DETR3D vary them (photometric distortion)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from syncl.data.images import RGBImage

_BRIGHTNESS = 32.0
_FACTORS = (0.5, 1.5)
_HUE_DEGREES = 18.0


def distort_colours(image: RGBImage, rng: np.random.Generator) -> NDArray[np.float32]:
    """An image [H, W, 3] uint8 RGB with other colours, as float32 numbers.

    Brightness moves by up to 32 of 255, contrast and saturation by a factor of 0.5 to 1.5, hue by up to 18
    degrees, and channels change places, each in half of all images. Contrast comes before or behind
    saturation and hue. As in the original, the result is not rounded and may leave 0 to 255.
    """
    # Everything is drawn, used or not, so that one choice does not shift the numbers of the next.
    coins = rng.random(6) < 0.5
    brightness, hue = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS), rng.uniform(-_HUE_DEGREES, _HUE_DEGREES)
    contrast, saturation = rng.uniform(*_FACTORS), rng.uniform(*_FACTORS)
    channels = rng.permutation(3)
    brighter, contrasted, contrast_first, saturated, turned, swapped = coins.tolist()
    if not contrasted:
        contrast = 1.0

    pixels = image.astype(np.float32)
    if brighter:
        pixels = pixels + np.float32(brightness)
    if contrast_first:
        pixels = pixels * np.float32(contrast)
    if saturated or turned:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        if saturated:
            hsv[..., 1] = hsv[..., 1] * np.float32(saturation)
        if turned:
            hsv[..., 0] = (hsv[..., 0] + np.float32(hue)) % 360
        pixels = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
    if not contrast_first:
        pixels = pixels * np.float32(contrast)
    if swapped:
        pixels = pixels[..., channels]
    return np.ascontiguousarray(pixels, np.float32)
