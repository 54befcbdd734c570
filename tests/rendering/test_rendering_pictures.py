import dataclasses

import cv2
import numpy as np
import pytest

from syncl.errors import SynclError
from syncl.rendering import (
    FrameObjects,
    RenderFrame,
    RenderStyle,
    draw_frame,
    draw_frames,
    panels,
    render_image,
)
from syncl.rendering.layout import lay_out
from syncl.rendering.palette import ERROR, identity_colour
from syncl.rendering.scene_view import History, view_frame
from syncl.rendering.strokes import text_width


def near(area, colour, tolerance=60):
    return np.abs(area.astype(int) - np.array(colour)).max(axis=-1) < tolerance


def test_box_and_its_identity_colour_appear_where_the_object_is(rig):
    # A pillar 8 m ahead: it must show in FRONT and in the bird's-eye view, nowhere else.
    frame = rig.frame(rig.objects([8.0, 0, 1.5, 1, 1, 2, 0, 0, 0], identities=["7"]))
    style = RenderStyle()
    layout = lay_out(frame, style)
    picture, _ = draw_frame(frame, style=style)
    colour = identity_colour("7")
    blank, _ = draw_frame(rig.frame(), style=style)
    changed = (picture != blank).any(axis=-1)
    for name, area in layout.cameras.items():
        assert changed[area.slices].any() == (name == "CAM_FRONT"), name
    area = layout.cameras["CAM_FRONT"]
    rows, columns = np.nonzero(near(picture[area.slices], colour))
    scale = area.width / 352
    # Rear face at 7.5 m: 200 px focal length, half a metre to either side, a metre up and down.
    # Lines are two pixels wide and smoothed, so the extent is a little larger, to both sides alike.
    assert columns.min() == pytest.approx((176 - 100 / 7.5) * scale, abs=3)
    assert columns.max() == pytest.approx((176 + 100 / 7.5) * scale, abs=3)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(176 * scale, abs=0.6)
    assert rows.max() == pytest.approx((64 + 200 / 7.5) * scale, abs=3)
    area = layout.bev
    rows, columns = np.nonzero(near(picture[area.slices], colour))
    pixels_a_metre = area.height / 2 / style.range_m
    spot = columns[np.abs(columns - area.width / 2) < 6]
    assert spot.size
    assert rows[np.abs(columns - area.width / 2) < 6].mean() == pytest.approx(
        area.height / 2 - 8 * pixels_a_metre, abs=3
    )


def test_the_order_of_cameras_and_objects_does_not_matter(rig):
    boxes = rig.objects(
        [12.0, 3, 0.8, 4.5, 1.9, 1.6, 0.3, 5, 1], [-15.0, -6, 0.8, 4.5, 1.9, 1.6, 2, 0, 0], scores=[0.8, 0.7]
    )
    frame = rig.frame(boxes)
    order = [4, 2, 0, 5, 3, 1]
    turned = dataclasses.replace(
        frame,
        images=tuple(frame.images[row] for row in order),
        cameras=tuple(frame.cameras[row] for row in order),
        image_from_vehicle=frame.image_from_vehicle[order],
        objects=FrameObjects(
            boxes.boxes[::-1], boxes.classes[::-1], boxes.scores[::-1], boxes.identities[::-1]
        ),
    )
    np.testing.assert_array_equal(draw_frame(frame)[0], draw_frame(turned)[0])


def test_drawing_leaves_the_input_images_alone(rig):
    frame = rig.frame(rig.objects([8.0, 0, 1.5, 1, 1, 2, 0, 0, 0]))
    before = frame.images[0].copy()
    draw_frame(frame)
    np.testing.assert_array_equal(frame.images[0], before)


@pytest.mark.parametrize("width", [320, 1280, 1921])
def test_crowds_and_odd_boxes_can_be_drawn_at_any_size(rig, width):
    rng = np.random.default_rng(0)
    boxes = np.concatenate(
        [
            rng.uniform(-60, 60, (120, 2)),
            rng.uniform(-1, 2, (120, 1)),
            rng.uniform(0.3, 12, (120, 3)),
            rng.normal(0, 5, (120, 3)),
        ],
        axis=1,
    )
    boxes[0, :3] = 0  # around the cameras themselves
    boxes[1, :2] = 1e7
    boxes[2, 7:] = np.nan
    crowd = rig.objects(*boxes, identities=[f"{row:032x}" for row in range(120)])
    style = RenderStyle(width=width, mark_errors=True)
    picture, history = draw_frame(rig.frame(crowd, crowd.select(np.arange(120) % 2 == 0)), style=style)
    picture, _ = draw_frame(rig.frame(crowd, crowd, number=2, ego_x=3), history, style)
    assert picture.shape[1] == width - width % 2


