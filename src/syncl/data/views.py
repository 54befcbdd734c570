"""Which camera is which, for models with weights for each: told by where cameras look, not by names."""

import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from syncl.data.images import fitting_scale
from syncl.data.nuscenes.index import NuScenesIndex

NUSCENES_VIEWS_DEG = (0.0, -55.0, 55.0, 180.0, 110.0, -110.0)
"""Of the six cameras in the published order, from straight ahead, counter-clockwise."""

# Up to the first, no better order is looked for; beyond the second, it is said.
_NEAR_DEG, _FAR_DEG = 30.0, 45.0


def view_deg(camera_from_vehicle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where cameras [..., 4, 4] look, degrees [...] counter-clockwise from the vehicle's x axis."""
    degrees: NDArray[np.float64] = np.degrees(
        np.arctan2(camera_from_vehicle[..., 2, 1], camera_from_vehicle[..., 2, 0])
    )
    return degrees


def apart_deg(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    """Angles [N, M] between directions [N] and [M], 0 to 180 degrees."""
    angles: NDArray[np.float64] = np.abs(
        (np.subtract.outer(np.asarray(first), np.asarray(second)) + 180) % 360 - 180
    )
    return angles


def index_views(index: NuScenesIndex, scenes: Iterable[str], cameras: Sequence[str]) -> dict[str, float]:
    """Where the cameras of some scenes look, each at the first sample that has it."""
    found: dict[str, float] = {}
    rows = (row for scene in scenes for row in index.scene_samples(scene))
    for row in rows:
        for camera in index.sample(row).cameras:
            found.setdefault(camera.channel, float(view_deg(camera.camera_from_vehicle)))
        if found.keys() >= set(cameras):
            break
    return {name: found[name] for name in cameras if name in found}


def index_rigs(
    index: NuScenesIndex, scenes: Iterable[str], cameras: Sequence[str], image_size: tuple[int, int]
) -> tuple[int, int, float, float] | None:
    """Fewest and most of these cameras that a scene has at its first sample, least and greatest angle of view
    from left to right, degrees, of what images of `image_size` (H, W) show; None where no scene has any.
    """
    counts: list[int] = []
    angles_deg: list[float] = []
    for scene in scenes:
        found = [c for c in index.sample(index.scene_samples(scene).start).cameras if c.channel in cameras]
        counts.append(len(found))
        for camera in found:
            shown = image_size[1] / fitting_scale((camera.height, camera.width), image_size)
            half = min(camera.width, shown) / 2
            angles_deg.append(float(np.degrees(2 * np.arctan(half / camera.intrinsics[0, 0]))))
    return (min(counts), max(counts), min(angles_deg), max(angles_deg)) if angles_deg else None


def cameras_by_view(
    views: Sequence[float], found: Mapping[str, float], order: tuple[str, ...], source: str
) -> tuple[str, ...]:
    """The cameras that look where a model's cameras looked, in its order; a change of order is said.

    Args:
        views: where the model's cameras looked, degrees; it has weights for each.
        found: where those of the data look, by name.
        order: names in the order they would come in otherwise; it stays where it fits.
        source: of the data, for messages.

    Returns:
        As many names as `views`, or `order` where there are fewer cameras (the model refuses them).
    """
    from scipy.optimize import linear_sum_assignment

    names = tuple(found)
    if len(names) < len(views) or not set(order) <= set(names):
        return order
    if len(order) == len(views):
        here = np.diag(apart_deg(views, [found[name] for name in order]))
        if here.max() <= _NEAR_DEG:
            return order
    angles = apart_deg(views, list(found.values()))
    best = linear_sum_assignment(angles)[1]
    chosen = tuple(names[column] for column in best.tolist())
    worst = int(angles[np.arange(len(views)), best].argmax())
    text = f"{source}: cameras in the order of the model's, by where they look: {', '.join(chosen)}"
    apart = float(angles[worst, best[worst]])
    if apart > _FAR_DEG:
        text += (
            f"; {chosen[worst]} looks {apart:.0f} degrees away from where the camera looked whose "
            "weights it gets: expect less of it, or take a model for any rig, such as any-rig"
        )
    if chosen != order or apart > _FAR_DEG:
        warnings.warn(text, stacklevel=2)
    return chosen
