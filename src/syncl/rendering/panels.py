"""The written parts of a picture: title bar, list of tracks, legend and counts."""

from collections import Counter

import numpy as np

from syncl.classes import DETECTION_CLASSES
from syncl.rendering.cameras import short_identity
from syncl.rendering.frame_view import Image, RenderFrame
from syncl.rendering.palette import ERROR, FAINT, PANEL, RING, TEXT, TRUTH, identity_colour, mix
from syncl.rendering.scene_view import SceneView
from syncl.rendering.strokes import (
    Align,
    draw_arrow,
    draw_broken_ring,
    draw_circle,
    draw_dots,
    draw_error_cross,
    draw_polyline,
    draw_text,
    fill_area,
    fill_polygon,
    fill_rectangle,
    fitting,
    text_width,
)
from syncl.rendering.style import RenderStyle

_MOST_CLASSES = 10
# Pixels: letters below it are dots, and a list of tracks has columns only in panels wide enough for them.
_SMALLEST = 8.0
_WIDE_ENOUGH = {"speed": 170, "distance": 120}
# Of bars and of the legend.
_PLAIN = identity_colour("12")
_SWITCH = "7 \u2190 3"


def draw_title(bar: Image, frame: RenderFrame, view: SceneView, scale: float) -> None:
    """Fill the title bar: scene and moment on the left, counts on the right, as many as there is room for."""
    fill_area(bar, PANEL)
    middle, size = bar.shape[0] / 2, max(_SMALLEST, 13 * scale)
    x = 12 * scale
    name = " \u00b7 ".join(part for part in (frame.title, frame.scene) if part)
    draw_text(bar, name, x, middle, size, TEXT, bold=True)
    x += text_width(name, size, bold=True) + 18 * scale if name else 0
    moment = f"{frame.elapsed_s:.1f} s"
    if frame.number:
        of_total = f" / {frame.total}" if frame.total else ""
        moment = f"frame {frame.number}{of_total}   {moment}"
    draw_text(bar, moment, x, middle, size, FAINT)
    used = x + text_width(moment, size) + 16 * scale
    if frame.number and frame.total > 1:
        share = (frame.number - 1) / (frame.total - 1)
        fill_rectangle(bar, 0, bar.shape[0] - 2 * scale, bar.shape[1], bar.shape[0], RING)
        fill_rectangle(bar, 0, bar.shape[0] - 2 * scale, bar.shape[1] * share, bar.shape[0], TEXT)
    x = bar.shape[1] - 12 * scale
    for words, colour in reversed(_counts(view)):
        width = text_width(words, size, bold=True)
        if x - width < used:
            break
        draw_text(bar, words, x, middle, size, colour, "right", bold=True)
        x -= width + 16 * scale


def _counts(view: SceneView) -> list[tuple[str, tuple[int, int, int]]]:
    counts = [(f"{view.objects.count} {_found(view)}", TEXT)]
    if view.truth is not None:
        counts.append((f"{view.truth.count} annotated", FAINT))
    if view.verdict is not None:
        false = int(view.verdict.false.sum())
        switches = sum(name is not None for name in view.verdict.switched_from)
        counts.append((f"{false} false", ERROR))
        counts.append((f"{int(view.verdict.missed.sum())} missed", ERROR))
        counts += [] if view.detected_only else [(f"{switches} switched", ERROR)]
    return counts


def _found(view: SceneView) -> str:
    return "detected" if view.detected_only else "tracked"


