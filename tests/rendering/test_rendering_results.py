import copy
from dataclasses import replace

import av
import cv2
import numpy as np
import orjson
import pytest

from syncl.commands.render import render
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.errors import SynclError
from syncl.geometry.poses import invert_pose, move_boxes
from syncl.rendering import RenderStyle
from syncl.rendering.layout import sheet_places
from syncl.rendering.nuscenes_scenes import open_results
from syncl.rendering.output import join_sheet
from syncl.rendering.scene_view import History, view_frame

SCENES = ("scene-0061", "scene-0103")


@pytest.fixture
def dataset(tiny_nuscenes):
    """The tiny dataset, its index, and tracks that repeat its ground truth (the truck with a low score)."""
    index = open_nuscenes(tiny_nuscenes, "v1.0-mini")
    rows = [row for scene in SCENES for row in index.scene_samples(scene)]
    writer = TrackingSubmission([index.sample_token(row) for row in rows])
    for row in rows:
        sample = index.sample(row)
        truth = sample.annotations
        keep = np.flatnonzero((truth.labels == 0) | (truth.labels == 1))
        names = [("car", "truck")[label] for label in truth.labels[keep]]
        # The truck's score wavers about 0.3, its mean is just below.
        wavering = 0.35 if row % 2 else 0.2
        scores = np.array([0.9 if name == "car" else wavering for name in names])
        identities = [7 if name == "car" else 8 for name in names]
        objects = FrameObjects(truth.boxes[keep], tuple(names), scores, tuple(map(str, identities)))
        writer.add(sample.token, objects, sample.global_from_vehicle)
    path = tiny_nuscenes / "results.json"
    writer.save(path)
    return tiny_nuscenes, index, path


def test_drawn_tracks_lie_on_the_ground_truth_they_repeat(dataset):
    _, index, path = dataset
    source = open_results(index, path, SCENES, min_score=0.1)
    frames = list(source.frames(RenderStyle()))
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 1, 2, 3]
    assert [frame.scene for frame in frames] == ["scene-0061"] * 4 + ["scene-0103"] * 3
    assert frames[3].elapsed_s == pytest.approx(1.5)
    for frame in frames:
        assert frame.objects.classes == ("car", "truck") and frame.objects.identities == ("7", "8")
        cars = frame.ground_truth.classes.index("car")
        np.testing.assert_allclose(frame.objects.boxes[0, :7], frame.ground_truth.boxes[cars, :7], atol=1e-6)
        assert all(image.shape == (90, 160, 3) for image in frame.images)


def test_classes_can_be_chosen(dataset):
    _, index, path = dataset
    (*_, frame) = open_results(index, path, SCENES, 0.1, classes=("truck",)).frames(RenderStyle())
    assert frame.objects.classes == ("truck",) and set(frame.ground_truth.classes) == {"truck"}


def test_known_box_of_the_tables_in_the_vehicle_frame(dataset):
    _, index, path = dataset
    frame, _ = open_results(index, path, SCENES).frame("scene-0061", 1, RenderStyle())
    # In the tables the car starts 10 m ahead of the ego vehicle and drives off at 10 m/s.
    np.testing.assert_allclose(frame.objects.boxes[0], [10, 0, 0.8, 4.6, 1.9, 1.6, 0, 10, 0], atol=1e-6)


def test_forecasts_of_results_come_in_the_vehicle_frame(dataset, tmp_path):
    _, index, _ = dataset
    rows = index.scene_samples("scene-0061")
    writer = TrackingSubmission([index.sample_token(row) for row in rows], forecast_step_s=0.5)
    ahead = np.array([[[15.0, 1.0], [20.0, 2.0]], [[-3.0, 4.0], [-3.0, 4.5]]])
    for row in rows:
        sample = index.sample(row)
        boxes = np.array([[10.0, 0, 0.8, 4.6, 1.9, 1.6, 0, 10, 0], [-3, 3.5, 0.8, 4.6, 1.9, 1.6, 0, 0, 0]])
        pose = sample.global_from_vehicle
        objects = FrameObjects(boxes, ("car", "car"), np.array([0.2, 0.9]), ("1", "2"), ahead)
        writer.add(sample.token, objects, pose)
    writer.save(tmp_path / "results.json")
    source = open_results(index, tmp_path / "results.json", ("scene-0061",), min_score=0.5)
    for frame in source.frames(RenderStyle()):
        assert frame.objects.identities == ("2",)
        np.testing.assert_allclose(frame.objects.forecasts, ahead[1:], atol=1e-6)


