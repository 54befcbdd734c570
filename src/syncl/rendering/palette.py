"""Colours: one an identity, the same in every picture, and the few of the surroundings. All RGB.

Identities go round the hues by the golden angle, which never comes back to a hue, while their lightness goes
up and down: any forty-five in a row are at least 0.04 apart in OKLab, where 0.02 is just noticed. To eyes
that do not tell all hues apart lightness is left, and the identity that is written beside. All colours keep
clear of white (ground truth) and of the red that marks errors.
"""

import math
import re
import zlib
from functools import lru_cache

Colour = tuple[int, int, int]

BACKGROUND: Colour = (13, 16, 21)
PANEL: Colour = (20, 24, 31)
GRID: Colour = (33, 39, 49)
RING: Colour = (56, 64, 77)
FAINT: Colour = (112, 122, 138)
TEXT: Colour = (226, 231, 238)
TRUTH: Colour = (255, 255, 255)
ERROR: Colour = (255, 72, 60)
INK: Colour = (10, 12, 16)
EGO: Colour = (226, 231, 238)

_GOLDEN = (math.sqrt(5) - 1) / 2
# The circle without the red of errors; and a step of lightness that keeps neighbours in hue apart.
_FIRST_HUE_DEG, _HUES_DEG = 48.0, 322.0
_LIGHTNESS_STEP, _DARKEST, _LIGHTEST, _MOST_CHROMA = 0.4, 0.66, 0.88, 0.16

_NUMBERED = re.compile(r"(?:^|[-_:/# ])(\d{1,18})$")


def identity_colour(identity: str) -> Colour:
    """The colour of an identity: a pure function of its name.

    Names that are or end in a number ("17", "scene-0103_17") are coloured by it, so that tracks born one
    after another differ and no two of a scene are alike; other names (nuScenes tokens) by a checksum.
    """
    numbered = _NUMBERED.search(identity)
    return _colour(int(numbered.group(1)) if numbered else zlib.crc32(identity.encode()))


@lru_cache(maxsize=4096)
def _colour(key: int) -> Colour:
    lightness = _DARKEST + (_LIGHTEST - _DARKEST) * (key * _LIGHTNESS_STEP % 1)
    hue = math.radians(_FIRST_HUE_DEG + _HUES_DEG * (key * _GOLDEN % 1))
    chroma = _MOST_CHROMA
    while True:  # Grey is always within what screens show.
        linear = _linear_rgb(lightness, chroma * math.cos(hue), chroma * math.sin(hue))
        if all(-1e-4 <= share <= 1.0001 for share in linear):
            break
        chroma -= 0.01
    r, g, b = (round(255 * _gamma(min(max(share, 0.0), 1.0))) for share in linear)
    return r, g, b


def _linear_rgb(lightness: float, a: float, b: float) -> tuple[float, float, float]:
    """Linear sRGB of an OKLab colour (Ottosson 2020)."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def mix(colour: Colour, towards: Colour, share: float) -> Colour:
    """`colour` moved by `share` (0 to 1) of the way towards another."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(colour, towards))
    return r, g, b
