"""Clips and scene streams from the hand-written tables."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from syncl.data.augmentation import Augmentation
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset, SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.dataset_description import NUSCENES
from syncl.errors import SynclError
from syncl.geometry.projection import project_points
from syncl.structures import Clip

IMAGES = ImageOptions(size=(40, 80))
EVERYTHING = Augmentation(
    resize_range=(0.94, 1.25),
    flip_probability=0.5,
    rotation_rad=0.4,
    scale_range=(0.9, 1.1),
    mirror_probability=0.5,
)


@pytest.fixture(scope="module")
def index(tiny_root: Path) -> NuScenesIndex:
    return open_nuscenes(tiny_root, "v1.0-mini", cache=False)


def clips(index: NuScenesIndex, **changes: Any) -> ClipDataset:
    options: dict[str, Any] = {"clip_length": 2, "images": IMAGES, "annotations": AnnotationOptions()}
    return ClipDataset(index, index.scene_names, **{**options, **changes})


def assert_same(first: Clip, second: Clip) -> None:
    for a, b in zip(first.frames, second.frames, strict=True):
        assert a.samples == b.samples
        torch.testing.assert_close(a.images, b.images, rtol=0, atol=0)
        torch.testing.assert_close(a.rig.image_from_vehicle, b.rig.image_from_vehicle, rtol=0, atol=0)
        torch.testing.assert_close(a.global_from_vehicle, b.global_from_vehicle, rtol=0, atol=0)
    for a, b in zip(first.annotations, second.annotations, strict=True):
        torch.testing.assert_close(a.boxes, b.boxes, rtol=0, atol=0)


def test_clips_never_leave_their_scene(index: NuScenesIndex) -> None:
    dataset = clips(index)
    assert len(dataset) == 3 + 2
    for number in range(len(dataset)):
        clip = dataset[number]
        assert clip.length == 2
        (scene,) = {frame.scenes[0] for frame in clip.frames}
        first, second = (int(frame.samples[0][-1]) for frame in clip.frames)
        assert second == first + 1
        assert clip.frames[0].samples[0].startswith(scene)
        assert clip.frames[1].timestamp_s - clip.frames[0].timestamp_s == pytest.approx(0.5)


def test_repeating_the_first_frame_gives_a_clip_for_every_sample(index: NuScenesIndex) -> None:
    dataset = clips(index, clip_length=3, repeat_first=True)
    assert len(dataset) == 7
    assert [dataset.clip_rows(number) for number in (0, 1, 2, 4)] == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 2),
        (4, 4, 4),
    ]
    assert [frame.samples[0] for frame in dataset[1].frames] == [
        "scene-0061_t0",
        "scene-0061_t0",
        "scene-0061_t1",
    ]


def test_frame_contents(index: NuScenesIndex) -> None:
    frame = clips(index)[0].frames[1]
    assert frame.images.shape == (1, 6, 3, 40, 80) and frame.images.dtype == torch.uint8
    assert frame.images.is_contiguous()
    assert frame.rig.names == index.camera_names
    assert frame.camera_valid.all()
    assert frame.content_size.tolist() == [[[40, 80]] * 6]
    assert frame.timestamp_s.tolist() == [1000.5]
    # 160x90 halves to 80x45; the upper 5 rows go.
    expected = [[65, 0, 40], [0, 65, 17.5], [0, 0, 1]]
    torch.testing.assert_close(
        frame.rig.image_from_camera[0, 0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_annotations_are_filtered_and_numbered_by_the_models_classes(index: NuScenesIndex) -> None:
    options = AnnotationOptions(classes=("pedestrian", "car", "truck"))
    annotations = clips(index, annotations=options)[0].annotations
    # The truck has no points in the first frame; the stroller is no class; the pedestrian is seen once.
    assert annotations[0].labels.tolist() == [[1]]
    assert annotations[1].labels.tolist() == [[1, 2, 0]]
    assert annotations[1].identities.tolist() == [[0, 1, 2]]
    assert annotations[1].boxes[0, 2, 7:].tolist() == [0, 0]
    assert annotations[1].boxes.dtype == torch.float32
    assert annotations[1].valid.all()


def test_trajectories_are_read_on_request_and_filtered_like_boxes(index: NuScenesIndex) -> None:
    assert clips(index)[0].annotations[0].trajectories is None
    annotations = clips(index, annotations=AnnotationOptions(future_frames=2))[0].annotations
    for moment in annotations:
        assert moment.trajectories is not None
        assert moment.trajectories.centres.shape == (1, moment.boxes.shape[1], 3, 3)
        assert moment.trajectories.centres.dtype == torch.float32
        torch.testing.assert_close(moment.trajectories.centres[:, :, 0], moment.boxes[..., :3])
    # The truck has no points in the first frame, so only the car is left there.
    assert annotations[0].trajectories.valid.tolist() == [[[True, True, True]]]
    # The pedestrian is seen once.
    assert annotations[1].trajectories.valid[0, 2].tolist() == [True, False, False]


def test_trajectories_are_augmented_with_the_world(index: NuScenesIndex) -> None:
    options = AnnotationOptions(future_frames=2)
    turning = Augmentation(rotation_rad=0.4, scale_range=(1.1, 1.2), mirror_probability=1.0)
    moment = clips(index, annotations=options, augmentation=turning)[0].annotations[0]
    plain = clips(index, annotations=options)[0].annotations[0]
    assert moment.trajectories is not None and plain.trajectories is not None
    torch.testing.assert_close(moment.trajectories.centres[:, :, 0], moment.boxes[..., :3])
    step = moment.trajectories.centres.diff(dim=2)[0, 0, 0, :2]
    before = plain.trajectories.centres.diff(dim=2)[0, 0, 0, :2]
    scale = moment.boxes[0, 0, 3] / plain.boxes[0, 0, 3]
    assert step.norm() == pytest.approx(float(scale * before.norm()), rel=1e-4)
    heading = moment.boxes[0, 0, 6]
    torch.testing.assert_close(step / step.norm(), torch.stack([heading.cos(), heading.sin()]))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (AnnotationOptions(), ["car", "truck", "pedestrian"]),
        (AnnotationOptions(point_range=(-5, -10, -1, 12.9, 10, 1)), ["truck", "pedestrian"]),
        (AnnotationOptions(point_range=(-5, -10, -1, 13.1, 7.9, 0)), ["car", "pedestrian"]),
        (AnnotationOptions(min_visibility=1), ["car", "truck"]),
        (AnnotationOptions(min_visibility=2), ["car"]),
        (AnnotationOptions(classes=("truck",)), ["truck"]),
    ],
)
def test_filters(index: NuScenesIndex, options: AnnotationOptions, kept: list[str]) -> None:
    annotations = clips(index, annotations=options)[0].annotations[1]
    assert [options.classes[label] for label in annotations.labels[0].tolist()] == kept


def test_too_few_points(tiny: Any, tmp_path: Path) -> None:
    for entry in tiny.tables["sample_annotation"]:
        if "car" in entry["token"]:
            entry["num_radar_pts"] = 1
    options = AnnotationOptions(min_points=13)
    index = open_nuscenes(tiny.write(tmp_path), "v1.0-mini", cache=False)
    assert clips(index, annotations=options)[0].annotations[1].labels.tolist() == [[0]]


def test_unknown_numbers_of_points_are_kept_as_officially(tiny: Any, tmp_path: Path) -> None:
    for entry in tiny.tables["sample_annotation"]:
        entry.update(num_lidar_pts=-1, num_radar_pts=0)
    kept = clips(open_nuscenes(tiny.write(tmp_path), "v1.0-mini", cache=False))[0].annotations[1]
    assert kept.boxes.shape[1] == 3


@pytest.mark.parametrize(
    ("table", "change", "reason"),
    [
        (
            "category",
            {"name": "car"},
            r"0 annotations .* of categories that are none of the",
        ),
        (
            "sample_annotation",
            {"num_lidar_pts": 0, "num_radar_pts": 0},
            "with too few lidar",
        ),
        ("sample_annotation", {"size": [1.0, 1.0, 0.0]}, "without a proper box"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is no box")
def test_nothing_to_learn_from_is_refused_by_reason(
    tiny: Any, tmp_path: Path, table: str, change: dict[str, Any], reason: str
) -> None:
    for entry in tiny.tables[table]:
        entry.update(change)
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini", cache=False)
    with pytest.raises(SynclError, match=rf"no annotation .* can be learned from.*{reason}"):
        clips(index)


def test_augmentation_depends_on_seed_epoch_and_clip_alone(index: NuScenesIndex) -> None:
    dataset, again = clips(index, augmentation=EVERYTHING), clips(index, augmentation=EVERYTHING)
    again[3], again[0]
    assert_same(dataset[1], again[1])
    assert_same(dataset[(5, 1)], again[(5, 1)])
    assert_same(dataset[1], dataset[(0, 1)])
    assert_same(dataset[(5, 1)], again[(5, 1)])
    for other in (dataset[(6, 1)], clips(index, augmentation=EVERYTHING, seed=1)[(5, 1)]):
        assert not torch.equal(
            other.frames[0].rig.image_from_vehicle, again[(5, 1)].frames[0].rig.image_from_vehicle
        )


def test_datasets_travel_to_spawned_workers(index: NuScenesIndex) -> None:
    dataset = clips(index, augmentation=EVERYTHING)
    assert_same(pickle.loads(pickle.dumps(dataset))[(2, 4)], dataset[(2, 4)])


def test_one_draw_for_all_cameras_and_frames(index: NuScenesIndex) -> None:
    for number in range(len(clips(index))):
        clip = clips(index, augmentation=EVERYTHING)[number]
        intrinsics = torch.cat([frame.rig.image_from_camera[0] for frame in clip.frames])
        torch.testing.assert_close(intrinsics, intrinsics[:1].expand_as(intrinsics), rtol=0, atol=0)


def test_augmented_boxes_keep_their_image_height(index: NuScenesIndex) -> None:
    """Box centres project to the same picture rows, up to the image transform; poses stay rigid."""
    plain, augmented = clips(index), clips(index, augmentation=EVERYTHING)
    for epoch in range(8):
        before, after = plain[0], augmented[(epoch, 0)]
        for f0, f1, a0, a1 in zip(before.frames, after.frames, before.annotations, after.annotations):
            # New from old pixels, from the intrinsics: K' = M K (up to the mirror's sign).
            change = f1.rig.image_from_camera[0, 0] @ torch.linalg.inv(f0.rig.image_from_camera[0, 0])
            pixels0, depth0 = project_points(f0.rig.image_from_vehicle, a0.boxes[..., :3].double())
            pixels1, depth1 = project_points(f1.rig.image_from_vehicle, a1.boxes[..., :3].double())
            seen = depth0 > 0.1
            assert seen.any()
            rows = (change[1, 1] * pixels0[..., 1] + change[1, 2])[seen]
            torch.testing.assert_close(pixels1[..., 1][seen], rows, rtol=1e-4, atol=1e-2)
            torch.testing.assert_close(depth1, depth0, rtol=1e-5, atol=1e-4)
            rotation = f1.global_from_vehicle[0, :3, :3]
            identity = torch.eye(3, dtype=torch.float64)
            torch.testing.assert_close(rotation @ rotation.transpose(-1, -2), identity)


def test_flipped_images_and_intrinsics_agree(tiny: Any, tmp_path: Path) -> None:
    """A bright spot painted where a box centre projects is still there after every augmentation."""
    import cv2

    root = tiny.write(tmp_path, images=False)
    index = open_nuscenes(root, "v1.0-mini")
    sample = index.sample(1)
    # The pedestrian, 3 m ahead and 5 m to the right, is what the front right camera sees.
    camera = sample.cameras[1]
    centre = np.append(sample.annotations.boxes[2, :3], 1)
    pixel = camera.intrinsics @ (camera.camera_from_vehicle @ centre)[:3]
    u, v = pixel[:2] / pixel[2]
    for row in range(index.sample_count):
        for image in index.sample(row).cameras:
            image.path.parent.mkdir(parents=True, exist_ok=True)
            canvas = np.zeros((90, 160, 3), np.uint8)
            if image.path == camera.path:
                cv2.circle(canvas, (round(u - 0.5), round(v - 0.5)), 4, (255, 255, 255), -1)
            cv2.imwrite(str(image.path), canvas)
    dataset = clips(index, clip_length=1, augmentation=EVERYTHING)
    signs = set()
    for epoch in range(12):
        clip = dataset[(epoch, 1)]
        frame, annotations = clip.frames[0], clip.annotations[0]
        pedestrian = annotations.boxes[:, annotations.labels[0] == 8, :3].double()
        pixels, depth = project_points(frame.rig.image_from_vehicle, pedestrian)
        assert depth[0, 1, 0] > 0
        bright = (frame.images[0, 1, 0] > 128).nonzero().double()
        found = bright.mean(dim=0).flip(0) + 0.5
        torch.testing.assert_close(found, pixels[0, 1, 0], rtol=0, atol=1.0)
        signs.add(bool(frame.rig.image_from_camera[0, 1, 0, 0] > 0))
    assert signs == {True, False}


def test_cameras_can_be_chosen_and_ordered(index: NuScenesIndex) -> None:
    images = ImageOptions(size=(40, 80), cameras=("CAM_BACK", "CAM_FRONT"))
    chosen = clips(index, images=images)[0].frames[0]
    everything = clips(index)[0].frames[0]
    assert chosen.rig.names == ("CAM_BACK", "CAM_FRONT")
    torch.testing.assert_close(chosen.images, everything.images[:, [3, 0]])
    with pytest.raises(SynclError, match="no camera 'CAM_TOP'; it has CAM_FRONT, "):
        clips(index, images=ImageOptions(size=(40, 80), cameras=("CAM_TOP",)))


def test_a_camera_without_image_is_marked(tiny: Any, tmp_path: Path) -> None:
    lost = "data_scene-0061_t1_CAM_BACK"
    tiny.tables["sample_data"] = [r for r in tiny.tables["sample_data"] if r["token"] != lost]
    index = open_nuscenes(tiny.write(tmp_path), "v1.0-mini")
    first, second = clips(index)[0].frames
    assert first.camera_valid.all()
    assert second.camera_valid.tolist() == [[True, True, True, False, True, True]]
    assert not second.images[0, 3].any()


def test_damaged_images_stop_or_are_skipped_as_asked(tiny: Any, tmp_path: Path) -> None:
    index = open_nuscenes(tiny.write(tmp_path), "v1.0-mini")
    damaged = index.sample(0).cameras[2].path
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(SynclError, match=r"CAM_FRONT_LEFT/scene-0061_t0\.jpg: this JPEG is cut off"):
        clips(index)[0]
    tolerant = clips(index, images=ImageOptions(size=(40, 80), damaged="skip"))
    with pytest.warns(UserWarning, match=r"scene-0061_t0\.jpg.*camera left out"):
        frame = tolerant[0].frames[0]
    assert frame.camera_valid.tolist() == [[True, True, False, True, True, True]]


def test_impossible_requests(index: NuScenesIndex) -> None:
    with pytest.raises(SynclError, match="none of the chosen scenes has 5 key frames in a row"):
        clips(index, clip_length=5)
    with pytest.raises(SynclError, match="clip length 0"):
        clips(index, clip_length=0)
    with pytest.raises(SynclError, match="unknown class 'unicorn'"):
        AnnotationOptions(classes=("car", "unicorn")).check(NUSCENES)


def test_scene_stream_gives_the_whole_scene_in_order(index: NuScenesIndex) -> None:
    stream = SceneStream(index, "scene-0103", IMAGES)
    assert len(stream) == 3
    pairs = list(stream.with_annotations())
    assert [frame.samples[0] for frame, _ in pairs] == [f"scene-0103_t{k}" for k in range(3)]
    assert [annotations.labels.shape[1] for _, annotations in pairs] == [1, 3, 2]
    again = list(stream)
    torch.testing.assert_close(again[2].images, pairs[2][0].images)
    clip = clips(index)[3]
    torch.testing.assert_close(again[0].images, clip.frames[0].images)


def test_scene_stream_reports_damage_at_the_frame_it_reaches(tiny: Any, tmp_path: Path) -> None:
    index = open_nuscenes(tiny.write(tmp_path), "v1.0-mini")
    index.sample(2).cameras[0].path.unlink()
    frames = iter(SceneStream(index, "scene-0061", IMAGES))
    assert [next(frames).samples[0] for _ in range(2)] == ["scene-0061_t0", "scene-0061_t1"]
    with pytest.raises(SynclError, match=r"CAM_FRONT/scene-0061_t2\.jpg: this image is missing"):
        next(frames)