def test_tracks_are_chosen_by_their_mean_score(dataset):
    _, index, path = dataset
    counts = [
        {frame.objects.count for frame in open_results(index, path, SCENES, score).frames(RenderStyle())}
        for score in (0.1, 0.3, 0.95)
    ]
    assert counts == [{2}, {1}, {0}]


def test_one_frame_comes_with_the_past_of_its_scene(dataset):
    _, index, path = dataset
    source = open_results(index, path, SCENES)
    frame, history = source.frame("scene-0061", 4, RenderStyle())
    assert frame.number == 4 and len(history.trails["7"]) == 3
    _, history = source.frame("scene-0103", 1, RenderStyle())
    assert not history.trails


def test_large_images_are_decoded_no_larger_than_drawn(dataset):
    _, index, path = dataset
    frame, _ = open_results(index, path, SCENES).frame("scene-0061", 1, RenderStyle(width=320))
    assert frame.images[0].shape == (59, 106, 3)
    full, _ = open_results(index, path, SCENES).frame("scene-0061", 1, RenderStyle())
    ahead = np.array([10, 0, 1.0, 1])
    small_u, small_v, small_d, _ = frame.image_from_vehicle[0] @ ahead
    u, v, d, _ = full.image_from_vehicle[0] @ ahead
    np.testing.assert_allclose([small_u / small_d / 106, small_v / small_d / 59], [u / d / 160, v / d / 90])


def test_a_camera_that_is_silent_at_first_keeps_its_place(dataset):
    root, index, path = dataset
    table = root / "v1.0-mini" / "sample_data.json"
    first = index.sample_token(index.scene_samples("scene-0061")[0])
    rows = orjson.loads(table.read_bytes())
    kept = [row for row in rows if row["sample_token"] != first or "CAM_BACK/" not in row["filename"]]
    assert len(kept) == len(rows) - 1
    table.write_bytes(orjson.dumps(kept))
    source = open_results(open_nuscenes(root, "v1.0-mini"), path, ("scene-0061",))
    frames = list(source.frames(RenderStyle()))
    assert {frame.cameras for frame in frames} == {index.camera_names}
    place = index.camera_names.index("CAM_BACK")
    assert [frame.images[place] is None for frame in frames] == [True, False, False, False]
    assert all(image is not None for image in frames[0].images[:place] + frames[0].images[place + 1 :])


def test_boxes_follow_the_pose_of_the_vehicle():
    pose = np.eye(4)
    pose[:2, :2] = [[0, -1], [1, 0]]  # a quarter turn to the left
    pose[:3, 3] = [100, 50, 1]
    box = move_boxes(invert_pose(pose), np.array([[100, 60, 2, 4, 2, 1.5, np.pi, 3, 4.0]]))
    np.testing.assert_allclose(box, [[10, 0, 1, 4, 2, 1.5, np.pi / 2, 4, -3]], atol=1e-12)


def test_command_writes_video_and_picture(dataset, tmp_path, capsys):
    root, _, path = dataset
    render(path, data=root, split="mini_val", output=tmp_path / "tracks.mp4", mark_errors=True)
    with av.open(str(tmp_path / "tracks.mp4")) as container:
        sizes = {(frame.width, frame.height) for frame in container.decode(video=0)}
        assert container.streams.video[0].frames == 3
    render(path, data=root, split="mini_train", frame=2, output=tmp_path / "frame.png")
    height, width = cv2.imread(str(tmp_path / "frame.png")).shape[:2]
    assert sizes == {(width, height)} and width == 1280
    assert "3 frames of 1 scene" in capsys.readouterr().out


def test_a_sheet_shows_frames_of_the_whole_scene_with_their_past(dataset, tmp_path, capsys):
    root, _, path = dataset
    options = {"data": root, "split": "mini_train", "width": 640, "mark_errors": True, "min_score": 0.1}
    render(path, output=tmp_path / "sheet.png", scene="scene-0061", sheet=3, **options)
    assert "frames 1, 3, 4 of scene-0061" in capsys.readouterr().out
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    frames = []
    for number in (1, 3, 4):
        render(path, output=tmp_path / f"{number}.png", scene="scene-0061", frame=number, **options)
        frames.append(cv2.imread(str(tmp_path / f"{number}.png")))
    height, width = frames[0].shape[:2]
    assert sheet.shape == (2 * height + 12, 2 * width + 12, 3)
    np.testing.assert_array_equal(sheet[:height, :width], frames[0])
    np.testing.assert_array_equal(sheet[:height, -width:], frames[1])
    np.testing.assert_array_equal(sheet[-height:, :width], frames[2])
    assert (sheet[-height:, -width:] == sheet[-1, -1]).all()


