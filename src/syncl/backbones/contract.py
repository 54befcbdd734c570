"""What every image backbone and neck promises, and the BatchNorm policies they share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from torch import Tensor, nn

from syncl.errors import SynclError
from syncl.layers.recomputing import run_checkpointed

NormPolicy = Literal["live", "fixed", "frozen"]
"""How BatchNorm behaves in training.

- `live`: batch statistics, running statistics updated, scale and bias trained.
- `fixed`: running statistics are used and never updated, scale and bias trained (VoVNet in PF-Track).
- `frozen`: as `fixed`, and scale and bias are not trained (ResNet in DETR3D, MUTR3D and StreamPETR).
"""


class Backbone(nn.Module, ABC):
    """Turns images into feature maps, one for each selected stage, finest first.

    Attributes:
        channels: channels of each output.
        strides: image pixels per feature cell of each output.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> tuple[Tensor, ...]: ...  # noqa: D102

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images [N, 3, H, W] to maps [N, channels[i], H / strides[i], W / strides[i]]."""


class Neck(nn.Module, ABC):
    """Mixes the feature maps of a backbone into maps of equal width, finest first.

    Attributes:
        channels: channels of each output.
        strides: image pixels per feature cell of each output.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    if TYPE_CHECKING:

        def __call__(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]: ...  # noqa: D102

    @abstractmethod
    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map the backbone's outputs to [N, channels[i], H / strides[i], W / strides[i]]."""


class StagedBackbone(Backbone):
    """A backbone of named stages, parts of which training may leave as they are.

    Attributes:
        stage_names: modules that hold the blocks of a stage, in order.
    """

    stage_names: list[str]

    def freeze(self, norm: NormPolicy, frozen_stages: int, *stem: nn.Module) -> None:
        """Leave BatchNorm by its policy, and stem and first stages (-1 = not even the stem), as they are."""
        stages = [self.get_submodule(name) for name in self.stage_names[: max(frozen_stages, 0)]]
        frozen = () if frozen_stages < 0 else (*stem, *stages)
        self._still: tuple[nn.Module, ...] = frozen if norm == "live" else tuple(self.children())
        norms = [child for child in self.modules() if isinstance(child, nn.BatchNorm2d)]
        for module in (*frozen, *(norms if norm == "frozen" else ())):
            module.requires_grad_(False)
        self.train()

    def stage(self, name: str, features: Tensor, recomputed: bool) -> Tensor:
        """What a stage makes of features; if `recomputed`, its blocks run again in the backward pass."""
        for block in self.get_submodule(name).children():
            features = run_checkpointed(block, features) if recomputed and self.training else block(features)
        return features

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for statistics that stay as they are."""
        super().train(mode)
        for module in self._still:
            for child in module.modules():
                if isinstance(child, nn.BatchNorm2d):
                    child.eval()
        return self


def check_stages(field: str, stages: Sequence[int], allowed: range) -> None:
    """Check that `stages` is a non-empty ascending choice from `allowed`.

    Raises:
        SynclError: naming `field` and its value.
    """
    if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= set(allowed):
        choice = ", ".join(str(stage) for stage in allowed)
        raise SynclError(f"{field}: {tuple(stages)} is not an ascending choice from {choice}")
