"""Painting what one camera sees, with the identity of what is seen at every pixel.

Painter's algorithm: things are ordered back to front (see `shapes.in_order`), and each polygon is filled
over what is behind it. The picture has four channels; the fourth holds the identity, so that picture and
identities can never disagree.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.ground import FAR_M, Ground, Image, footprint_of
from syncl.data.synthetic.scenery import BLOBS, Light
from syncl.data.synthetic.shapes import Array, Flags, cannot_hide, in_order
from syncl.data.synthetic.stage import Ints, Items, Polygons, Stage

NEAR_M = 0.25
FAR_ITEMS_M = 110.0
DETAIL_PX = 0.6
_SHIFT = 4
_MOST_IDS = 254
_LIMIT_PX = 16000.0


@dataclass(frozen=True)
class View:
    """One picture and what is in it.

    Attributes:
        image: [H, W, 3] uint8, blue-green-red.
        owners: [H, W] int64, the actor seen at each pixel, -1 for none.
        actors: [A] actors that would cover a pixel if they stood alone, ascending.
        visible: [A] pixels each covers.
        alone: [A] pixels each would cover if nothing hid it.
    """

    image: Image
    owners: Ints
    actors: Ints
    visible: Ints
    alone: Ints


@dataclass(frozen=True)
class Lens:
    """A camera at one moment.

    Attributes:
        matrix: [3, 3] intrinsics, pixels.
        world_from_camera: [4, 4] rigid, scene frame.
        width, height: pixels.
    """

    matrix: Array
    world_from_camera: Array
    width: int
    height: int

    @property
    def place(self) -> Array:
        """Position [3], metres."""
        position: Array = self.world_from_camera[:3, 3]
        return position

    def into_camera(self, points: Array) -> Array:
        """Scene points [..., 3] in camera axes."""
        moved: Array = (points - self.place) @ self.world_from_camera[:3, :3]
        return moved

    def project(self, points: Array) -> Array:
        """Pixels [..., 2] of camera-frame points [..., 3] in front of the camera."""
        focal, centre = self.matrix[0, 0], self.matrix[:2, 2]
        pixels: Array = points[..., :2] / points[..., 2:] * focal + centre
        return pixels


def see(stage: Stage, ground: Ground, lens: Lens, time_s: float, noise: Image) -> View:
    """Paint the stage as `lens` sees it.

    Args:
        stage: the scene.
        ground: its ground.
        lens: the camera.
        time_s: when, after the first keyframe.
        noise: [H, W, 3] sensor noise around 128.
    """
    polygons, items = stage.at(time_s)
    canvas = _background(ground, stage.light, lens)
    order = _painting_order(items, lens)
    _drop_shadows(canvas, stage, items, order, lens)
    owners = items.owners[order]
    painted = owners >= 0
    ids = np.where(painted, np.cumsum(painted), 0)
    runs = [_polygons_of(items, int(item), lens) for item in order]
    index = np.concatenate(runs) if runs else np.zeros(0, np.int64)
    of = np.repeat(np.arange(len(order)), [len(run) for run in runs])
    index, of, outlines, counts = _outlines(polygons, index, of, lens)
    colours = _haze(polygons.colours[index], polygons.corners[index, 0], stage.light, lens)
    fills = np.concatenate([colours, ids[of, None]], -1).tolist()
    fixed = np.round(outlines * (1 << _SHIFT)).astype(np.int32)
    for points, count, fill in zip(fixed, counts.tolist(), fills, strict=True):
        cv2.fillConvexPoly(canvas, points[:count], fill, cv2.LINE_8, _SHIFT)
    seen = cv2.extractChannel(canvas, 3)
    alone = _alone(fixed, counts, of, ids, lens)
    visible = np.bincount(seen.ravel(), minlength=len(alone))[: len(alone)]
    owner_of = np.concatenate([[-1], owners[painted]]).astype(np.int64)
    kept = np.flatnonzero(alone[1:] > 0) + 1
    kept = kept[np.argsort(owner_of[kept])]
    # Edges as soft as a lens leaves them, and the sensor's noise.
    soft = cv2.GaussianBlur(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR), (3, 3), 0.55)
    image = np.asarray(cv2.addWeighted(soft, 1.0, noise, 1.0, -128.0), np.uint8)
    return View(image, owner_of[seen], owner_of[kept], visible[kept], alone[kept])


def _background(ground: Ground, light: Light, lens: Lens) -> Image:
    horizon = lens.matrix[1, 2]
    first = max(0, int(np.ceil(horizon - 0.5)))
    canvas = np.zeros((lens.height, lens.width, 4), np.uint8)
    mix = np.clip(np.arange(first) / max(horizon, 1.0), 0, 1)[:, None]
    canvas[:first, :, :3] = (light.sky_top * (1 - mix) + light.sky_low * mix)[:, None]
    rows = np.arange(first, lens.height)
    depth = lens.matrix[0, 0] * lens.place[2] / np.maximum(rows + 0.5 - horizon, 1e-3)
    split = first + int((depth > FAR_M).sum())
    for top, bottom, picture, scale in (
        (first, split, ground.coarse, ground.coarse_m),
        (split, lens.height, ground.fine, ground.fine_m),
    ):
        if bottom > top:
            warp = _image_from_ground(ground.corner, scale, lens, top)
            edge = [float(v) for v in ground.edge.clip(0, 255)] + [0.0]
            canvas[top:bottom] = cv2.warpPerspective(
                picture, warp, (lens.width, bottom - top), flags=cv2.INTER_LINEAR, borderValue=edge
            )
    far = canvas[first:split, :, :3]
    weight = np.exp(-depth[: split - first] / light.haze_m)[:, None, None]
    far[:] = far * weight + light.sky_low * (1 - weight)
    return canvas


def _image_from_ground(corner: Array, scale: float, lens: Lens, top: int) -> Array:
    """Homography from texels to pixels of the strip that begins at row `top`; centres at whole numbers."""
    camera_from_world = np.linalg.inv(lens.world_from_camera)
    plane = camera_from_world[:3][:, [0, 1, 3]]
    metres = np.array([[scale, 0, corner[0] + scale / 2], [0, scale, corner[1] + scale / 2], [0, 0, 1]])
    shift = np.array([[1, 0, -0.5], [0, 1, -0.5 - top], [0, 0, 1.0]])
    homography: Array = shift @ lens.matrix @ plane @ metres
    return homography


def _painting_order(items: Items, lens: Lens) -> Ints:
    """Items that may be in the picture, back to front."""
    middle, half = (items.low + items.high) / 2, (items.high - items.low) / 2
    radius = np.linalg.norm(half, axis=-1)
    inside = lens.into_camera(middle)
    slope = lens.width / 2 / lens.matrix[0, 0]
    reach = np.abs(inside[:, 0]) - radius * np.sqrt(1 + slope**2) < np.maximum(inside[:, 2], 0) * slope
    depth = inside[:, 2]
    kept = np.flatnonzero(reach & (depth > -radius) & (depth < FAR_ITEMS_M))
    distance = np.linalg.norm(middle[kept] - lens.place, axis=-1)
    actors = np.flatnonzero(items.owners[kept] >= 0)
    if len(actors) > _MOST_IDS:
        farthest = actors[np.argsort(distance[actors])[_MOST_IDS:]]
        kept, distance = np.delete(kept, farthest), np.delete(distance, farthest)
    low, high = items.low[kept], items.high[kept]
    harmless = cannot_hide(low, high, low, high, lens.place)
    _separate_turned(harmless, items, kept, lens)
    return kept[in_order(harmless, distance)]


def _separate_turned(harmless: Flags, items: Items, kept: Ints, lens: Lens) -> None:
    """Add what the side planes of boxes that stand askew tell about who cannot hide whom."""
    turned = np.flatnonzero(np.abs(np.sin(2 * items.headings[kept])) > 0.02)
    if len(turned) == 0:
        return
    unit = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) / 2
    local = unit * items.sizes[kept, None, :2]
    cos, sin = np.cos(items.headings[kept]), np.sin(items.headings[kept])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    corners = np.einsum("nij,nkj->nki", turn, local) + items.places[kept, None]
    for k in turned:
        seen = (corners - items.places[kept[k]]) @ turn[k]
        viewer = (lens.place[:2] - items.places[kept[k]]) @ turn[k]
        low, high = seen.min(1), seen.max(1)
        own = slice(k, k + 1)
        harmless[k] |= cannot_hide(low[own], high[own], low, high, viewer)[0]
        harmless[:, k] |= cannot_hide(low, high, low[own], high[own], viewer)[:, 0]


def _polygons_of(items: Items, item: int, lens: Lens) -> Ints:
    """Polygon indices of an item from back to front."""
    shape = items.shapes[item]
    start = int(items.starts[item])
    if shape is None:
        return np.arange(start, start + BLOBS)
    if len(shape.low) == 1:
        return np.arange(start, start + len(shape.parts))
    offset, heading = lens.place[:2] - items.places[item], items.headings[item]
    cos, sin = np.cos(heading), np.sin(heading)
    viewer = np.array([offset[0] * cos + offset[1] * sin, offset[1] * cos - offset[0] * sin, lens.place[2]])
    order: Ints = start + shape.painting_order(viewer * shape.size / items.sizes[item])
    return order


def _outlines(polygons: Polygons, index: Ints, of: Ints, lens: Lens) -> tuple[Ints, Ints, Array, Ints]:
    """Polygons that face the camera and are in the picture: index, item, pixels [N, 8, 2] and corner counts.

    Pixels have the centre of the top-left pixel at 0, as drawing needs.
    """
    x, y, z = ((lens.place - polygons.corners[index, 0]) * polygons.normals[index]).T
    facing = (x + y + z > 0) | ~polygons.flat[index]
    index, of = index[facing], of[facing]
    corners = lens.into_camera(polygons.corners[index])
    blobs = polygons.blobs[index]
    corners[..., 0] += blobs[..., 0]
    corners[..., 1] -= blobs[..., 1]
    counts = polygons.counts[index]
    # Reductions over the corners are several times faster with the polygons last.
    depth = np.ascontiguousarray(corners[..., 2].T)
    ahead = depth.max(0) > NEAR_M
    crossing = np.flatnonzero(ahead & (depth.min(0) < NEAR_M))
    for row in crossing:
        clipped = _clip(corners[row, : counts[row]])
        if not 3 <= len(clipped) <= corners.shape[1]:
            ahead[row] = False
            continue
        counts[row] = len(clipped)
        corners[row, : len(clipped)] = clipped
        corners[row, len(clipped) :] = clipped[-1]
    index, of, counts, corners = index[ahead], of[ahead], counts[ahead], corners[ahead]
    pixels = (lens.project(corners) - 0.5).clip(-_LIMIT_PX, _LIMIT_PX)
    by_corner = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    low, high = by_corner.min(0), by_corner.max(0)
    inside = (high[0] > -0.5) & (low[0] < lens.width - 0.5) & (high[1] > -0.5) & (low[1] < lens.height - 0.5)
    inside &= (high[0] - low[0] > DETAIL_PX * 0.5) | (high[1] - low[1] > DETAIL_PX * 0.5)
    return index[inside], of[inside], pixels[inside], counts[inside]


def _clip(corners: Array) -> Array:
    """The part of a polygon [N, 3] that is farther than the near plane."""
    kept: list[Array] = []
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            kept.append(a + (b - a) * (NEAR_M - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def _haze(colours: Array, corners: Array, light: Light, lens: Lens) -> Array:
    distance = np.linalg.norm(corners - lens.place, axis=-1, keepdims=True)
    weight = np.exp(-distance / light.haze_m)
    hazed: Array = colours * weight + light.sky_low * (1 - weight)
    return hazed


def _drop_shadows(canvas: Image, stage: Stage, items: Items, order: Ints, lens: Lens) -> None:
    """Darken the ground under what moves; shadows of everything else are part of the ground."""
    moving = [int(k) for k in order if k >= len(items.owners) - stage.mover_count]
    if not moving:
        return
    mask = np.zeros(canvas.shape[:2], np.uint8)
    sun = stage.light.sun
    for item in moving:
        size = items.sizes[item] * [1.02, 1.06, 1.0]
        corners = footprint_of(items.places[item], float(items.headings[item]), size)
        fall = -sun[:2] / sun[2] * min(float(size[2]), 3.5)
        points = cv2.convexHull(np.concatenate([corners, corners + fall]).astype(np.float32))[:, 0]
        inside = lens.into_camera(np.concatenate([points, np.zeros((len(points), 1))], -1).astype(np.float64))
        clipped = _clip(inside)
        if len(clipped) >= 3:
            pixels = (lens.project(clipped) - 0.5).clip(-_LIMIT_PX, _LIMIT_PX)
            cv2.fillConvexPoly(
                mask, np.round(pixels * (1 << _SHIFT)).astype(np.int32), 1.0, cv2.LINE_8, _SHIFT
            )
    dark = cv2.convertScaleAbs(canvas, alpha=stage.light.shadow)
    cv2.copyTo(dark, mask, canvas)


def _alone(fixed: NDArray[np.int32], counts: Ints, of: Ints, ids: Ints, lens: Lens) -> Ints:
    """Pixels each identity would cover if nothing hid it, by drawing it alone."""
    pixels = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    edges = [0, *(np.flatnonzero(np.diff(of)) + 1).tolist(), len(of)]
    one = 1 << _SHIFT
    for first, end_row in pairwise(edges):
        identity = int(ids[of[first]]) if first < end_row else 0
        if identity == 0:
            continue
        outlines = fixed[first:end_row]
        corner = np.maximum(outlines.min((0, 1)) // one - 1, 0)
        end = np.minimum(outlines.max((0, 1)) // one + 2, (lens.width, lens.height))
        if (end <= corner).any():
            continue
        mask = np.zeros((int(end[1] - corner[1]), int(end[0] - corner[0])), np.uint8)
        shifted = outlines - (corner * one).astype(np.int32)
        for points, count in zip(shifted, counts[first:end_row].tolist(), strict=True):
            cv2.fillConvexPoly(mask, points[:count], 1.0, cv2.LINE_8, _SHIFT)
        pixels[identity] = cv2.countNonZero(mask)
    return pixels
