"""The lidar's depths in cells of the images, and what training makes of them."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from rig import cars_at, make_frame
from syncl.data.augmentation import WorldTransform
from syncl.data.loading import collate_annotations
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.lidar import lidar_points, lidar_remark, measured_depths
from syncl.detectors.bevdepth.view_transform import lift_points
from syncl.errors import SynclError
from syncl.recipes.bevdepth import bevdepth_r50_256x704, bevdepth_synthetic
from syncl.runs.train.clips import annotation_options
from syncl.training.objectives.depths import _measured_first


def test_a_cell_has_the_depth_of_its_nearest_point_and_the_world_may_be_turned():
    frame = make_frame()
    # Two ahead of the first camera, 1.5 m high, one behind the vehicle, one above everything.
    points = np.array([[20.0, 0.0, 1.5], [12.0, 0.0, 1.5], [-7.0, 0.0, 1.5], [1.0, 0.0, 90.0]])
    depths = measured_depths(points, frame, 8)
    assert depths.shape == (1, 2, 4, 8)
    assert depths[0, :, 2, 4].tolist() == pytest.approx([12.0, 7.0]) and (depths > 0).sum() == 2
    world = WorldTransform(rotation_rad=0.3, scale=1.05)
    extrinsics = frame.rig.camera_from_vehicle.numpy()
    intrinsics, turned = world.move_rig(frame.rig.image_from_camera.numpy(), extrinsics)
    rig = dataclasses.replace(
        frame.rig,
        image_from_camera=torch.from_numpy(intrinsics),
        camera_from_vehicle=torch.from_numpy(turned),
    )
    moved = measured_depths(points, dataclasses.replace(frame, rig=rig), 8, world)
    torch.testing.assert_close(moved, depths)
    frame.camera_valid[0, 0] = False
    assert measured_depths(points, frame, 8)[0, 0].sum() == 0
    assert measured_depths(None, frame, 8).sum() == 0


@pytest.mark.parametrize("pixel_centres", [False, True])
def test_points_on_the_ray_of_a_cell_are_measured_in_that_cell(pixel_centres):
    frame, size = make_frame(), (4, 8)
    rays = lift_points(
        frame.rig.image_from_vehicle[:, :1], frame.image_size, size, torch.tensor([9.0]), pixel_centres
    )
    # Published rays are spread a little wider than cells, so that later ones reach into the next cell.
    known = torch.ones(size, dtype=torch.bool)
    known[2:] = known[:, 4:] = pixel_centres
    points = rays[0, 0, 0][known].numpy()
    measured = measured_depths(points, frame, 8, pixel_centres=pixel_centres)[0, 0]
    assert torch.equal(measured > 0, known)


def test_the_small_recipe_measures_depths_where_its_rays_go():
    assert annotation_options(bevdepth_synthetic()).depth_pixel_centres
    assert not annotation_options(bevdepth_r50_256x704()).depth_pixel_centres


def test_measured_depths_come_first_and_must_be_of_the_same_cells():
    measured, boxes = torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 9.0)
    measured[0, 0, 0, 0] = 4.0
    chosen = _measured_first(measured, boxes)
    assert chosen[0].flatten().tolist() == [4, 0, 0, 0] and (chosen[1] == 9).all()
    with pytest.raises(SynclError, match=r"2 x 2 cells, the lifted level 1 x 1; set training"):
        _measured_first(measured, boxes[..., :1, :1])


def test_depths_are_read_where_the_file_is_and_stacked(small_world, tmp_path):
    root = shutil.copytree(small_world, tmp_path / "world")
    index = open_nuscenes(root, "v1.0-mini")
    sample = index.sample(0)
    assert lidar_points(index, 0, sample) is None
    count = len(index.scene_names)
    assert lidar_remark(index, index.scene_names).startswith(f"depths: 0 of {count} scenes have the lidar's")
    log = sample.cameras[0].path.name.split("__")[0]
    path = root / "samples" / "LIDAR_TOP" / f"{log}__LIDAR_TOP__{sample.timestamp_us}.pcd.bin"
    path.parent.mkdir(exist_ok=True)
    # The lidar's y axis looks ahead, from 0.94 m before the vehicle's origin.
    np.array([[0, 10, 0, 0, 0], [np.nan, 0, 0, 0, 0]], "<f4").tofile(path)
    assert lidar_points(index, 0, sample)[0].tolist() == pytest.approx([10.94, 0.0, 1.84], abs=1e-5)
    assert lidar_remark(index, index.scene_names[:1]).startswith("depths: learned from the lidar's sweeps")
    assert lidar_remark(index, index.scene_names).startswith(f"depths: 1 of {count} scenes")
    clips = ClipDataset(
        index,
        index.scene_names[:1],
        clip_length=1,
        images=ImageOptions((64, 96), resize="fast"),
        annotations=AnnotationOptions(depth_stride=16, min_points=0),
    )
    measured, boxes = (clips[number].annotations[0] for number in range(2))
    assert measured.depths.shape == (1, len(clips.camera_names), 4, 6)
    assert (measured.depths > 0).sum() == 1 and boxes.depths.sum() == 0
    assert collate_annotations([measured, boxes]).depths.shape[0] == 2
    with pytest.raises(SynclError, match="with and without depths"):
        collate_annotations([measured, cars_at((1.0, 0.0))])
    path.write_bytes(b"12345")
    with pytest.raises(SynclError, match=r"pcd\.bin: 5 bytes are no sweep"):
        clips[0]
