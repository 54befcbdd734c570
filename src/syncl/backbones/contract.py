"""What every image backbone and neck promises, and the BatchNorm policies they share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from syncl.errors import SynclError

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


def fix_batch_statistics(module: nn.Module) -> None:
    """Put every BatchNorm inside `module` into evaluation mode; to be repeated after each `train()`."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()


def freeze_norm_parameters(module: nn.Module) -> None:
    """Exclude scale and bias of every BatchNorm inside `module` from training."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.requires_grad_(False)


def check_stages(field: str, stages: Sequence[int], allowed: range) -> None:
    """Check that `stages` is a non-empty ascending choice from `allowed`.

    Raises:
        SynclError: naming `field` and its value.
    """
    if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= set(allowed):
        choice = ", ".join(str(stage) for stage in allowed)
        raise SynclError(f"{field}: {tuple(stages)} is not an ascending choice from {choice}")
