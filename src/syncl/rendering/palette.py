"""Colours: one an identity, the same in every picture, and the few of the surroundings. All RGB.

The identity colours were chosen by computer: farthest-point search in OKLab over bright, saturated colours,
with the distance taken as the least over normal vision and simulated protanopia, deuteranopia and tritanopia
(Machado et al. 2009), keeping clear of white (ground truth) and of the red that marks errors.
"""

import re
import zlib

Colour = tuple[int, int, int]

IDENTITY_COLOURS: tuple[Colour, ...] = (
    (75, 195, 225),
    (225, 195, 0),
    (180, 105, 255),
    (120, 255, 165),
    (255, 135, 165),
    (210, 240, 0),
    (105, 165, 105),
    (225, 75, 210),
    (165, 210, 135),
    (165, 150, 255),
    (195, 120, 165),
    (195, 165, 60),
)

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

_NUMBERED = re.compile(r"(?:^|[-_:/# ])(\d{1,18})$")


def identity_colour(identity: str) -> Colour:
    """The colour of an identity: a pure function of its name.

    Names that are or end in a number ("17", "scene-0103_17") take turns through the palette, so that tracks
    born one after another differ; other names (nuScenes tokens) are spread by a checksum.
    """
    numbered = _NUMBERED.search(identity)
    key = int(numbered.group(1)) if numbered else zlib.crc32(identity.encode())
    return IDENTITY_COLOURS[key % len(IDENTITY_COLOURS)]


def mix(colour: Colour, towards: Colour, share: float) -> Colour:
    """`colour` moved by `share` (0 to 1) of the way towards another."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(colour, towards))
    return r, g, b