@pytest.mark.parametrize("width", [320, 400, 480, 560, 640, 800, 1280, 1920])
def test_words_stay_within_their_panel_and_off_each_other(rig, monkeypatch, width):
    said = {}

    def note(panel, text, x, y, size, colour, align="left", bold=False):
        wide = text_width(text, size, bold)
        left = x - {"left": 0, "centre": wide / 2, "right": wide}[align]
        where = panel.__array_interface__["data"][0], panel.shape[1]
        said.setdefault(where, []).append((text, left, left + wide, y))

    monkeypatch.setattr(panels, "draw_text", note)
    boxes = [[8.0 + row, 3 * row, 1.5, 4, 2, 2, 0, 25, 0] for row in range(5)]
    labels = ["pedestrian", "construction_vehicle", "car", "traffic_cone", "motorcycle"]
    tracks = rig.objects(*boxes, identities=["12", "3720", "7", "2560", "998"], labels=labels)
    frame = dataclasses.replace(rig.frame(tracks, tracks.select(np.arange(5) > 1)), scene="scene-0103")
    draw_frame(frame, style=RenderStyle(width=width, mark_errors=True))
    assert len(said) == 3
    for (_, wide), words in said.items():
        for number, (text, left, right, y) in enumerate(words):
            assert left >= 0 and right <= wide + 0.5, text
            for other, begin, end, height in words[:number]:
                if abs(height - y) < 4:
                    assert end <= left + 1 or right <= begin + 1, (text, other)


@pytest.mark.parametrize("width", [480, 640, 1280])
def test_columns_stand_still_while_identities_grow(rig, monkeypatch, width):
    places = []
    monkeypatch.setattr(
        panels, "draw_text", lambda _, text, x, *rest, **more: text == "class" and places.append(x)
    )
    for identity in ("7", "72", "3720"):
        tracks = rig.objects([8.0, 0, 1.5, 4, 2, 2, 0, 25, 0], identities=[identity])
        draw_frame(rig.frame(tracks), style=RenderStyle(width=width))
    assert len(places) == 6 and len(set(places[::2])) == 1


@pytest.mark.parametrize("identity", ["a\nb", "7\u00b2", "\u0663", "x" * 300])
def test_any_identity_can_be_drawn(rig, identity):
    draw_frame(rig.frame(rig.objects([8.0, 0, 1.5, 1, 1, 2, 0, 0, 0], identities=[identity])))


@pytest.mark.filterwarnings("error")
def test_what_is_out_of_all_bounds_is_drawn_without_overflow(rig):
    near = [8.0, 0, 1.5, 1, 1, 2, 0, 0, 0]
    wild = rig.objects(
        [1e12, 1e12, *near[2:]], [*near[:3], 1e20, 1e20, 1e20, 0, 0, 0], [*near[:7], 1e30, -1e30]
    )
    draw_frame(rig.frame(wild, rig.objects(near)), style=RenderStyle(mark_errors=True))


def test_lists_hold_long_names_and_many_classes(rig, monkeypatch):
    names = [*(f"KIND_{letter}" for letter in "ABCDEFGHIJKL"), "MOBILE_PEDESTRIAN_CROSSING_SIGN"]
    said = []
    monkeypatch.setattr(panels, "draw_text", lambda _, text, x, *rest, **more: said.append((text, x)))
    draw_frame(rig.frame(rig.objects(*[[8.0, 0, 1.5, 1, 1, 2, 0, 0, 0]] * 13, labels=names)))
    texts = [text for text, _ in said]
    # Once in the list of tracks, which has them all, and once in the classes, which have the first nine.
    assert [texts.count(name.replace("_", " ")) for name in names[:12]] == [*[2] * 9, *[1] * 3]
    counts = texts[texts.index("and 4 more classes") + 1]
    assert counts == "4"
    (cut,) = (text for text in texts if text.startswith("MOBILE"))
    (x,) = (x for text, x in said if text == cut)
    assert cut.endswith("\u2026") and x + text_width(cut, 11.5) < 0.6 * 371


def test_missing_images_are_said_to_be_missing(rig):
    frame = rig.frame(rig.objects([8.0, 0, 1.5, 1, 1, 2, 0, 0, 0]))
    lost = dataclasses.replace(frame, images=(None, *frame.images[1:]))
    layout = lay_out(frame, RenderStyle())
    assert lay_out(lost, RenderStyle()) == layout
    area = draw_frame(lost)[0][layout.cameras["CAM_FRONT"].slices]
    assert area.max() > 100 and np.median(area) < 40
    nothing = dataclasses.replace(frame, images=(None,) * 6)
    assert draw_frame(nothing)[0].shape[1] == 1280


