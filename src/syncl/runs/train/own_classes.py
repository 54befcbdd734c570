"""Fitting a recipe to the classes and cameras of a dataset of one's own."""

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from syncl.checkpoints.class_rows import ClassRows
from syncl.checkpoints.limits import model_shapes
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.detectors.bevdepth.centre_head import CentreHeadConfig, CentreTask
from syncl.errors import SynclError, did_you_mean
from syncl.recipes.recipe import Recipe
from syncl.trackers.model import ModelConfig

_Config = TypeVar("_Config")


def with_own_classes(recipe: Recipe, dataset: DatasetDescription) -> Recipe:
    """A recipe whose model knows a dataset's classes.

    It stays as it is where the data have all its classes. A recipe of nuScenes' classes learns the dataset's
    in their place: the tracked ones first, all of them if the recipe has more than nuScenes' tracked ones.

    Raises:
        SynclError: some of the recipe's classes are the dataset's and some are neither's.
    """
    wanted = recipe.model.detector.classes
    if set(wanted) <= set(dataset.classes):
        return recipe
    strangers = [name for name in wanted if name not in NUSCENES.classes and name not in dataset.classes]
    if strangers:
        raise SynclError(
            f"{recipe.name}: model.detector.classes has {strangers[0]!r}, which is no class of "
            f"{dataset.name} ({', '.join(dataset.classes)}){did_you_mean(strangers[0], dataset.classes)}"
        )
    others = tuple(name for name in dataset.classes if name not in dataset.tracked)
    # A recipe of the tracked classes alone learns those.
    detected = () if set(wanted) <= set(NUSCENES.tracked) else others
    return replace(recipe, model=_with_classes(recipe.model, dataset.tracked, detected, others))


def class_rows(recipe: Recipe, dataset: DatasetDescription) -> ClassRows:
    """What of a recipe's model goes by its classes: what another number of them would make longer."""
    model = recipe.model
    classes = model.detector.classes
    one_more = _with_classes(model, classes, ("one more",), ("one more",))
    shapes, longer = (model_shapes(config, recipe.name) for config in (model, one_more))
    axes = {
        name: axis
        for name, shape in shapes.items()
        for axis, length in enumerate(shape)
        if (length, longer.get(name, shape)[axis]) == (len(classes), len(classes) + 1)
    }
    return ClassRows(classes, axes, dataset.like)


def _with_classes(
    model: ModelConfig, tracked: tuple[str, ...], detected: tuple[str, ...], others: tuple[str, ...]
) -> ModelConfig:
    """A model that tracks some classes and detects others as well; `others` are all that it may not track."""
    classes = tracked + detected
    detector = _with(model.detector, classes=classes)
    head = getattr(detector, "head", None)
    if isinstance(head, CentreHeadConfig):
        tasks = tuple(CentreTask((name,)) for name in classes)
        detector = _with(detector, head=replace(head, tasks=tasks))
    gates_m = getattr(model.tracker, "gates_m", ())
    tracker = _with(model.tracker, classes=tracked, untracked=others, gates_m=gates_m[:1] * len(tracked))
    return replace(model, detector=detector, tracker=tracker)


def with_own_cameras(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    """A recipe whose model looks through the cameras of a dataset: all, unless it names some of them.

    Args:
        recipe: whose cameras may be others' altogether, such as nuScenes'.
        names: of the dataset's cameras.
    """
    seen, detector = recipe.model.input, recipe.model.detector
    if seen.cameras is not None and not set(seen.cameras) & set(names):
        seen = replace(seen, cameras=None)
    # None: any number of them, with the same weights.
    if getattr(detector, "cameras", None) is not None:
        detector = _with(detector, cameras=len(seen.cameras or names))
    return replace(recipe, model=replace(recipe.model, input=seen, detector=detector))


def _with(config: _Config, **values: object) -> _Config:
    """A configuration with those of the values that it has a field for."""
    if not is_dataclass(config) or isinstance(config, type):
        return config
    names = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in values.items() if name in names})
