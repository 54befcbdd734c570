"""Data stay in their folder: names that lead out of it, links, and what is no image at all."""

import os
import shutil
from pathlib import Path

import orjson
import pytest
import yaml
from PIL import Image

from syncl.data import images
from syncl.data.images import MOST_PIXELS, image_size, load_image
from syncl.data.nuscenes.clips.image_files import survey_images
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.past.sources import missing_sweep_images
from syncl.data.recording.recording import open_recording
from syncl.errors import SynclError
from syncl.files import inside

OUTSIDE = ("/etc/passwd", "../secret.jpg", "images/../../secret.jpg", "images/..", "a\\..\\..\\b", "")


def recording(folder: Path, **changes: object) -> Path:
    camera = {
        "image_size": [48, 32],
        "intrinsics": [[40, 0, 24], [0, 40, 16], [0, 0, 1]],
        "vehicle_from_camera": {"translation_m": [0, 0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5]},
    }
    (folder / "images" / "front").mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(folder / "images" / "front" / "0.png")
    frame = {
        "name": "0",
        "timestamp_s": 0.0,
        "images": {"front": "images/front/0.png"},
    }
    content = {"format": "syncl-rig-1", "cameras": {"front": camera | changes}, "frames": [frame]}
    (folder / "rig.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SynclError, match="leads out of the data"):
        inside(tmp_path, name)
    assert inside(tmp_path, "images/a..b/c.jpg") == tmp_path / "images" / "a..b" / "c.jpg"


def test_links_out_are_refused_and_links_within_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    for folder in (root / "images", tmp_path / "secret"):
        (folder / "a.jpg").touch()
    (root / "link.jpg").symlink_to(tmp_path / "secret" / "a.jpg")
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "near.jpg").symlink_to("images/a.jpg")
    (tmp_path / "beside").symlink_to(root)
    for name in ("link.jpg", "folder/a.jpg"):
        with pytest.raises(SynclError, match=r"is a link to .*secret.*out of the data"):
            inside(root, name)
    assert inside(root, "near.jpg").exists() and inside(tmp_path / "beside", "images/a.jpg").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.jpg", "samples/link.jpg"])
def test_tables_cannot_name_images_elsewhere(small_world: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    shutil.copytree(small_world, root)
    (root / "samples" / "link.jpg").symlink_to("/etc/passwd")
    table = root / "v1.0-mini" / "sample_data.json"
    records = orjson.loads(table.read_bytes())
    chosen = next(r for r in records if r["fileformat"] == "jpg" and r["is_key_frame"])
    chosen["filename"] = name
    table.write_bytes(orjson.dumps(records))
    index = open_nuscenes(root, "v1.0-mini")
    with pytest.raises(SynclError, match="out of the data"):
        for scene in index.scene_names:
            for row in index.scene_samples(scene):
                index.sample(row)
    with pytest.raises(SynclError, match="out of the data"):
        survey_images(index, decode=True)
    if "link" not in name:
        for look in (index.missing_images, lambda: missing_sweep_images(index)):
            with pytest.raises(SynclError, match="out of the data"):
                look()


@pytest.mark.parametrize("name", OUTSIDE[:-1])
def test_rig_files_cannot_name_images_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(SynclError, match=r"rig\.yaml: cameras\.front.*leads out of the data"):
        open_recording(recording(tmp_path / "a", images=name))
    with pytest.raises(SynclError, match=r"rig\.yaml: .*images\.front.*leads out of the data"):
        open_recording(_frames(recording(tmp_path / "b"), name))


def _frames(folder: Path, name: str) -> Path:
    content = yaml.safe_load((folder / "rig.yaml").read_text())
    content["frames"][0]["images"] = {"front": name}
    (folder / "rig.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_linked_images_of_recordings_are_refused(tmp_path: Path) -> None:
    folder = recording(tmp_path / "a")
    image = folder / "images" / "front" / "0.png"
    image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(SynclError, match=r"is a link to .*elsewhere"):
        open_recording(folder)


def test_pipes_devices_and_folders_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    transform = images.test_transform((32, 48), (32, 48))
    for path in (tmp_path / "pipe.jpg", tmp_path / "folder.jpg", Path("/dev/zero")):
        for read in (image_size, lambda path: load_image(path, transform)):
            with pytest.raises(SynclError, match="this is a folder, pipe or device, not an image"):
                read(path)


def test_sizes_of_rig_files_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match=rf"image_size: .*at most {MOST_PIXELS:,} pixels"):
        open_recording(recording(tmp_path / "a", image_size=[30_000, 30_000]))
