"""Training on stored features of a frozen encoder: the same training, without looking at images."""

import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import torch

import rig
from rig import TINY_RUN
from syncl.data.augmentation import Augmentation
from syncl.data.features import FeatureStore, write_features
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.errors import SynclError
from syncl.runs.train.feature_cache import encoded_levels, leaves_images
from syncl.runs.train.run import train_recipe

CHANGES = (
    *TINY_RUN,
    "training.steps=2",
    "training.log_every=1",
    "training.data.batch_size=1",
    "training.data.clip_length=2",
    "training.precision=fp32",
    "training.optimiser.warmup_steps=0",
)
AS_THEY_ARE = "training.data.augmentation=null"
ONE_STEP = "training.steps=1"


def run(world, output, *changes, recipe="mutr3d_petr_synthetic_syncl", freeze=True, cache=None):
    return train_recipe(
        recipe,
        data=world,
        output=output,
        changes=(*CHANGES, *changes),
        freeze_encoder=freeze,
        cache_features=cache,
    )


def stores(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/features.json"))


@pytest.fixture(scope="module")
def stored(small_world, tmp_path_factory) -> Path:
    """A folder with the store of both scenes in `features` and the run that wrote it; to be read only."""
    folder = tmp_path_factory.mktemp("stored")
    run(small_world, folder / "run", AS_THEY_ARE, cache=folder / "features")
    return folder


def test_training_on_stored_features_equals_training_on_images(small_world, stored, tmp_path):
    run(small_world, tmp_path / "images", AS_THEY_ARE)
    logs = [
        (folder / "log.jsonl").read_bytes().splitlines() for folder in (tmp_path / "images", stored / "run")
    ]
    # The second step shows that the first one changed the weights alike.
    for one, other in zip(*logs, strict=True):
        assert orjson.loads(one)["total"] == pytest.approx(orjson.loads(other)["total"], rel=1e-4)


def test_stored_features_are_of_images_as_tests_crop_them(small_world, tmp_path):
    index = open_nuscenes(small_world, "v1.0-mini", cache=False)
    scenes, cameras = index.scene_names[:1], len(index.camera_names)
    tokens = [index.sample_token(row) for row in index.scene_samples(scenes[0])]
    valid = torch.ones(len(tokens), cameras, dtype=torch.bool)
    levels = [torch.zeros(len(tokens), cameras, 4, 2, 3)]
    store = write_features(tmp_path / "store", [(tokens, valid, levels)])
    turned = Augmentation(resize_range=(1.0, 1.0), rotation_rad=0.3)
    assert leaves_images(turned)
    # The images of 64 x 96 pixels are wider than this.
    wanted = {"images": ImageOptions((32, 40)), "annotations": AnnotationOptions(min_points=0)}
    plain = ClipDataset(index, scenes, clip_length=1, **wanted)
    stored = ClipDataset(index, scenes, clip_length=1, **wanted, augmentation=turned, features=store)
    for epoch in range(3):
        one, other = (clips[epoch, 0].frames[0].rig for clips in (plain, stored))
        assert torch.equal(one.image_from_camera, other.image_from_camera)
        assert not torch.equal(one.camera_from_vehicle, other.camera_from_vehicle)


def test_cameras_that_a_batch_lacks_are_not_looked_at():
    torch.manual_seed(0)
    encoder = rig.tiny_encoder().build().eval()
    frame = rig.make_frame(cameras=3, streams=2)
    with torch.no_grad():
        expected = encoder(frame)
        valid = torch.tensor([[True, False, False], [True, False, True]])
        found = encoded_levels(encoder, replace(frame, camera_valid=valid))
    for level, whole in zip(found, expected, strict=True):
        torch.testing.assert_close(level[:, [0, 2]], whole[:, [0, 2]])
        assert not level[:, 1].any()


def test_images_are_not_opened_once_features_are_stored(small_world, stored, tmp_path, monkeypatch):
    cache = shutil.copytree(stored / "features", tmp_path / "features")

    def refuse(*_):
        raise AssertionError("an image was opened")

    monkeypatch.setattr("syncl.data.nuscenes.clips.frames.load_image", refuse)
    run(small_world, tmp_path / "second", AS_THEY_ARE, ONE_STEP, cache=cache)
    assert len(stores(cache)) == 1


def test_a_store_serves_fewer_scenes_but_not_more(small_world, tmp_path):
    cache = tmp_path / "features"
    run(small_world, tmp_path / "one", AS_THEY_ARE, ONE_STEP, "training.data.scenes=1", cache=cache)
    assert len(FeatureStore(stores(cache)[0])) == 5
    run(small_world, tmp_path / "two", AS_THEY_ARE, ONE_STEP, cache=cache)
    assert sorted(len(FeatureStore(store)) for store in stores(cache)) == [5, 10]
    run(small_world, tmp_path / "again", AS_THEY_ARE, ONE_STEP, "training.data.scenes=1", cache=cache)
    assert len(stores(cache)) == 2


def test_another_encoder_has_a_store_of_its_own(small_world, stored, tmp_path):
    cache = shutil.copytree(stored / "features", tmp_path / "features")
    other_weights = "training.seed=5"
    run(small_world, tmp_path / "two", AS_THEY_ARE, ONE_STEP, other_weights, cache=cache)
    assert len(stores(cache)) == 2


def test_other_images_and_lenses_in_the_same_place_are_encoded_anew(small_world, tmp_path):
    world, cache = shutil.copytree(small_world, tmp_path / "world"), tmp_path / "features"
    run(world, tmp_path / "one", AS_THEY_ARE, ONE_STEP, cache=cache)
    table = world / "v1.0-mini" / "calibrated_sensor.json"
    sensors = orjson.loads(table.read_bytes())
    next(sensor for sensor in sensors if sensor["camera_intrinsic"])["camera_intrinsic"][0][0] *= 1.01
    table.write_bytes(orjson.dumps(sensors))
    run(world, tmp_path / "two", AS_THEY_ARE, ONE_STEP, cache=cache)
    assert len(stores(cache)) == 2
    image = next((world / "samples" / "CAM_FRONT").iterdir())
    image.write_bytes(image.read_bytes() + b" ")
    run(world, tmp_path / "three", AS_THEY_ARE, ONE_STEP, cache=cache)
    run(world, tmp_path / "again", AS_THEY_ARE, ONE_STEP, cache=cache)
    assert len(stores(cache)) == 3


@pytest.mark.parametrize(
    ("freeze", "change", "reason"),
    [
        (False, AS_THEY_ARE, "the image encoder is trained"),
        (True, "training.data.augmentation.mirror_probability=0.5", "scaled, mirrored or recoloured"),
    ],
)
def test_features_that_would_change_are_refused(small_world, tmp_path, freeze, change, reason):
    with pytest.raises(SynclError, match=reason):
        run(small_world, tmp_path / "run", change, freeze=freeze, cache=tmp_path / "features")
    assert not (tmp_path / "run").exists()


def test_rows_come_back_as_they_were(tmp_path):
    levels = [torch.randn(3, 2, 4, 2, 3).bfloat16(), torch.randn(3, 2, 4, 1, 2).bfloat16()]
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    store = write_features(tmp_path / "store", [(("a", "b", "c"), valid, levels)])
    assert "b" in store and "d" not in store and len(store) == 3
    found = store.of("b")
    assert found.camera_valid == (True, False)
    assert all(torch.equal(level[0], kept[1]) for level, kept in zip(found.levels, levels))
    with pytest.raises(SynclError, match="no features of sample d"):
        store.of("d")
    again = write_features(tmp_path / "again", [(("a", "b", "c"), valid, levels)], {"b": "its images"})
    assert again.made_from("b", "its images") and not again.made_from("b", "others")
    assert not again.made_from("d", "") and not store.made_from("b", "its images")


def test_an_incomplete_store_says_so(tmp_path):
    folder = tmp_path / "store"
    write_features(folder, [(("a",), torch.ones(1, 2, dtype=torch.bool), [torch.randn(1, 2, 4, 2, 3)])])
    with (folder / "level0.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(SynclError, match=r"level0.bin: must have 192 bytes"):
        FeatureStore(folder)
    (folder / "features.json").unlink()
    with pytest.raises(SynclError, match="not a complete store"):
        FeatureStore(folder)


def test_features_of_images_of_a_while_ago_are_refused(small_world, tmp_path):
    with pytest.raises(SynclError, match="images of a while ago"):
        run(
            small_world, tmp_path / "run", AS_THEY_ARE, recipe="petrv2_synthetic", cache=tmp_path / "features"
        )


def test_a_detector_without_an_image_encoder_of_ours_is_refused_by_name(small_world, tmp_path, monkeypatch):
    monkeypatch.setattr("syncl.runs.train.feature_cache.ImageEncoder", type("Another", (), {}))
    with pytest.raises(SynclError, match="Petr has no image_encoder of this package"):
        run(small_world, tmp_path / "run", AS_THEY_ARE, cache=tmp_path / "features")
