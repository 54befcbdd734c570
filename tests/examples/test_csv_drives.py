"""The example that adds a kind of dataset: opened, learned from and scored."""

import shutil
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from syncl.data import dataset_sources
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import TrackingSubmission
from syncl.errors import SynclError
from syncl.evaluation import evaluate_tracking
from syncl.rendering.nuscenes_scenes import _ground_truth

from ..docs.documented import ROOT, load_module

VERSION = "v1.0-mini"


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of three frames and two cameras; a cart goes 1 m a frame, 10 m ahead."""
    root = tmp_path_factory.mktemp("drives")
    for name in ("one", "two"):
        folder = root / name
        for camera in ("front", "back"):
            (folder / camera).mkdir(parents=True)
            for frame in range(3):
                cv2.imwrite(str(folder / camera / f"{frame}.jpg"), np.full((32, 64, 3), 80, np.uint8))
        (folder / "frames.csv").write_text(
            "frame,time_s,x,y,yaw\n" + "".join(f"{n},{100 + n / 2},5,7,1.5707963\n" for n in range(3))
        )
        (folder / "boxes.csv").write_text(
            "frame,object,kind,x,y,z,length,width,height,yaw\n"
            + "".join(f"{n},c,cart.loaded,5,{17 + n},1,4,2,2,1.5707963\n" for n in range(3))
            + "0,p,person,7,12,0.9,0.6,0.6,1.8,0\n0,d,dog,3,12,0.3,0.8,0.3,0.6,0\n"
        )
        (folder / "cameras.csv").write_text(
            "name,width,height,focal,x,y,z,yaw\nfront,64,32,40,1,0,1.5,0\nback,64,32,40,-1,0,1.5,3.14159265\n"
        )
    return root


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(dataset_sources, "FORMATS", list(dataset_sources.FORMATS))
    module = load_module(ROOT / "examples" / "add_dataset.py")
    module.FORMATS = dataset_sources.FORMATS
    return module


def test_drives_of_csv_files_open_as_any_dataset(example: ModuleType, drives: Path, capsys, tmp_path: Path):
    example.main([str(drives)])
    said = capsys.readouterr().out
    assert "splits: train 1, val 1" in said and "cart, to 40 m: cart.loaded (6)" in said
    assert "categories of no class: dog (2)" in said
    index = open_nuscenes(drives, VERSION)
    sample = index.sample(0)
    cart = sample.annotations.boxes[sample.annotations.labels == 0][0]
    np.testing.assert_allclose(cart, [10, 0, 1, 4, 2, 2, 0, 2, 0], atol=1e-6)
    front, back = sample.cameras
    assert (front.channel, back.channel) == ("front", "back") and front.path.is_file()
    seen = front.intrinsics @ (front.camera_from_vehicle @ np.append(cart[:3], 1))[:3]
    np.testing.assert_allclose(seen / seen[2], [32, 16 + 40 * 0.5 / 9, 1], atol=1e-5)
    assert seen[2] == pytest.approx(9)


def test_they_are_learned_from_and_scored(example: ModuleType, drives: Path, tmp_path: Path):
    example.register()
    index = open_nuscenes(drives, VERSION)
    options = {"images": ImageOptions((32, 64)), "annotations": AnnotationOptions(index.dataset.classes)}
    (clip,) = ClipDataset(index, index.split_scenes("train"), clip_length=3, **options)
    assert clip.annotations[0].labels.tolist() == [[0, 1]] and clip.frames[0].camera_valid.all()
    rows = index.scene_samples("two")
    submission = TrackingSubmission([index.sample_token(row) for row in rows], dataset=index.dataset)
    for row in rows:
        sample = index.sample(row)
        submission.add(
            sample.token,
            _ground_truth(index, row, sample, index.dataset.classes),
            sample.global_from_vehicle,
        )
    submission.save(tmp_path / "results.json")
    assert evaluate_tracking(tmp_path / "results.json", drives, VERSION, "val").amota == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "frames",
            "\n2,101.0,",
            "\n2,100.2,",
            r"sample_timestamps_us of sample one/2: 100200000 is not later",
        ),
        (
            "frames",
            "\n2,101.0,",
            "\n2,100.5,",
            r"sample_timestamps_us of sample one/2: 100500000 is not later",
        ),
        ("frames", "\n1,", "\n1,100.4,5,7,1\n1,", "sample_tokens: 'one/1' is there more than once"),
        (
            "boxes",
            ",4,2,2,",
            ",-4,2,2,",
            r"one/0: \[-4\.0, 2\.0, 2\.0\] is a size that is not positive \(3 such",
        ),
        ("boxes", "1,c,", "0,c,", r"annotation_instances of an annotation of sample one/0: 0 is there twice"),
        ("cameras", "front,64", "front,-64", r"image_sizes of one/front/0\.jpg: \[-64, 32\] is no width and"),
    ],
)
def test_what_no_reader_may_return_is_refused(example, drives: Path, tmp_path: Path, file, old, new, message):
    example.register()
    shutil.copytree(drives, tmp_path / "drives")
    path = tmp_path / "drives" / "one" / f"{file}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SynclError, match=rf"drives: CsvDrives\.(scenes|cameras): .*{message}"):
        open_nuscenes(tmp_path / "drives", VERSION)


def test_what_is_wrong_in_them_is_named(example: ModuleType, drives: Path):
    example.register()
    path = drives / "one" / "boxes.csv"
    written = path.read_text()
    try:
        path.write_text(written.replace("0,p,", "9,p,"))
        with pytest.raises(SynclError, match=r"boxes\.csv: no frame '9'"):
            open_nuscenes(drives, VERSION)
        path.write_text(written.replace("0.9,0.6", "nan,0.6"))
        with pytest.raises(SynclError, match="not finite"):
            open_nuscenes(drives, VERSION)
    finally:
        path.write_text(written)