def test_a_sheet_of_a_short_scene_has_each_frame_once():
    assert sheet_places(3, 8) == (0, 1, 2)
    assert sheet_places(40, 4) == (0, 13, 26, 39)
    with pytest.raises(SynclError, match="there is no picture"):
        join_sheet([])
    with pytest.raises(SynclError, match="different sizes"):
        join_sheet([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)])


def test_beyond_the_range_of_its_class_nothing_is_false_or_missed(dataset):
    _, index, path = dataset
    ranges_m = dict(index.dataset.ranges_m) | {"truck": 5.0}
    narrow = replace(index, dataset=replace(index.dataset, ranges_m=ranges_m))
    style = RenderStyle(mark_errors=True)
    for frame in open_results(narrow, path, SCENES, min_score=0.1).frames(style):
        # The truck is 8 m away at least, and tracked where it is.
        assert frame.objects.classes == ("car", "truck") and "truck" not in frame.ground_truth.classes
        assert frame.counted.tolist() == [True, False]
        verdict = view_frame(frame, History(), style)[0].verdict
        assert verdict.partner[0] >= 0 and not verdict.false.any()


def test_what_is_parked_in_a_rack_is_neither_false_nor_missed(dataset):
    _, index, path = dataset
    described = replace(index.dataset, rack_category="vehicle.truck", racked=("car",))
    trucks = index.columns.category_names[index.columns.annotation_categories] == b"vehicle.truck"
    style = RenderStyle(mark_errors=True)
    # The car is 8 m beside the truck in the truck's own direction, and 10 m across.
    for length, parked in ((15.0, False), (17.0, True)):
        columns = copy.copy(index.columns)
        boxes = columns.annotation_boxes.copy()
        boxes[trucks, 3:6] = [length, 21.0, 3.0]
        object.__setattr__(columns, "annotation_boxes", boxes)
        source = open_results(replace(index, dataset=described, columns=columns), path, SCENES, 0.1)
        frame, history = source.frame("scene-0061", 1, style)
        assert frame.counted.tolist() == [not parked, True]
        assert ("car" in frame.ground_truth.classes) != parked
        verdict = view_frame(frame, history, style)[0].verdict
        assert not verdict.false[0] and not verdict.missed.any()


def test_errors_are_marked_by_the_distance_of_the_dataset(dataset, tmp_path, monkeypatch):
    root, _, path = dataset
    own = tmp_path / "dataset.yaml"
    own.write_text(
        "format: syncl-dataset-1\n"
        "classes: {car: {range_m: 50, categories: [vehicle.car]}}\n"
        "evaluation: {track_distance_m: 3.5}\n"
    )
    styles = []
    monkeypatch.setattr("syncl.rendering.render_image", lambda frame, output, style, *_: styles.append(style))
    for file in (None, own):
        render(path, data=root, dataset=file, output=tmp_path / "errors.png", frame=1, mark_errors=True)
    assert [style.match_distance_m for style in styles] == [2.0, 3.5]


def test_detections_are_drawn_without_trails(dataset, tmp_path):
    root, index, _ = dataset
    rows = list(index.scene_samples("scene-0103"))
    writer = DetectionSubmission([index.sample_token(row) for row in rows])
    for row in rows:
        sample = index.sample(row)
        car = sample.annotations.boxes[sample.annotations.labels == 0]
        objects = FrameObjects(car, ("car",), np.array([0.8]), ("",))
        writer.add(sample.token, objects, sample.global_from_vehicle)
    writer.save(tmp_path / "detections.json")
    source = open_results(index, tmp_path / "detections.json", ("scene-0103",))
    frame, history = source.frame("scene-0103", 3, RenderStyle())
    assert frame.objects.identities == ("",) and not history.trails
    unsure = open_results(index, tmp_path / "detections.json", ("scene-0103",), min_score=0.9)
    frame, history = unsure.frame("scene-0103", 3, RenderStyle())
    assert not frame.objects.count and view_frame(frame, history, RenderStyle())[0].detected_only
    render(tmp_path / "detections.json", data=root, frame=3, output=tmp_path / "frame.png", mark_errors=True)


