"""The official nuScenes splits, and custom ones from a `splits.json` beside the tables."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from syncl.data.dataset_sources import find_source
from syncl.errors import SynclError, did_you_mean
from syncl.files import parse_json

# Scene numbers as inclusive ranges.
_RANGES = {
    "val": (
        "3,12-18,35-36,38-39,92-110,221,268-278,329-332,344-346,519-524,552-565,625-627,629-630,632-638,"
        "770-771,775,777-778,780-784,794-800,802,904-917,919-931,962-963,966-969,971-972,1059-1073"
    ),
    "test": (
        "77-91,111-119,140,142-148,265-266,279-282,307-314,333-343,481-498,547-551,601-604,606-624,827-831,"
        "833-842,844-846,932-933,935-943,1026-1043"
    ),
    "mini_train": "61,553,655,757,796,1077,1094,1100",
    "mini_val": "103,916",
    "train_detect": (
        "1-2,41-76,161-168,170-176,190-196,199-200,202-204,206-214,254-264,283-306,315-318,321,323-324,347-375,"
        "382,420-439,457-459,461-465,467-469,471-472,474-480,566,568,570-578,580,582-583,665-679,681,683-689,"
        "739-741,744,746-747,749-752,757-765,767-769,868-873,875-878,880,882-903,945,947,949,952-953,955-961,"
        "975-984,988-991,1011-1025,1074-1102,1104-1105"
    ),
    "train_track": (
        "4-11,19-34,120-135,138-139,149-152,154-155,157-160,177-185,187-188,218-220,222,224-253,328,376-381,"
        "383-386,388-403,405-408,410-419,440-456,499-502,504-515,517-518,525-539,541-546,584-600,639-664,"
        "695-698,700-701,703-719,726-728,730-731,733-738,786-787,789-792,803-806,808-813,815-817,819-822,"
        "847-856,858,860-866,992,994-1010,1044-1058,1106-1110"
    ),
}

_SUFFIX_OF_SPLIT = {
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "mini_train": "mini",
    "mini_val": "mini",
    "test": "test",
}

OFFICIAL_SPLITS = tuple(_SUFFIX_OF_SPLIT)
"""Names of the predefined splits."""


_OWN_SPLITS = {"mini": ("mini_train", "mini_val"), "trainval": ("train", "val"), "test": (None, "test")}


def own_split(version: str, dataroot: Path | None = None, *, training: bool = False) -> str:
    """The split that a version is validated (v1.0-test: tested) or trained on.

    Args:
        version: name of the table folder, such as "v1.0-trainval".
        dataroot: folder that holds it. Data of one's own are asked for their splits "train" and "val"; where
            there is but one, it serves for both.
        training: the one to train on.

    Raises:
        SynclError: if it has none of its own, or is not there.
    """
    own = {} if dataroot is None else own_splits(version, Path(dataroot))
    for name in ("train",) if training else ("val", "test"):
        if name in own:
            return name
    if len(own) == 1:
        return next(iter(own))
    found = next((_OWN_SPLITS[end] for end in _OWN_SPLITS if version.endswith(end)), (None, None))
    split = found[0 if training else 1]
    if split is None:
        if dataroot is not None:
            check_version(Path(dataroot), version)
        raise SynclError(
            f"version {version!r} has no {'training' if training else 'validation'} split of its own; name "
            "an official one, or one of its splits.json (--split; for validation in training "
            "--validation-split)"
        )
    return split


def check_version(dataroot: Path, version: str) -> None:
    """Make sure that a data root has the folder of a version's tables.

    Raises:
        SynclError: it has not, with the versions that it has.
    """
    if not (dataroot / version).is_dir():
        versions = sorted(path.parent.name for path in dataroot.glob("*/sample.json"))
        found = f"it holds {', '.join(versions)}" if versions else "it holds no nuScenes tables at all"
        problem = f"no version '{version}'; {found}" if dataroot.is_dir() else "no such folder"
        raise SynclError(f"{dataroot}: {problem}; check --data and --version")


@cache
def official_scenes(split: str) -> tuple[str, ...]:
    """Scene names ("scene-0003") of a predefined split (one of `OFFICIAL_SPLITS`), ascending."""
    if split == "train":
        return tuple(sorted(official_scenes("train_detect") + official_scenes("train_track")))
    names: list[str] = []
    for part in _RANGES[split].split(","):
        first, _, last = part.partition("-")
        names += [f"scene-{number:04d}" for number in range(int(first), int(last or first) + 1)]
    return tuple(names)


def split_scenes(split: str, version: str, dataroot: Path) -> tuple[str, ...]:
    """Scene names of a split, predefined or custom.

    Names that are not predefined are looked up in `dataroot/version/splits.json`, an object from split name
    to a list of scene names (the official devkit's form).

    Args:
        split: one of `OFFICIAL_SPLITS` or a custom name.
        version: name of the table folder, such as "v1.0-trainval"; predefined splits fix how it must end.
        dataroot: folder that holds the version folder.

    Raises:
        SynclError: if the split does not belong to this version, is unknown, or its `splits.json` is damaged.
    """
    own = own_splits(version, Path(dataroot))
    if split in own:
        return own[split]
    if not own and split in _SUFFIX_OF_SPLIT:
        suffix = _SUFFIX_OF_SPLIT[split]
        if not version.endswith(suffix):
            raise SynclError(
                f"split {split!r} belongs to versions that end in {suffix!r}, not to {version!r}: "
                f"choose --version v1.0-{suffix} or another split"
            )
        return official_scenes(split)
    return _custom_scenes(split, Path(dataroot) / version / "splits.json", own)


def own_splits(version: str, dataroot: Path) -> Mapping[str, tuple[str, ...]]:
    """Splits of data whose version is none of nuScenes', or which are no tables at all; empty for others."""
    source = find_source(dataroot, version)
    if source is not None:
        return source.splits()
    file = dataroot / version / "splits.json"
    official = any(version.endswith(end) for end in _OWN_SPLITS)
    return read_splits(file) if not official and file.is_file() else {}


def read_splits(file: Path) -> dict[str, tuple[str, ...]]:
    """Every split of a `splits.json`.

    Raises:
        SynclError: it is damaged.
    """
    content = parse_json(file)
    if not isinstance(content, dict) or not content:
        raise SynclError(f"{file}: must hold an object from split name to a list of scene names")
    return {name: _custom_scenes(name, file, {}) for name in content}


def _custom_scenes(split: str, file: Path, own: Mapping[str, object]) -> tuple[str, ...]:
    if own:
        raise SynclError(
            f"{file.parent}: no split {split!r}; there are {', '.join(own)}{did_you_mean(split, own)}"
        )
    if not file.is_file():
        raise SynclError(
            f"split {split!r} is none of {', '.join(OFFICIAL_SPLITS)}, and there is no {file} to define it"
            f"{did_you_mean(split, OFFICIAL_SPLITS)}"
        )
    content = parse_json(file)
    if not isinstance(content, dict):
        raise SynclError(f"{file}: must hold an object from split name to a list of scene names")
    if split not in content:
        raise SynclError(
            f"{file}: no split {split!r}; it defines {', '.join(sorted(content)) or 'none'}"
            f"{did_you_mean(split, (*content, *OFFICIAL_SPLITS))}"
        )
    scenes = content[split]
    if not isinstance(scenes, list) or not all(isinstance(scene, str) for scene in scenes):
        raise SynclError(f"{file}: split {split!r} must be a list of scene names")
    return tuple(scenes)