def test_errors_are_marked_only_when_asked(rig):
    truth = rig.objects([10.0, -8, 0.8, 4.5, 1.9, 1.6, 0, 0, 0])
    tracks = rig.objects([10.0, 8, 0.8, 4.5, 1.9, 1.6, 0, 0, 0])
    frame = rig.frame(tracks, truth)
    red = {}
    for marked in (False, True):
        style = RenderStyle(mark_errors=marked)
        picture, _ = draw_frame(frame, style=style)
        red[marked] = near(picture[lay_out(frame, style).bev.slices], ERROR, 20).sum()
    assert red[False] == 0 and red[True] > 20


def test_misses_and_false_positives_are_told_per_class_at_two_metres(rig):
    truth = rig.objects(
        [10.0, 4, 0.8, 4.5, 1.9, 1.6, 0, 0, 0], [10.0, -4, 0.8, 4.5, 1.9, 1.6, 0, 0, 0], labels=["car", "bus"]
    )
    tracks = rig.objects(
        [11.99, 4, 0.8, 4.5, 1.9, 1.6, 0, 0, 0],
        [10.0, -4, 0.8, 4.5, 1.9, 1.6, 0, 0, 0],
        labels=["car", "car"],
    )
    view, _ = view_frame(rig.frame(tracks, truth), History(), RenderStyle(mark_errors=True))
    assert view.verdict.partner.tolist() == [0, -1] and view.verdict.missed.tolist() == [False, True]
    apart = rig.objects([12.0, 4, 0.8, 4.5, 1.9, 1.6, 0, 0, 0])
    view, _ = view_frame(rig.frame(apart, truth), History(), RenderStyle(mark_errors=True))
    assert view.verdict.partner.tolist() == [-1] and view.verdict.missed.all()


def test_detections_are_called_so_and_nothing_is_said_of_identities(rig, monkeypatch):
    box = [10.0, 8, 0.8, 4.5, 1.9, 1.6, 0, 0, 0]
    said = {"tracks": [], "detections": [], "none": []}
    for texts, identities in zip(said.values(), (["7"], [""], [])):
        written = "syncl.rendering.panels.draw_text"
        monkeypatch.setattr(written, lambda _, text, *rest, texts=texts, **more: texts.append(text))
        frame = rig.frame(rig.objects(*[box] * len(identities), identities=identities), rig.objects(box))
        frame = dataclasses.replace(frame, detections="7" not in identities)
        draw_frame(frame, style=RenderStyle(mark_errors=True))
    assert {"1 tracked", "track", "tracked / annotated", "0 switched"} <= set(said["tracks"])
    assert "track, its heading ahead; a colour an identity" in said["tracks"]
    assert {"1 detected", "detected / annotated"} <= set(said["detections"])
    assert "detection, its heading ahead; a colour a class" in said["detections"]
    assert {"0 detected", "nothing detected", "detected / annotated"} <= set(said["none"])
    identity = ("track", "switched", "last")
    assert not [
        text for name in ("detections", "none") for text in said[name] if any(map(text.count, identity))
    ]


def test_velocities_are_arrows_on_the_ground(rig):
    # 8 m ahead and 3 m to the left, driving to the right across the picture at 5 m/s.
    frame = rig.frame(rig.objects([8.0, 3, 0.8, 1, 1, 1.6, 0, 0, -5]))
    area = lay_out(frame, RenderStyle()).cameras["CAM_FRONT"]
    with_arrow, without = (
        draw_frame(frame, style=RenderStyle(velocities=shown))[0][area.slices] for shown in (True, False)
    )
    rows, columns = np.nonzero((with_arrow != without).any(axis=-1))
    scale = area.width / 352
    # From y = 3 m to y = -2 m on the ground, 1.5 m below the camera, at 200 px focal length.
    assert columns.min() == pytest.approx((176 - 200 * 3 / 8) * scale, abs=4)
    assert columns.max() == pytest.approx((176 + 200 * 2 / 8) * scale, abs=4)
    assert rows.mean() == pytest.approx((64 + 200 * 1.5 / 8) * scale, abs=4)


def test_forecasts_are_dots_up_to_the_first_unknown_place(rig):
    box = [10.0, 0, 0.8, 2, 2, 1.6, 0, 0, 0]
    ahead = np.array([[[15.0, 0], [20, 0], [np.nan, np.nan], [40, 0]]])
    plain = rig.frame(rig.objects(box))
    frame = dataclasses.replace(plain, objects=dataclasses.replace(plain.objects, forecasts=ahead))
    style = RenderStyle()
    layout = lay_out(frame, style)
    changed = (draw_frame(frame)[0] != draw_frame(plain)[0]).any(axis=-1)
    pixels_a_metre = layout.bev.height / 2 / style.range_m
    rows, columns = np.nonzero(changed[layout.bev.slices])
    assert np.abs(columns - layout.bev.width / 2).max() < 6
    assert rows.min() == pytest.approx(layout.bev.height / 2 - 20 * pixels_a_metre, abs=6)
    assert rows.max() < layout.bev.height / 2 - 10 * pixels_a_metre
    # Dots, not a line: some rows between the first and the last are untouched.
    assert len(set(rows)) < 0.9 * (rows.max() - rows.min() + 1)
    assert changed[layout.cameras["CAM_FRONT"].slices].any()
    assert not changed[layout.cameras["CAM_BACK"].slices].any()
    hidden = RenderStyle(forecasts=False)
    np.testing.assert_array_equal(draw_frame(frame, style=hidden)[0], draw_frame(plain, style=hidden)[0])


