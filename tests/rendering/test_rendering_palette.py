import itertools

import numpy as np
import pytest

from syncl.rendering.cameras import short_identity
from syncl.rendering.palette import ERROR, IDENTITY_COLOURS, TRUTH, identity_colour, mix

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def oklab(colours, vision):
    share = np.array(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(vision).T, 0, 1)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart(vision):
    # A just noticeable difference in OKLab is about 0.02.
    lab = oklab([*IDENTITY_COLOURS, TRUTH], VISION[vision])
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
    assert nearest > (0.09 if vision == "normal" else 0.055)


def test_error_colour_is_no_identity_colour():
    lab = oklab([*IDENTITY_COLOURS, ERROR], VISION["normal"])
    assert np.linalg.norm(lab[:-1] - lab[-1], axis=1).min() > 0.09


def test_colours_are_light_enough_for_dark_panels():
    assert oklab(IDENTITY_COLOURS, VISION["normal"])[:, 0].min() > 0.65


def test_colour_depends_on_nothing_but_the_name():
    # Written down: pictures made by different versions keep their colours.
    assert identity_colour("0") == (75, 195, 225)
    assert identity_colour("scene-0103_3") == identity_colour("3") == (120, 255, 165)
    assert identity_colour("ca9a282c9e77460f8360f564131a8af5") == (165, 150, 255)


def test_tracks_born_one_after_another_differ():
    for first in range(0, 100, 7):
        colours = {identity_colour(f"scene-0103_{first + step}") for step in range(len(IDENTITY_COLOURS))}
        assert len(colours) == len(IDENTITY_COLOURS)


def test_tokens_spread_over_the_palette():
    rng = np.random.default_rng(0)
    tokens = [rng.bytes(16).hex() for _ in range(1200)]
    counts = [sum(identity_colour(token) == colour for token in tokens) for colour in IDENTITY_COLOURS]
    assert min(counts) > 60


def test_mix_goes_from_one_colour_to_the_other():
    assert mix((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)


def test_short_identity():
    assert [
        short_identity(name) for name in ("17", "scene-0103_0042", "scene_0", "ca9a282c9e77460f8360")
    ] == [
        "17",
        "42",
        "0",
        "ca9a",
    ]
