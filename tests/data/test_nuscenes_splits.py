import json
from pathlib import Path

import pytest

from syncl.data.nuscenes.splits import OFFICIAL_SPLITS, official_scenes, own_split, split_scenes
from syncl.errors import SynclError


def test_official_splits_have_their_published_sizes_and_partition_the_thousand_scenes():
    sizes = {split: len(official_scenes(split)) for split in OFFICIAL_SPLITS}
    assert sizes == {
        "train": 700,
        "val": 150,
        "train_detect": 350,
        "train_track": 350,
        "mini_train": 8,
        "mini_val": 2,
        "test": 150,
    }
    everything = [*official_scenes("train"), *official_scenes("val"), *official_scenes("test")]
    assert len(set(everything)) == 1000
    assert not set(official_scenes("train_detect")) & set(official_scenes("train_track"))
    mini = {*official_scenes("mini_train"), *official_scenes("mini_val")}
    assert mini <= set(official_scenes("train")) | set(official_scenes("val"))


def test_names_are_the_official_ones():
    assert official_scenes("mini_val") == ("scene-0103", "scene-0916")
    assert official_scenes("val")[:3] == ("scene-0003", "scene-0012", "scene-0013")
    assert official_scenes("train")[-1] == "scene-1110"


@pytest.mark.parametrize(
    ("split", "version"), [("val", "v1.0-mini"), ("mini_val", "v1.0-trainval"), ("test", "v1.0-mini")]
)
def test_split_of_another_version_is_refused(split: str, version: str, tmp_path: Path):
    with pytest.raises(SynclError, match=f"split '{split}' belongs to versions that end in"):
        split_scenes(split, version, tmp_path)


def test_custom_split(tmp_path: Path):
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini" / "splits.json").write_text(
        json.dumps({"mine": ["scene-0916", "drive-1"], "bad": "x"})
    )
    assert split_scenes("mine", "v1.0-mini", tmp_path) == ("scene-0916", "drive-1")
    with pytest.raises(SynclError, match=r"splits\.json: no split 'other'; it defines bad, mine"):
        split_scenes("other", "v1.0-mini", tmp_path)
    with pytest.raises(SynclError, match="split 'bad' must be a list of scene names"):
        split_scenes("bad", "v1.0-mini", tmp_path)
    with pytest.raises(SynclError, match="to define it"):
        split_scenes("mine", "v1.0-trainval", tmp_path)


def test_a_version_has_splits_of_its_own(tmp_path: Path):
    found = {name: own_split(name) for name in ("v1.0-mini", "v1.0-trainval", "v1.0-test")}
    assert found == {"v1.0-mini": "mini_val", "v1.0-trainval": "val", "v1.0-test": "test"}
    assert own_split("v1.0-trainval", training=True) == "train"
    with pytest.raises(SynclError, match=r"version 'v1.0-test' has no training split of its own.*--split"):
        own_split("v1.0-test", training=True)
    with pytest.raises(SynclError, match="version 'own' has no validation split of its own"):
        own_split("own")
    # Where the version is not there at all, that is what is said.
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini" / "sample.json").write_text("[]")
    with pytest.raises(
        SynclError, match=r"no version 'v1.0'; it holds v1.0-mini; check --data and --version"
    ):
        own_split("v1.0", tmp_path)
    with pytest.raises(SynclError, match="none: no such folder"):
        own_split("v1.0", tmp_path / "none")


def test_a_misspelt_split_is_told_from_the_one_that_was_meant(tmp_path: Path):
    with pytest.raises(SynclError, match="did you mean 'mini_val'"):
        split_scenes("mini_vla", "v1.0-mini", tmp_path)
