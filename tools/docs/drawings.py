"""Draws the pictures of the documentation: python tools/docs/drawings.py [FOLDER].

What is drawn is computed by the library itself (boxes, projections, the synthetic rig), so that a picture
cannot claim a convention that the code does not have.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, FancyBboxPatch, Polygon, Rectangle, Wedge

from syncl.data.synthetic.mounts import MOUNTS, Mount, intrinsics, vehicle_from_camera
from syncl.geometry.boxes import box_corners
from syncl.geometry.poses import move_boxes
from syncl.geometry.projection import project_points

FOLDER = Path(__file__).parents[2] / "docs" / "images"
INK, MUTED, FAINT = "#24292f", "#6e7781", "#d0d7de"
RED, GREEN, BLUE, ORANGE, VIOLET = "#c62828", "#2e7d32", "#1565c0", "#e07b00", "#6a3fb5"
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
CAR = torch.tensor([[12.0, 3.2, 0.75, 4.6, 1.9, 1.5, 0.45, 6.0, 2.9]])


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, width=1.8) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": width,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 12,
    }
    axes.annotate("", end, start, arrowprops=style)


def span(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str, place: tuple) -> None:
    """A measured length with its name."""
    style = {"arrowstyle": "<->", "color": MUTED, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)
    axes.text(*place, text, color=INK, ha="center", va="center", style="italic")


def blank(axes: Axes, x: tuple[float, float], y: tuple[float, float], title: str = "") -> None:
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.axis("off")
    axes.set_title(title, fontsize=11, color=INK, pad=6)


def vehicle(axes: Axes, pose: np.ndarray) -> None:
    """The own vehicle from above: origin below the rear axle."""
    corners = np.array([(-1.0, 0.9), (3.6, 0.9), (4.0, 0.6), (4.0, -0.6), (3.6, -0.9), (-1.0, -0.9)])
    points = corners @ pose[:2, :2].T + pose[:2, 2]
    axes.add_patch(Polygon(points, closed=True, fc="#eef2f6", ec=MUTED, lw=1.2))


def planar(x: float, y: float, yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw), x], [np.sin(yaw), np.cos(yaw), y], [0, 0, 1]])


def draw_axes(axes: Axes, pose: np.ndarray, length: float, names: tuple[str, str]) -> None:
    for colour, direction, name in zip((RED, GREEN), ((1, 0), (0, 1)), names):
        tip = pose[:2, :2] @ (np.array(direction) * length) + pose[:2, 2]
        label = pose[:2, :2] @ (np.array(direction) * (length + 0.9)) + pose[:2, 2]
        arrow(axes, tuple(pose[:2, 2]), tuple(tip), colour)
        axes.text(*label, name, color=colour, ha="center", va="center", weight="bold")


def frames() -> Figure:
    """Map, vehicle and camera from above, with the transforms between them."""
    figure, axes = pyplot.subplots(figsize=(8.6, 4.6), layout="constrained")
    blank(axes, (-2, 30), (-2.4, 15.2))
    draw_axes(axes, planar(0, 0, 0), 4.0, ("x", "y"))
    axes.text(-0.4, -1.6, "global: a fixed map, z up", color=INK)
    pose = planar(12, 2.5, 0.5)
    vehicle(axes, pose)
    # The front camera: its optical axis (z) runs along the vehicle's x, its x points to the right.
    camera = pose @ planar(2.6, 0, 0)
    axes.add_patch(
        Wedge(camera[:2, 2], 13, np.degrees(0.5) - 35, np.degrees(0.5) + 35, fc=ORANGE, alpha=0.10)
    )
    draw_axes(axes, pose, 5.6, ("x ahead", "y left"))
    axes.text(10.2, -1.6, "vehicle: z up, origin on the ground", color=INK)
    axes.plot(*camera[:2, 2], "o", color=ORANGE, ms=7)
    axes.text(19.2, 2.3, "camera: x right, y down,\nz along the optical axis", color="#9a5600")
    moved = np.eye(4)
    moved[:2, :2], moved[:2, 3] = pose[:2, :2], pose[:2, 2]
    box = torch.from_numpy(move_boxes(moved, CAR.numpy()))
    corners = box_corners(box)[0, [0, 3, 7, 4], :2].numpy()
    axes.add_patch(Polygon(corners, closed=True, fc=BLUE, alpha=0.25, ec=BLUE, lw=1.5))
    axes.text(*(corners.mean(0) + np.array([-0.4, -2.9])), "an object", color=BLUE, ha="center")

    def bend(start: tuple, end: tuple, curve: float, text: str, place: tuple) -> None:
        style = {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={curve}", "color": VIOLET, "lw": 1.6}
        axes.annotate("", end, start, arrowprops=style)
        axes.text(*place, text, color=VIOLET, family="monospace", fontsize=10, ha="center")

    bend(tuple(pose[:2, 2] + (-0.6, 0.3)), (0.6, 0.6), 0.25, "global_from_vehicle", (4.6, 5.4))
    bend(tuple(pose[:2, 2] + (0.3, -0.3)), tuple(camera[:2, 2] + (0.2, -0.4)), 0.7, "camera_from_vehicle",
         (17.6, 0.9))  # fmt: skip
    return figure


def cameras() -> Figure:
    """Vehicle from above with its cameras; camera axes; image axes with a projected box."""
    figure = pyplot.figure(figsize=(10.4, 4.1), layout="constrained")
    ring, axis, image = figure.subplots(1, 3, gridspec_kw={"width_ratios": (1.1, 0.9, 1.55)})
    blank(ring, (-9.5, 9.5), (-10, 11), "vehicle, from above")
    up = planar(0, -1.5, np.pi / 2)
    colours = (ORANGE, BLUE, VIOLET, GREEN, RED, MUTED)
    for mount, colour in zip(MOUNTS, colours):
        place = up[:2, :2] @ np.array(mount.place[:2]) + up[:2, 2]
        middle = mount.yaw_deg + 90
        half = mount.view_deg / 2
        ring.add_patch(Wedge(place, 8, middle - half, middle + half, fc=colour, alpha=0.15, ec="none"))
        name = mount.channel.removeprefix("CAM_").lower().replace("_", "\n")
        towards = np.array([np.cos(np.radians(middle)), np.sin(np.radians(middle))])
        ring.text(*(place + 6.0 * towards), name, color=colour, ha="center", va="center", fontsize=8)
    vehicle(ring, up)
    arrow(ring, tuple(up[:2, 2]), (0, 4.0), RED)
    ring.text(0.9, 3.6, "x", color=RED, weight="bold", ha="center", va="center")
    arrow(ring, tuple(up[:2, 2]), (-2.6, -1.5), GREEN)
    ring.text(-2.5, -0.7, "y", color=GREEN, weight="bold", ha="center", va="center")
    ring.plot(*up[:2, 2], "o", color=BLUE, ms=6)
    ring.text(0.5, -2.5, "z up", color=BLUE, fontsize=9)

    blank(axis, (-3, 5), (-4.2, 4.4), "camera")
    body = FancyBboxPatch((-1.1, -0.7), 1.6, 1.4, boxstyle="round,pad=0.1", fc="#eef2f6", ec=MUTED)
    axis.add_patch(body)
    arrow(axis, (0, 0), (2.9, 0), RED)
    axis.text(3.1, 0, "x right", color=RED, va="center", weight="bold")
    arrow(axis, (0, 0), (0, -2.7), GREEN)
    axis.text(0, -3.2, "y down", color=GREEN, ha="center", weight="bold")
    arrow(axis, (0, 0), (2.0, 2.0), BLUE)
    axis.text(1.4, 2.6, "z = depth d", color=BLUE, weight="bold", ha="center")
    axis.text(1.0, -4.1, "metres", color=MUTED, ha="center", fontsize=9)

    width, height = 352, 128
    matrix = projection(MOUNTS[0], width, height)
    pixels, depth = project_points(matrix[None], box_corners(CAR)[0])
    assert bool((depth > 0).all())
    image.set(xlim=(-32, width + 14), ylim=(height + 34, -34), aspect="equal")
    image.axis("off")
    image.set_title("image (front camera)", fontsize=11, color=INK, pad=14)
    image.add_patch(Rectangle((0, 0), width, height, fc="#f6f8fa", ec=MUTED))
    horizon = float(intrinsics(MOUNTS[0], width, height)[1, 2])
    image.plot([0, width], [horizon, horizon], color=FAINT, lw=1)
    image.text(width - 4, horizon - 4, "horizon", color=MUTED, fontsize=8, ha="right")
    for start, end in EDGES:
        image.plot(*pixels[0, [start, end]].T.numpy(), color=BLUE, lw=1.5)
    arrow(image, (0, 0), (110, 0), RED)
    image.text(118, -10, "u right", color=RED, weight="bold")
    arrow(image, (0, 0), (0, 90), GREEN)
    image.text(-6, 98, "v\ndown", color=GREEN, weight="bold", ha="right")
    image.text(
        0, -24, "(0, 0) is the corner of the first pixel, its centre (0.5, 0.5)", color=INK, fontsize=8
    )
    image.text(width / 2, height + 26, "(u d, v d, d, 1) = image_from_vehicle (x, y, z, 1)", color=VIOLET,
               family="monospace", fontsize=8.5, ha="center")  # fmt: skip
    return figure


def projection(mount: Mount, width: int, height: int) -> torch.Tensor:
    """image_from_vehicle [4, 4] of a camera of the synthetic rig."""
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics(mount, width, height)
    return torch.from_numpy(matrix @ np.linalg.inv(vehicle_from_camera(mount))).float()


def box() -> Figure:
    """The box layout from above and from the side."""
    figure = pyplot.figure(figsize=(9.4, 4.0), layout="constrained")
    above, side = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.35, 1)})
    blank(above, (-1.5, 12.5), (-1.6, 8.2), "from above")
    draw_axes(above, planar(0, 0, 0), 3.2, ("x", "y"))
    yaw = 0.5
    car = torch.tensor([[6.0, 3.6, 0.0, 4.6, 1.9, 1.5, yaw, 4.0, 2.2]])
    corners = box_corners(car)[0, [0, 3, 7, 4], :2].numpy()
    centre, ahead = np.array([6.0, 3.6]), np.array([np.cos(yaw), np.sin(yaw)])
    left = np.array([-ahead[1], ahead[0]])
    above.add_patch(Polygon(corners, closed=True, fc=BLUE, alpha=0.2, ec=BLUE, lw=1.6))
    above.plot(*corners[:2].T, color=BLUE, lw=3.5)
    above.plot(*centre, "o", color=BLUE, ms=5)
    above.text(*(centre - (0.25, 0.75)), "(x, y)", color=BLUE, ha="center")
    above.plot(*np.array([centre, centre + np.array([4.9, 0])]).T, color=MUTED, lw=1, ls="--")
    above.add_patch(Arc(centre, 5.6, 5.6, theta1=0, theta2=np.degrees(yaw), color=RED, lw=1.8))
    above.text(9.15, 4.3, "yaw", color=RED, weight="bold")
    arrow(above, tuple(centre), tuple(centre + 4.4 * ahead), ORANGE)
    above.text(*(centre + 4.7 * ahead + (-1.4, 0.5)), "(vx, vy)", color="#9a5600")
    rear, off = centre - 2.3 * ahead, 1.5 * left
    span(above, tuple(rear + off), tuple(centre + 2.3 * ahead + off), "l", tuple(centre + 1.95 * left))
    back = centre - 2.8 * ahead
    span(above, tuple(back - 0.95 * left), tuple(back + 0.95 * left), "w", tuple(back - 0.4 * ahead))

    blank(side, (-1.2, 9.2), (-1.2, 5.8), "from the side")
    side.plot([-0.8, 9], [0, 0], color=MUTED, lw=1)
    side.text(8.9, -0.5, "ground, z = 0", color=MUTED, ha="right", fontsize=9)
    side.add_patch(Rectangle((2.6, 0), 4.6, 1.9, fc=BLUE, alpha=0.2, ec=BLUE, lw=1.6))
    side.plot(4.9, 0.95, "o", color=BLUE, ms=5)
    side.text(5.1, 0.95, " z: the box's middle", color=BLUE, va="center", fontsize=9)
    span(side, (2.1, 0), (2.1, 1.9), "h", (1.75, 0.95))
    arrow(side, (0, 0), (0, 3.2), BLUE)
    side.text(0, 3.6, "z", color=BLUE, ha="center", weight="bold")
    side.text(-0.9, 5.0, "box    x y z l w h yaw vx vy", family="monospace", fontsize=9.5, color=INK)
    side.text(-0.9, 4.3, "code   x y z log l log w log h sin cos vx vy", family="monospace", fontsize=7.5,
              color=INK)  # fmt: skip
    return figure


def sampling() -> Figure:
    """Which frames a training step sees."""
    figure, axes = pyplot.subplots(figsize=(9.4, 4.2), layout="constrained")
    axes.set(xlim=(-6.2, 18.5), ylim=(-0.4, 8.6))
    axes.axis("off")
    rows = (
        ("clips", "T frames in a row,\nof one scene", {4: "loss", 5: "loss", 6: "loss"}),
        ("windows", "T - 1 of the T before,\none left out",
         {1: "seen", 2: "seen", 3: "seen", 5: "seen", 6: "seen", 7: "seen", 8: "loss", 9: "loss"}),
        ("pairs", "a frame, and one\nof a while before", {5: "grad", 8: "loss"}),
        ("streams", "single frames; memory\ngoes on step by step", {8: "loss"}),
    )  # fmt: skip
    colours = {"loss": BLUE, "grad": "#8fb8e8", "seen": "#d7dde4"}
    for row, (name, what, marks) in enumerate(rows):
        y = 6.7 - 2.1 * row
        axes.text(-6.0, y + 0.45, name, family="monospace", weight="bold", color=INK)
        axes.text(-6.0, y + 0.1, what, color=MUTED, fontsize=9, va="top")
        for frame in range(12):
            kind = marks.get(frame)
            colour = "white" if kind is None else colours[kind]
            box = FancyBboxPatch(
                (frame * 1.5, y), 1.1, 0.9, boxstyle="round,pad=0.05", fc=colour, ec=MUTED, lw=0.9
            )
            axes.add_patch(box)
        if name == "streams":
            for frame in range(3, 8):
                axes.annotate("", (frame * 1.5 + 1.5, y + 0.45), (frame * 1.5 + 1.1, y + 0.45),
                              arrowprops={"arrowstyle": "->", "color": ORANGE, "lw": 1.4})  # fmt: skip
    axes.text(0, 8.0, "time", color=MUTED, fontsize=9)
    arrow(axes, (1.2, 8.12), (3.4, 8.12), MUTED, 1.2)
    legend = (("with losses", BLUE), ("with gradients", "#8fb8e8"), ("only remembered", "#d7dde4"))
    for place, (text, colour) in enumerate(legend):
        axes.add_patch(Rectangle((4.6 + 4.6 * place, 7.95), 0.6, 0.35, fc=colour, ec=MUTED, lw=0.8))
        axes.text(5.4 + 4.6 * place, 7.97, text, color=INK, fontsize=9)
    return figure


def step() -> Figure:
    """What happens to a frame in `Tracker.step`."""
    figure, axes = pyplot.subplots(figsize=(9.6, 3.9), layout="constrained")
    axes.set(xlim=(0, 24), ylim=(0, 9.6))
    axes.axis("off")

    def node(x: float, y: float, text: str, colour: str, width: float = 3.6) -> None:
        box = FancyBboxPatch((x, y), width, 1.5, boxstyle="round,pad=0.12", fc="white", ec=colour, lw=1.7)
        axes.add_patch(box)
        axes.text(x + width / 2, y + 0.75, text, color=INK, ha="center", va="center", fontsize=9)

    node(0.3, 7.3, "Frame\nimages, rig, pose", MUTED)
    node(0.3, 1.0, "TrackState\nof the frame before", MUTED)
    node(5.5, 7.3, "encode\nimage features", BLUE)
    node(5.5, 4.2, "initial_queries\nobject queries", BLUE)
    node(5.5, 1.0, "enter\ntracks moved here", ORANGE)
    node(11.0, 4.2, "decode\nboxes of each layer", BLUE)
    node(16.0, 4.2, "reason, conclude\nbirths, misses, ends", ORANGE, 4.0)
    node(20.2, 7.3, "Objects\nboxes, identities", MUTED, 3.4)
    node(20.2, 1.0, "TrackState", MUTED, 3.4)
    for start, end in (
        ((4.1, 8.05), (5.3, 8.05)), ((4.1, 1.75), (5.3, 1.75)), ((7.3, 7.1), (7.3, 5.9)),
        ((9.3, 4.95), (10.8, 4.95)), ((9.3, 7.7), (12.2, 5.9)), ((9.3, 2.0), (12.2, 4.0)),
        ((14.8, 4.95), (15.8, 4.95)), ((19.2, 5.9), (20.6, 7.1)), ((19.2, 4.0), (20.6, 2.7)),
    ):  # fmt: skip
        arrow(axes, start, end, INK, 1.2)
    axes.text(9.7, 2.1, "track queries", color=MUTED, fontsize=9, va="top")
    axes.text(12.0, 0.2, "detector", color=BLUE, fontsize=10, weight="bold", ha="right")
    axes.text(12.6, 0.2, "tracker", color=ORANGE, fontsize=10, weight="bold")
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "frames.svg": frames,
    "cameras.svg": cameras,
    "box.svg": box,
    "sampling.svg": sampling,
    "step.svg": step,
}


def draw(folder: Path) -> list[Path]:
    """Write all drawings; the same library versions give the same bytes."""
    settings = {"svg.hashsalt": "syncl", "font.size": 10, "savefig.facecolor": "white"}
    paths = []
    with mpl.rc_context(settings):
        for name, function in DRAWINGS.items():
            figure = function()
            figure.savefig(folder / name, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.1)
            pyplot.close(figure)
            paths.append(folder / name)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    for path in draw(parser.parse_args().folder):
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
