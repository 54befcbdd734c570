"""Reading `dataset.yaml`: classes, ranges and thresholds of one's own; docs/own-data.md describes it."""

from collections.abc import Collection, Mapping
from pathlib import Path

from syncl.data.dataset_sources import find_source
from syncl.data.yaml_node import Node, read_yaml
from syncl.dataset_description import ERROR_NAMES, NUSCENES, DatasetDescription, Measures
from syncl.errors import SynclError, did_you_mean

DATASET_FILE = "dataset.yaml"
FORMAT = "syncl-dataset-1"


def find_description(
    dataroot: Path, version: str, given: DatasetDescription | Path | None = None
) -> DatasetDescription:
    """What a dataset's classes are, and how they are scored.

    Args:
        dataroot: folder of the dataset.
        version: name of its table folder.
        given: a description, or a file that is one; None = `dataset.yaml` beside the tables where there is
            one, otherwise what is usual for this kind of dataset, such as nuScenes' classes.

    Raises:
        SynclError: as `read_description`.
    """
    if isinstance(given, DatasetDescription):
        return given
    source = find_source(dataroot, version)
    beside = (dataroot / version if source is None else source.folder) / DATASET_FILE
    if given is None and not beside.is_file():
        return NUSCENES if source is None else source.describe()
    return read_description(beside if given is None else given)


def check_categories(source: Path, present: Collection[str], dataset: DatasetDescription) -> None:
    """Refuse a description that is of other data: a class that none of the categories there belongs to.

    Raises:
        SynclError: naming the class, its categories, and what was probably meant.
    """
    if dataset.official:
        return
    for name in dataset.classes:
        own = [category for category, of in dataset.categories.items() if of == name]
        if not set(own) & set(present):
            raise SynclError(
                f"{source}: none of the categories of class {name!r} ({', '.join(own)}) is there"
                f"{did_you_mean(own[0], present)}; there are {', '.join(sorted(present)) or 'none'}. Mend "
                f"{DATASET_FILE}, or take the class out"
            )


def read_description(path: Path) -> DatasetDescription:
    """Read a file of classes and measures.

    Raises:
        SynclError: it is missing or damaged, a field is unknown or missing, a number is not finite or out of
            bounds, or a category is named twice; file, field and value are named.
    """
    node = read_yaml(path, "docs/own-data.md")
    fields = node.fields(("format", "classes"), ("name", "left_out", "evaluation", "comment"))
    if fields["format"].value != FORMAT:
        fields["format"].expected(f"'{FORMAT}'")
    classes = fields["classes"].entries()
    if not classes:
        fields["classes"].fail("there is no class; describe at least one")
    ranges_m: dict[str, float] = {}
    categories: dict[str, str] = {}
    undefined: dict[str, tuple[str, ...]] = {}
    like: dict[str, str] = {}
    tracked: list[str] = []
    symmetric: list[str] = []
    for name, entry in classes.items():
        if not name.strip() or "," in name:
            entry.fail("a class's name may not be empty or hold a comma")
        about = entry.fields(
            ("range_m",), ("categories", "tracked", "symmetric", "undefined_errors", "like", "comment")
        )
        ranges_m[name] = _positive(about["range_m"])
        for item in about["categories"].items() if "categories" in about else ():
            _claim(item, name, categories)
        if "categories" not in about:
            _claim(Node(entry.path, entry.place, name), name, categories)
        if _flag(about, "tracked", default=True):
            tracked.append(name)
        if _flag(about, "symmetric", default=False):
            symmetric.append(name)
        if "like" in about:
            like[name] = about["like"].text()
        if "undefined_errors" in about:
            undefined[name] = tuple(_error_name(item) for item in about["undefined_errors"].items())
    if not tracked:
        fields["classes"].fail("no class is tracked; leave out 'tracked: false' of one at least")
    left_out = tuple(item.text() for item in fields["left_out"].items()) if "left_out" in fields else ()
    for item, category in zip(fields["left_out"].items() if left_out else (), left_out):
        if category in categories:
            item.fail(f"category {category!r} is one of class {categories[category]!r} too; decide for one")
    return DatasetDescription(
        name=fields["name"].text() if "name" in fields else path.resolve().parent.name,
        classes=tuple(classes),
        tracked=tuple(tracked),
        ranges_m=ranges_m,
        categories=categories,
        left_out=left_out,
        like=like,
        measures=_measures(fields["evaluation"]) if "evaluation" in fields else Measures(),
        undefined_errors=undefined,
        symmetric=tuple(symmetric),
    )


def _claim(item: Node, name: str, categories: dict[str, str]) -> None:
    category = item.text()
    if category in categories:
        item.fail(f"category {category!r} is one of class {categories[category]!r} already; name it once")
    categories[category] = name


def _positive(node: Node) -> float:
    value = node.number()
    if value <= 0:
        node.expected("a number above 0")
    return value


def _flag(fields: Mapping[str, Node], name: str, *, default: bool) -> bool:
    if name not in fields:
        return default
    value = fields[name].value
    if not isinstance(value, bool):
        fields[name].expected("true or false")
    return value


def _error_name(node: Node) -> str:
    name = node.text()
    if name not in ERROR_NAMES:
        node.expected(f"one of {', '.join(ERROR_NAMES)}{did_you_mean(name, ERROR_NAMES)}")
    return name


def _measures(node: Node) -> Measures:
    known = (
        "match_distances_m",
        "error_distance_m",
        "track_distance_m",
        "min_recall",
        "min_precision",
        "max_boxes",
        "frame_period_s",
    )
    fields = node.fields((), known)
    ours = Measures()
    distances = ours.match_distances_m
    if "match_distances_m" in fields:
        distances = tuple(_positive(item) for item in fields["match_distances_m"].items())

    def number(name: str, default: float) -> float:
        return fields[name].number() if name in fields else default

    # The usual distance where there is one, the middle otherwise.
    usual = ours.error_distance_m if ours.error_distance_m in distances else 0.0
    usual = usual or (distances[len(distances) // 2] if distances else 0.0)
    try:
        return Measures(
            match_distances_m=distances,
            error_distance_m=number("error_distance_m", usual),
            track_distance_m=number("track_distance_m", ours.track_distance_m),
            min_recall=number("min_recall", ours.min_recall),
            min_precision=number("min_precision", ours.min_precision),
            max_boxes=fields["max_boxes"].count() if "max_boxes" in fields else ours.max_boxes,
            frame_period_s=number("frame_period_s", ours.frame_period_s),
        )
    except SynclError as error:
        raise SynclError(f"{node.path}: {node.place}.{error}") from None
