import pytest

from syncl.errors import SynclError
from syncl.rendering import RenderStyle, draw_frame
from syncl.rendering.layout import lay_out


def test_nuscenes_cameras_stand_as_they_look(rig):
    places = lay_out(rig.frame(), RenderStyle()).cameras
    by_row = {}
    for name, area in places.items():
        by_row.setdefault(area.top, []).append((area.left, name.removeprefix("CAM_")))
    rows = [[name for _, name in sorted(by_row[top])] for top in sorted(by_row)]
    assert rows == [["FRONT_LEFT", "FRONT", "FRONT_RIGHT"], ["BACK_LEFT", "BACK", "BACK_RIGHT"]]


@pytest.mark.parametrize("width", [320, 641, 1280, 1601])
def test_areas_fill_the_picture_without_overlap(rig, width):
    layout = lay_out(rig.frame(), RenderStyle(width=width))
    assert layout.width % 2 == 0 and layout.height % 2 == 0 and 0 <= width - layout.width <= 1
    areas = [layout.title, layout.tracks, layout.bev, layout.legend, *layout.cameras.values()]
    covered = 0
    seen = set()
    for area in areas:
        assert area.left >= 0 and area.left + area.width <= layout.width
        assert area.top >= 0 and area.top + area.height <= layout.height
        # Overlap on a coarse raster is overlap enough.
        raster = {
            (x, y)
            for x in range(area.left, area.left + area.width, 4)
            for y in range(area.top, area.top + area.height)
            if x % 4 == area.left % 4
        }
        inner = {
            (x // 4, y)
            for x, y in raster
            if x // 4 * 4 > area.left and x // 4 * 4 + 4 < area.left + area.width
        }
        assert not inner & seen
        seen |= inner
        covered += area.width * area.height
    assert covered > 0.95 * layout.width * layout.height


@pytest.mark.parametrize(
    ("yaws", "rows"),
    [
        ({"only": 0}, [["only"]]),
        ({"rear": 180, "front": 0}, [["front"], ["rear"]]),
        ({"right": -90, "left": 90, "rear": 180, "front": 0}, [["left", "front", "right"], ["rear"]]),
        (
            {"a": 0, "b": 30, "c": -30, "d": 60, "e": -60, "f": 90, "g": 180},
            [["f", "d", "b", "a"], ["c", "e"], ["g"]],
        ),
    ],
)
def test_other_rigs_are_arranged_by_direction(rig, yaws, rows):
    frame = rig.frame(cameras=yaws)
    places = lay_out(frame, RenderStyle()).cameras
    by_row = {}
    for name, area in places.items():
        by_row.setdefault(area.top, []).append((area.left, name))
    assert [[name for _, name in sorted(by_row[top])] for top in sorted(by_row)] == rows
    picture, _ = draw_frame(frame)
    assert picture.shape[0] % 2 == 0 and picture.shape[1] == 1280


def test_rows_can_be_chosen(rig):
    rows = (("CAM_BACK", "CAM_FRONT"),)
    layout = lay_out(rig.frame(), RenderStyle(rows=rows))
    assert list(layout.cameras) == ["CAM_BACK", "CAM_FRONT"]
    draw_frame(rig.frame(), style=RenderStyle(rows=rows))


def test_unknown_camera_in_rows_is_named(rig):
    with pytest.raises(SynclError, match=r"rows: unknown camera CAM_TOP; the frame has CAM_FRONT, "):
        lay_out(rig.frame(), RenderStyle(rows=(("CAM_TOP",),)))
