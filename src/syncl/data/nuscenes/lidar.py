"""Depths that the lidar measured, in cells of the images: what lifted depths are learned from.

nuScenes names a lidar's file after log, channel and time of the key frame, so no table has to be asked:

    samples/LIDAR_TOP/<log>__LIDAR_TOP__<microseconds>.pcd.bin

Letters: N points, C cameras, H W cells.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.data.augmentation import WorldTransform
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.samples import Sample
from syncl.data.nuscenes.tables.categories import LIDAR_CHANNEL
from syncl.errors import SynclError
from syncl.files import inside
from syncl.geometry.poses import invert_pose, move_points, rigid_from_pose
from syncl.geometry.projection import project_points
from syncl.structures import Frame

# x, y, z, intensity and ring of every point, float32.
_COLUMNS = 5
# A sweep has 35,000 points; a file of more than 2 million is none.
_MOST_BYTES = 2_000_000 * _COLUMNS * 4
_NEAREST_M = 0.1


def lidar_points(index: NuScenesIndex, row: int, sample: Sample) -> NDArray[np.float64] | None:
    """Points [N, 3] of a key frame's sweep, metres, vehicle frame; None where there is no file of it.

    Args:
        index: of the dataset.
        row: of the sample.
        sample: itself.

    Raises:
        SynclError: if the file is not what it says, naming it.
    """
    path = _sweep_path(index, row, sample)
    if path is None:
        return None
    pose = index.columns.calibration_poses[index.columns.sample_lidars[row]]
    vehicle_from_ego = invert_pose(sample.global_from_vehicle) @ sample.global_from_ego
    return move_points(vehicle_from_ego @ rigid_from_pose(pose[:3], pose[3:]), read_sweep(path))


def _sweep_path(index: NuScenesIndex, row: int, sample: Sample) -> Path | None:
    """The file of a key frame's sweep, where it is there."""
    if index.columns.sample_lidars[row] < 0 or not sample.cameras:
        return None
    log = sample.cameras[0].path.name.split("__")[0]
    name = f"samples/{LIDAR_CHANNEL}/{log}__{LIDAR_CHANNEL}__{sample.timestamp_us}.pcd.bin"
    path = inside(index.dataroot, name, LIDAR_CHANNEL)
    return path if path.is_file() else None


def lidar_remark(index: NuScenesIndex, scenes: Sequence[str]) -> str:
    """What is said of the lidar's files before training; the first frame of every scene is looked at."""
    found = 0
    for scene in scenes:
        row = index.scene_samples(scene)[0]
        found += _sweep_path(index, row, index.sample(row)) is not None
    if found == len(scenes):
        return f"depths: learned from the lidar's sweeps (samples/{LIDAR_CHANNEL})"
    return (
        f"depths: {found} of {len(scenes)} scenes have the lidar's sweeps (samples/{LIDAR_CHANNEL}); in the "
        "others they are learned from annotated boxes"
    )


def read_sweep(path: Path) -> NDArray[np.float64]:
    """Points [N, 3] of a sweep's file, in the lidar's frame; those that are not finite are left out.

    Raises:
        SynclError: if it is not a whole number of points, or far too large.
    """
    size = path.stat().st_size
    if size % (_COLUMNS * 4) or size > _MOST_BYTES:
        raise SynclError(
            f"{path}: {size:,} bytes are no sweep of {_COLUMNS} float32 numbers a point; delete it, then "
            "depths are learned from annotated boxes"
        )
    points = np.fromfile(path, "<f4").reshape(-1, _COLUMNS)[:, :3].astype(np.float64)
    found: NDArray[np.float64] = points[np.isfinite(points).all(axis=1)]
    return found


def measured_depths(
    points: NDArray[np.float64] | None,
    frame: Frame,
    stride: int,
    world: WorldTransform | None = None,
    pixel_centres: bool = False,
) -> Tensor:
    """The nearest measured depth in each cell of a frame's images, [1, C, H, W] float32 metres, 0 = none.

    As published, a point belongs to the cell whose number is its pixel over the stride, rounded: published
    rays begin at the first pixel.

    Args:
        points: [N, 3] vehicle frame, before the augmentation; None = nothing was measured.
        frame: one stream.
        stride: side of a cell in pixels.
        world: augmentation of the vehicle frame, the one the frame was built with.
        pixel_centres: rays go through the middles of cells; a point then belongs to the cell around it.
    """
    height, width = frame.image_size
    rows, columns = height // stride, width // stride
    cameras = frame.images.shape[1]
    depths = torch.full((cameras, rows * columns), torch.inf)
    if points is not None and len(points):
        moved = points if world is None else world.move_points(points)
        pixels, depth = project_points(frame.rig.image_from_vehicle[0], torch.from_numpy(moved))
        places = pixels / stride
        column, row = (places.floor() if pixel_centres else places.round()).unbind(-1)
        hit = (depth > _NEAREST_M) & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        hit = hit & frame.camera_valid[0, :, None]
        cell = torch.where(hit, row * columns + column, 0).long()
        near = torch.where(hit, depth, torch.inf).float()
        depths.scatter_reduce_(1, cell, near, "amin")
    return torch.where(torch.isfinite(depths), depths, 0.0).view(1, cameras, rows, columns)
