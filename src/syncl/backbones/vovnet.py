"""VoVNetV2 (Lee and Park, CenterMask 2020): one-shot aggregation blocks with effective squeeze-excitation.

Published checkpoints name the same parameters with slashes; `syncl.checkpoints.names` holds the mapping.
Stages are counted as in the paper: 2 to 5, at strides 4, 8, 16 and 32 (the stem is stage 1).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syncl.backbones.contract import NormPolicy, StagedBackbone, check_stages
from syncl.errors import SynclError

VoVNetVariant = Literal["V-19-slim", "V-19", "V-39", "V-57", "V-99"]
_FIRST_STAGE = 2


@dataclass(frozen=True)
class _Layout:
    stem: tuple[int, int, int]
    inner: tuple[int, ...]
    outer: tuple[int, ...]
    layers: int
    blocks: tuple[int, ...]


_STEM, _INNER, _OUTER = (64, 64, 128), (128, 160, 192, 224), (256, 512, 768, 1024)
_LAYOUTS: dict[VoVNetVariant, _Layout] = {
    "V-19-slim": _Layout(_STEM, (64, 80, 96, 112), (112, 256, 384, 512), 3, (1, 1, 1, 1)),
    "V-19": _Layout(_STEM, _INNER, _OUTER, 3, (1, 1, 1, 1)),
    "V-39": _Layout(_STEM, _INNER, _OUTER, 5, (1, 1, 2, 2)),
    "V-57": _Layout(_STEM, _INNER, _OUTER, 5, (1, 1, 4, 3)),
    "V-99": _Layout(_STEM, _INNER, _OUTER, 5, (1, 3, 9, 3)),
}


@dataclass(frozen=True)
class VoVNetConfig:
    """Which VoVNet to build; all variants have the eSE attention of the second version.

    Attributes:
        variant: a published layout.
        out_stages: stages (2 to 5) whose outputs are returned.
        frozen_stages: -1 trains all; 0 freezes the stem; n freezes the stem and the first n stages after it.
        norm: what BatchNorm does in training.
        checkpointing: recompute each block in the backward pass: less memory, about a third more time.
    """

    variant: VoVNetVariant = "V-99"
    out_stages: tuple[int, ...] = (4, 5)
    frozen_stages: int = -1
    norm: NormPolicy = "fixed"
    checkpointing: bool = False

    def build(self) -> "VoVNet":
        """Return the network with fresh weights.

        Raises:
            SynclError: if an option is out of range, naming the field.
        """
        return VoVNet(self)


class VoVNet(StagedBackbone):
    """One-shot aggregation network over images [N, 3, H, W]; see `VoVNetConfig`."""

    def __init__(self, config: VoVNetConfig) -> None:
        super().__init__()
        if config.variant not in _LAYOUTS:
            known = ", ".join(_LAYOUTS)
            raise SynclError(f"VoVNetConfig.variant: {config.variant!r} is unknown; choose from {known}")
        layout = _LAYOUTS[config.variant]
        last_stage = _FIRST_STAGE + len(layout.blocks) - 1
        check_stages("VoVNetConfig.out_stages", config.out_stages, range(_FIRST_STAGE, last_stage + 1))
        if not -1 <= config.frozen_stages <= len(layout.blocks):
            raise SynclError(
                f"VoVNetConfig.frozen_stages: {config.frozen_stages} is not within -1 to {len(layout.blocks)}"
            )
        self.config = config
        first, second, third = layout.stem
        self.stem = nn.Sequential(
            ConvNormRelu(3, first, 3, stride=2),
            ConvNormRelu(first, second, 3),
            ConvNormRelu(second, third, 3, 2),
        )
        self.stage_names: list[str] = []
        channels = third
        for number, (inner, outer, count) in enumerate(
            zip(layout.inner, layout.outer, layout.blocks, strict=True), start=_FIRST_STAGE
        ):
            blocks = [
                AggregationBlock(channels if index == 0 else outer, inner, outer, layout.layers, index > 0)
                for index in range(count)
            ]
            self.stage_names.append(f"stage{number}")
            self.add_module(self.stage_names[-1], nn.Sequential(*blocks))
            channels = outer
        self.channels = tuple(layout.outer[stage - _FIRST_STAGE] for stage in config.out_stages)
        self.strides = tuple(2**stage for stage in config.out_stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight)
        self.freeze(config.norm, config.frozen_stages, self.stem)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images [N, 3, H, W] to one map for each of `out_stages`, finest first."""
        features: Tensor = self.stem(images)
        outputs = []
        for stage, name in enumerate(self.stage_names, start=_FIRST_STAGE):
            if stage > self.config.out_stages[-1]:
                break
            if stage > _FIRST_STAGE:
                features = F.max_pool2d(features, 3, stride=2, ceil_mode=True)
            features = self.stage(name, features, self.config.checkpointing)
            if stage in self.config.out_stages:
                outputs.append(features)
        return tuple(outputs)


class AggregationBlock(nn.Module):
    """A chain of 3x3 convolutions whose outputs are concatenated once, mixed and reweighted by channel."""

    def __init__(self, in_channels: int, inner: int, outer: int, layers: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        sources = [in_channels, *[inner] * (layers - 1)]
        self.layers = nn.ModuleList(ConvNormRelu(source, inner, 3) for source in sources)
        self.concat = ConvNormRelu(in_channels + layers * inner, outer, 1)
        self.ese = ChannelAttention(outer)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, outer, H, W]."""
        collected = [features]
        for layer in self.layers:
            collected.append(layer(collected[-1]))
        output: Tensor = self.ese(self.concat(torch.cat(collected, dim=1)))
        return output + features if self.residual else output


class ChannelAttention(nn.Module):
    """Effective squeeze-excitation: channels are scaled by a hard sigmoid of a mix of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Rescale [N, channels, H, W]."""
        return features * F.hardsigmoid(self.fc(_means(features)))


def _means(features: Tensor) -> Tensor:
    """Each channel's mean, [N, channels, 1, 1]."""
    # CPUs pool what lies channels last up to ten times as fast as they reduce it in bfloat16.
    if features.dtype == torch.bfloat16:
        return F.avg_pool2d(features, features.shape[-2:])
    return features.mean((2, 3), keepdim=True)


class ConvNormRelu(nn.Module):
    """A bias-free convolution that keeps the size (for stride 1), BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        return F.relu(self.norm(self.conv(features)), inplace=True)