def draw_track_list(panel: Image, view: SceneView, scale: float) -> None:
    """Fill a panel with one line a track: identity, class, distance, speed, score; the nearest that fit.

    A narrow one has no room for the speed, a very narrow one none for the distance either.
    """
    fill_area(panel, PANEL)
    height, width = panel.shape[:2]
    margin, size = 14 * scale, max(_SMALLEST, 11.5 * scale)
    line = max(19.5 * scale, size + 1)
    objects = view.objects
    distance = np.hypot(objects.boxes[:, 0], objects.boxes[:, 1])
    nearest = np.argsort(distance, kind="stable")
    room = int((height - 25 * scale - margin) / line)
    shown = nearest if len(nearest) <= room else nearest[: room - 1]
    # By identity, not by distance: lines then keep their order from frame to frame.
    names = {row: short_identity(objects.identities[row]) for row in shown}
    # Room for four figures whoever is there, so that columns of a video stand still.
    known = [] if view.detected_only else ["0000", *names.values()]
    widest = max((text_width(name, size, bold=True) for name in known), default=0)
    columns = _columns(width, scale, widest)
    y = 20 * scale
    for header, (x, align) in columns.items():
        if header != "track" or not view.detected_only:
            draw_text(panel, header, x, y, max(_SMALLEST, 10 * scale), FAINT, align)
    y += 5 * scale
    order = {row: (int(name) if name.isdecimal() else 1 << 30) for row, name in names.items()}
    for row in sorted(shown, key=lambda row: (order[row], objects.identities[row])):
        y += line
        colour = view.colours[row]
        fill_rectangle(panel, margin, y - 5 * scale, margin + 10 * scale, y + 5 * scale, colour)
        velocity = float(np.hypot(*objects.boxes[row, 7:9]))
        speed = f"{velocity * 3.6:.0f} km/h" if np.isfinite(velocity) else "\u2013"
        away = f"{distance[row]:.0f} m"
        score = f"{objects.scores[row]:.2f}"
        cells = {"track": names[row], "class": "", "distance": away, "speed": speed, "score": score}
        behind = next(name for name in ("distance", "score") if name in columns)
        room_for_class = (
            columns[behind][0] - text_width(cells[behind], size) - 3 * scale - columns["class"][0]
        )
        cells["class"] = fitting(objects.classes[row].replace("_", " "), size, room_for_class)
        for header, (x, align) in columns.items():
            bold = header == "track"
            tint = mix(colour, TEXT, 0.4) if bold else TEXT
            draw_text(panel, cells[header], x, y, size, tint, align, bold)
    if len(shown) < objects.count:
        draw_text(panel, f"and {objects.count - len(shown)} farther away", margin, y + line, size, FAINT)
    if objects.count == 0:
        draw_text(panel, f"nothing {_found(view)}", margin, y + line, size, FAINT)


def _columns(width: int, scale: float, identities: int) -> dict[str, tuple[float, Align]]:
    """Where columns stand in a panel of this width, the widest identity being so many pixels wide."""
    left, right = 30 * scale, width - 16 * scale
    span = right - left
    columns: dict[str, tuple[float, Align]] = {
        "track": (left, "left"),
        "class": (left + max(0.14 * span, identities + 6 * scale if identities else 0), "left"),
        "distance": (left + 0.62 * span, "right"),
        "speed": (left + 0.84 * span, "right"),
        "score": (right, "right"),
    }
    if width < _WIDE_ENOUGH["speed"]:
        del columns["speed"]
        columns["distance"] = (left + 0.76 * span, "right")
    if width < _WIDE_ENOUGH["distance"]:
        del columns["distance"]
    return columns


def draw_legend(panel: Image, view: SceneView, style: RenderStyle) -> None:
    """Fill a panel with counts a class and the meaning of every mark."""
    scale = style.scale
    fill_area(panel, PANEL)
    y = _draw_class_counts(panel, view, scale)
    size = max(_SMALLEST, 11.5 * scale)
    line = max(21 * scale, size + 1)
    entries = ["track"]
    entries += ["trail"] if style.trail_s > 0 and not view.detected_only else []
    entries += ["velocity"] if style.velocities else []
    entries += ["forecast"] if style.forecasts and view.objects.forecasts is not None else []
    entries += ["truth"] if view.truth is not None else []
    entries += ["false", "missed"] if view.verdict is not None else []
    entries += ["switch"] if view.verdict is not None and not view.detected_only else []
    objects = "detection" if view.detected_only else "track"
    colours = "a class" if view.detected_only else "an identity"
    # What each mark is, at length and for narrow pictures.
    words = {
        "track": (f"{objects}, its heading ahead; a colour {colours}", f"{objects}; a colour {colours}"),
        "trail": (f"where it was in the last {style.trail_s:g} s", f"the last {style.trail_s:g} s"),
        "velocity": ("where it will be in 1 s at this velocity", "in 1 s, at this velocity"),
        "forecast": ("the path that the tracker expects", "expected path"),
        "truth": ("annotated object", "annotated object"),
        "false": (
            f"false positive: none of its class left within {style.match_distance_m:g} m",
            "false positive",
        ),
        "missed": ("missed object (a red box in the images)", "missed object"),
        "switch": ("identity switched (new \u2190 former)", "identity switched"),
    }
    middle, left = 28 * scale, 54 * scale
    if "switch" in entries:
        widest = text_width(_SWITCH, max(_SMALLEST, 10 * scale), bold=True)
        middle, left = max(middle, widest / 2 + 2), max(left, widest + 5)
    room = panel.shape[1] - left - 4 * scale
    brief = any(text_width(words[entry][0], size) > room for entry in entries)
    y = max(y + 14 * scale, panel.shape[0] - line * len(entries) - 6 * scale)
    for entry in entries:
        _draw_sample(panel, entry, middle, y, scale)
        draw_text(panel, fitting(words[entry][brief], size, room), left, y, size, FAINT)
        y += line