def test_dataset_without_annotations_is_drawn_without_ground_truth(dataset):
    root, _, path = dataset
    for name in ("sample_annotation", "instance"):
        (root / "v1.0-mini" / f"{name}.json").write_bytes(b"[]")
    index = open_nuscenes(root, "v1.0-mini")
    frame, _ = open_results(index, path, SCENES).frame("scene-0061", 1, RenderStyle())
    assert frame.ground_truth is None and frame.objects.count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "tracks.png"}, r"output: .*tracks\.png; a video is written as MP4"),
        (
            {"output": "frame.mp4", "frame": 1},
            r"output: .*frame\.mp4; a picture \(--frame, --sheet\) is written as PNG",
        ),
        (
            {"scene": "scene-0061"},
            r"scene 'scene-0061' is not in split 'mini_val' of ",
        ),
        ({"frame": 4, "output": "f.png"}, r"frame: 4; scene-0103 has frames 1 to 3"),
        ({"frame": 0, "output": "f.png"}, r"frame: 0; scene-0103 has frames 1 to 3"),
        ({"min_score": 1.5}, r"--min-score: 1\.5"),
        ({"classes": ("cra",)}, r"--classes: there is no class 'cra'; did you mean 'car'"),
        ({"frame": 1, "sheet": 2, "output": "f.png"}, r"--frame and --sheet: .*leave one out"),
        ({"sheet": 1, "output": "f.png"}, r"sheet: 1 pictures; choose between 2 and 24"),
        ({"trail_s": -1.0}, r"trail_s: -1"),
        ({"width": 10}, r"width: 10"),
        ({"fps": 0.0}, r"fps: 0"),
        ({"version": "v1.0-trainval"}, r"no version 'v1\.0-trainval'"),
    ],
)
def test_bad_options_are_named(dataset, tmp_path, options, message):
    root, _, path = dataset
    out = tmp_path / "out"
    output = out / options.pop("output", "tracks.mp4")
    with pytest.raises(SynclError, match=message):
        render(path, data=root, output=output, **options)
    assert not out.exists() or not list(out.iterdir())


def test_bad_results_are_named(dataset, tmp_path):
    root, _, path = dataset
    good = orjson.loads(path.read_bytes())
    target = tmp_path / "bad.json"
    token = next(token for token in good["results"] if token.startswith("scene-0103"))

    good["results"][token][0]["size"] = [1, -1, 1]
    target.write_bytes(orjson.dumps(good))
    with pytest.raises(SynclError, match=rf"bad\.json: sample '{token}': .*row 0 has size"):
        render(target, data=root, output=tmp_path / "tracks.mp4")
    del good["results"][token]
    target.write_bytes(orjson.dumps(good))
    with pytest.raises(SynclError, match=rf"bad\.json: no results for sample '{token}' of scene-0103"):
        render(target, data=root, output=tmp_path / "tracks.mp4")
    with pytest.raises(SynclError, match=r"missing\.json: cannot be read \(No such file"):
        render(tmp_path / "missing.json", data=root, output=tmp_path / "tracks.mp4")
    assert not (tmp_path / "tracks.mp4").exists()


def test_bad_images_are_named(dataset, tmp_path):
    root, index, path = dataset
    image = index.sample(index.scene_samples("scene-0103")[1]).cameras[2].path
    cv2.imwrite(str(image), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(SynclError, match=rf"{image.name}: 40 x 40 pixels, but .* says 160 x 90"):
        render(path, data=root, output=tmp_path / "tracks.mp4")
    image.unlink()
    with pytest.raises(SynclError, match=rf"{image.name}: this image is missing"):
        render(path, data=root, output=tmp_path / "tracks.mp4")
    assert not (tmp_path / "tracks.mp4").exists()


def test_earlier_video_is_kept(dataset, tmp_path):
    root, _, path = dataset
    target = tmp_path / "tracks.mp4"
    target.write_bytes(b"earlier")
    with pytest.raises(SynclError, match=r"tracks\.mp4: this file already exists"):
        render(path, data=root, output=target)
    assert target.read_bytes() == b"earlier"
    render(path, data=root, output=target, overwrite=True)
    assert len(target.read_bytes()) > 1000
