"""What a model takes of one that tells other classes apart: the rows of the classes that are alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class ClassRows:
    """Which parameters have a row for each class, and whose rows a class may begin with.

    Attributes:
        classes: of the model to fill, in its order.
        axes: of its parameters that have a place for each class along an axis: which.
        like: class -> the class of the other model whose rows it begins with, where none there has its name.
    """

    classes: tuple[str, ...]
    axes: Mapping[str, int]
    like: Mapping[str, str] = field(default_factory=dict)

    def sources(self, given: tuple[str, ...]) -> dict[int, int]:
        """Number of a class -> number of the one of `given` that it begins with, where there is one."""
        names = (name if name in given else self.like.get(name) for name in self.classes)
        return {number: given.index(name) for number, name in enumerate(names) if name in given}

    def fitted(
        self, weights: Mapping[str, Tensor], own: Mapping[str, Tensor], given: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Weights in which rows of classes stand where the model to fill has them.

        Rows without a source keep the model's own values; parameters without any are left out.

        Args:
            weights: of another model, by the names of this version.
            own: of the model to fill.
            given: the other model's classes.
        """
        sources = self.sources(given)
        fitted = dict(weights)
        for name, axis in self.axes.items():
            found = fitted.pop(name, None)
            if found is None or found.dim() != own[name].dim() or found.shape[axis] != len(given):
                continue
            rows = own[name].clone().movedim(axis, 0)
            if not sources or rows.shape[1:] != found.movedim(axis, 0).shape[1:]:
                continue
            rows[list(sources)] = found.movedim(axis, 0)[list(sources.values())].to(rows.dtype)
            fitted[name] = rows.movedim(0, axis)
        return fitted
