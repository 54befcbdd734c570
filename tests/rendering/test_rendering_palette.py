import numpy as np

from syncl.rendering.cameras import short_identity
from syncl.rendering.palette import ERROR, TRUTH, identity_colour, mix


def oklab(colours):
    share = np.array(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
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


MANY = [identity_colour(str(number)) for number in range(120)]


def test_colours_are_light_enough_for_dark_panels_and_keep_clear_of_errors_and_truth():
    lab = oklab([*MANY, ERROR, TRUTH])
    assert lab[:-2, 0].min() > 0.65
    assert np.linalg.norm(lab[:-2, None] - lab[None, -2:], axis=2).min() > 0.08


def test_colour_depends_on_nothing_but_the_name():
    # Written down: pictures made by different versions keep their colours.
    assert identity_colour("scene-0103_3") == identity_colour("3") == (206, 122, 217)
    assert identity_colour("scene-0103_40") == identity_colour("40") != identity_colour("4")


def test_no_two_tracks_of_a_scene_share_a_colour():
    assert len({identity_colour(f"scene-0103_{number}") for number in range(300)}) > 290
    lab = oklab(MANY)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(len(MANY))
    windows = [apart[first : first + 45, first : first + 45].min() for first in range(len(MANY) - 45)]
    # A just noticeable difference is about 0.02.
    assert min(windows) > 0.04


def test_tokens_spread_over_the_hues():
    rng = np.random.default_rng(0)
    assert len({identity_colour(rng.bytes(16).hex()) for _ in range(200)}) > 190


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