def _draw_class_counts(panel: Image, view: SceneView, scale: float) -> float:
    width = panel.shape[1]
    size, small = max(_SMALLEST, 11.5 * scale), max(_SMALLEST, 10 * scale)
    line = max(20 * scale, size + 1)
    tracked = Counter(view.objects.classes)
    annotated = Counter(view.truth.classes) if view.truth is not None else Counter[str]()
    known = [name for name in DETECTION_CLASSES if tracked[name] or annotated[name]]
    known += sorted((set(tracked) | set(annotated)) - set(DETECTION_CLASSES))
    y = 20 * scale
    left, bar_left, right = 16 * scale, 0.44 * width, width - 76 * scale
    heading = _found(view) if view.truth is None else f"{_found(view)} / annotated"
    draw_text(panel, heading, width - 16 * scale, y, small, FAINT, "right")
    if left + text_width("class", small) < width - 16 * scale - text_width(heading, small):
        draw_text(panel, "class", left, y, small, FAINT)
    y += 5 * scale
    if len(known) > _MOST_CLASSES:
        rest = f"and {len(known) - _MOST_CLASSES + 1} more classes"
        for counted in (tracked, annotated):
            counted[rest] = sum(counted[name] for name in known[_MOST_CLASSES - 1 :])
        known = [*known[: _MOST_CLASSES - 1], rest]
    most = max([*tracked.values(), *annotated.values(), 8])
    for name in known:
        y += line
        words = fitting(name.replace("_", " "), size, bar_left - left - 6 * scale)
        draw_text(panel, words, left, y, size, TEXT)
        fill_rectangle(panel, bar_left, y - 4 * scale, right, y + 4 * scale, mix(PANEL, RING, 0.5))
        reach = bar_left + (right - bar_left) * tracked[name] / most
        fill_rectangle(panel, bar_left, y - 4 * scale, reach, y + 4 * scale, _PLAIN)
        counts = f"{tracked[name]}"
        if view.truth is not None:
            mark = bar_left + (right - bar_left) * annotated[name] / most
            fill_rectangle(panel, mark - scale, y - 6 * scale, mark + scale, y + 6 * scale, TRUTH)
            counts += f" / {annotated[name]}"
        draw_text(panel, counts, width - 16 * scale, y, size, TEXT, "right")
    return y


def _draw_sample(panel: Image, entry: str, x: float, y: float, scale: float) -> None:
    """The mark that a legend entry explains, about (x, y)."""
    colour, centre = _PLAIN, np.array([x, y])
    box = centre + np.array([(9, -5), (9, 5), (-9, 5), (-9, -5)]) * scale
    wide = max(1, round(2 * scale))
    if entry == "track":
        fill_polygon(panel, box, colour, 0.45)
        draw_polyline(panel, box, colour, max(1, round(1.6 * scale)), closed=True)
        draw_polyline(panel, box[:2], colour, wide + 1)
        draw_polyline(panel, centre + np.array([(4, 0), (14, 0)]) * scale, colour, wide)
    elif entry == "trail":
        dots = centre + np.array([(-11, 4), (-4, 0), (3, -2), (11, -3)]) * scale
        for step in range(3):
            faded = mix(PANEL, colour, 0.35 + 0.25 * step)
            draw_polyline(panel, dots[step : step + 2], faded, wide)
            draw_circle(panel, dots[step], 1.6 * scale, faded, -1)
    elif entry == "velocity":
        ends = centre + np.array([(-11, 0), (11, 0)]) * scale
        draw_arrow(panel, ends[0], ends[1], TEXT, max(1, round(scale)), 6 * scale)
    elif entry == "forecast":
        ends = centre + np.array([(-18, 3), (0, 0), (12, -3)]) * scale
        draw_dots(panel, ends, mix(colour, TEXT, 0.45), 1.5 * scale, 7 * scale)
    elif entry == "truth":
        draw_polyline(panel, box, TRUTH, max(1, round(scale)), closed=True)
        draw_polyline(panel, np.stack([centre, box[:2].mean(axis=0)]), TRUTH, max(1, round(scale)))
    elif entry == "false":
        draw_error_cross(panel, centre, 5 * scale, wide)
    elif entry == "missed":
        draw_broken_ring(panel, centre, 7 * scale, ERROR, wide)
    else:
        draw_text(panel, _SWITCH, x, y, max(_SMALLEST, 10 * scale), ERROR, "centre", bold=True)