def test_pictures_of_one_stream_have_one_size(rig):
    narrow = dataclasses.replace(rig.frame(number=2), images=(np.zeros((90, 120, 3), np.uint8),) * 6)
    sizes = {picture.shape for picture in draw_frames([rig.frame(), narrow])}
    assert len(sizes) == 1


def test_every_scene_shows_all_cameras_of_its_rig(rig):
    few = rig.frame(cameras={"CAM_0": 0, "CAM_1": 120, "CAM_2": -120})
    many = rig.frame(cameras={f"CAM_{n}": 45 * n for n in range(8)}, scene="scene-0002")
    colours = [(200, 30 * n, 250 - 30 * n) for n in range(8)]
    many = dataclasses.replace(many, images=tuple(np.full((128, 352, 3), c, np.uint8) for c in colours))
    for frames in ([few, many], [many, few]):
        shown = dict(zip((frame.scene for frame in frames), draw_frames(frames)))
        assert len({picture.shape for picture in shown.values()}) == 1
        for colour in colours:
            assert near(shown["scene-0002"], colour, 3).sum() > 2000, colour


def test_png_holds_the_picture(rig, tmp_path):
    frame = rig.frame(rig.objects([8.0, 0, 1.5, 1, 1, 2, 0, 0, 0]))
    target = tmp_path / "new" / "frame.png"
    render_image(frame, target)
    written = cv2.cvtColor(cv2.imread(str(target)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(written, draw_frame(frame)[0])
    with pytest.raises(SynclError, match=r"frame\.png: this file already exists"):
        render_image(frame, target)
    render_image(frame, target, overwrite=True)
    with pytest.raises(SynclError, match=r"frame\.jpg.*\.png"):
        render_image(frame, tmp_path / "frame.jpg")


GOOD = {"boxes": np.ones((1, 9)), "classes": ("car",), "scores": np.ones(1), "identities": ("1",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.ones((1, 7))}, r"boxes: shape \(1, 7\), expected \(N, 9\)"),
        ({"classes": ()}, r"differ in number: \(1, 0, 1, 1\)"),
        ({"boxes": np.full((1, 9), np.nan)}, r"boxes: row 0 is not finite"),
        ({"forecasts": np.ones((2, 6, 2))}, r"forecasts: shape \(2, 6, 2\), expected \(1, F, 2\)"),
        ({"boxes": np.zeros((1, 9))}, r"row 0 has size \[0.0, 0.0, 0.0\]; sizes must be positive"),
    ],
)
def test_bad_objects_are_named(changes, message):
    with pytest.raises(SynclError, match=message):
        FrameObjects(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": (None,)}, r"images: 1 images for 6 cameras"),
        ({"cameras": ("a",) * 6}, r"cameras: a name occurs twice"),
        ({"cameras": (), "images": ()}, r"no camera"),
        ({"image_from_vehicle": np.eye(4)}, r"image_from_vehicle: shape \(4, 4\), expected \(6, 4, 4\)"),
        ({"global_from_vehicle": np.eye(3)}, r"global_from_vehicle: shape \(3, 3\)"),
        ({"counted": np.ones(2, np.bool_)}, r"counted: shape \(2,\), expected \(0,\)"),
        ({"images": (np.zeros((4, 4)),) * 6}, r"CAM_FRONT has dtype float64 and shape \(4, 4\)"),
    ],
)
def test_bad_frames_are_named(rig, changes, message):
    with pytest.raises(SynclError, match=message):
        dataclasses.replace(rig.frame(), **changes)


@pytest.mark.parametrize(
    "changes",
    [{"width": 100}, {"range_m": 0.0}, {"range_m": np.inf}, {"trail_s": -1.0}, {"match_distance_m": 0.0}],
)
def test_bad_styles_are_named(changes):
    with pytest.raises(SynclError, match=next(iter(changes))):
        RenderStyle(**changes)


def test_frames_are_plain_values(rig):
    frame = rig.frame()
    assert isinstance(frame, RenderFrame)
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.scene = "other"
