"""Feature pyramids: FPN (Lin et al. 2017) as mmdetection builds it, and PETR's reduced CP-FPN.

Parameter names are those of mmdetection: `lateral_convs.0.conv`, `fpn_convs.0.conv` (and `.bn` with norm).
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from syncl.backbones.contract import Neck
from syncl.errors import SynclError

ExtraConvs = Literal["none", "on_input", "on_lateral", "on_output"]


@dataclass(frozen=True)
class FpnConfig:
    """Which feature pyramid to build.

    Attributes:
        out_channels: channels of every output.
        num_outs: number of outputs; None means one for each input used. A level beyond the inputs has twice
            the stride of the level before.
        start_level: first backbone output used; finer ones are ignored.
        extra_convs: what levels beyond the inputs are made from, by 3x3 stride-2 convolutions: the last
            backbone output, the last lateral or the last pyramid output. `none` subsamples the last output.
        relu_before_extra_convs: put a ReLU before the second and later extra convolutions.
        norm: `batch` puts BatchNorm after every convolution (MUTR3D), which then has no bias.
    """

    out_channels: int = 256
    num_outs: int | None = None
    start_level: int = 0
    extra_convs: ExtraConvs = "none"
    relu_before_extra_convs: bool = False
    norm: Literal["none", "batch"] = "none"

    def build(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> "Fpn":
        """Return the pyramid over backbone outputs of these `channels` and `strides`.

        Raises:
            SynclError: if the levels asked for do not fit the inputs, naming the field.
        """
        return Fpn(self, channels, strides)


@dataclass(frozen=True)
class CpFpnConfig:
    """A pyramid whose output convolution exists only on the finest level (PETR).

    Attributes:
        out_channels: channels of every output.
        start_level: first backbone output used; finer ones are ignored.
    """

    out_channels: int = 256
    start_level: int = 0

    def build(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> "CpFpn":
        """Return the pyramid over backbone outputs of these `channels` and `strides`.

        Raises:
            SynclError: if `start_level` leaves no input.
        """
        return CpFpn(self, channels, strides)


class Fpn(Neck):
    """Feature pyramid; see `FpnConfig`."""

    def __init__(self, config: FpnConfig, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        used = channels[_checked_start("FpnConfig", config.start_level, len(channels)) :]
        num_outs = len(used) if config.num_outs is None else config.num_outs
        if num_outs < len(used):
            raise SynclError(
                f"FpnConfig.num_outs: {num_outs} outputs, but {len(used)} inputs are used; "
                "ask for at least as many, or select fewer backbone stages"
            )
        self.config = config
        width, norm = config.out_channels, config.norm == "batch"
        self.lateral_convs = nn.ModuleList(ConvNorm(inputs, width, 1, 1, norm) for inputs in used)
        self.fpn_convs = nn.ModuleList(ConvNorm(width, width, 3, 1, norm) for _ in used)
        self.extra_levels = num_outs - len(used)
        if config.extra_convs != "none":
            for level in range(self.extra_levels):
                inputs = used[-1] if level == 0 and config.extra_convs == "on_input" else width
                self.fpn_convs.append(ConvNorm(inputs, width, 3, 2, norm))
        self.channels = (width,) * num_outs
        used_strides = strides[config.start_level :]
        self.strides = (*used_strides, *(used_strides[-1] * 2**n for n in range(1, self.extra_levels + 1)))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map backbone outputs to `num_outs` maps of [N, out_channels, H / stride, W / stride]."""
        laterals = _top_down(self.lateral_convs, features[self.config.start_level :])
        outputs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=False)]
        if self.config.extra_convs == "none":
            for _ in range(self.extra_levels):
                outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
            return tuple(outputs)
        sources = {"on_input": features[-1], "on_lateral": laterals[-1], "on_output": outputs[-1]}
        source = sources[self.config.extra_convs]
        for conv in list(self.fpn_convs)[len(laterals) :]:
            outputs.append(conv(source))
            source = F.relu(outputs[-1]) if self.config.relu_before_extra_convs else outputs[-1]
        return tuple(outputs)


class CpFpn(Neck):
    """Feature pyramid with one output convolution; coarser levels are the raw top-down sums."""

    def __init__(self, config: CpFpnConfig, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        used = channels[_checked_start("CpFpnConfig", config.start_level, len(channels)) :]
        self.config = config
        width = config.out_channels
        self.lateral_convs = nn.ModuleList(ConvNorm(inputs, width, 1, 1, False) for inputs in used)
        self.fpn_convs = nn.ModuleList([ConvNorm(width, width, 3, 1, False)])
        self.channels = (width,) * len(used)
        self.strides = strides[config.start_level :]

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map backbone outputs to maps of [N, out_channels, H / stride, W / stride]."""
        laterals = _top_down(self.lateral_convs, features[self.config.start_level :])
        return (self.fpn_convs[0](laterals[0]), *laterals[1:])


class ConvNorm(nn.Module):
    """A convolution that keeps the size (for stride 1), with BatchNorm instead of a bias if asked."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: bool
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=not norm)
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        output: Tensor = self.conv(features)
        if self.bn is not None:
            output = self.bn(output)
        return output


def _top_down(lateral_convs: nn.ModuleList, features: tuple[Tensor, ...]) -> list[Tensor]:
    """Lateral maps, each with the coarser ones added, enlarged by nearest neighbour to its exact size."""
    laterals: list[Tensor] = [conv(level) for conv, level in zip(lateral_convs, features, strict=True)]
    for level in range(len(laterals) - 1, 0, -1):
        finer = laterals[level - 1]
        laterals[level - 1] = finer + F.interpolate(laterals[level], size=finer.shape[-2:], mode="nearest")
    return laterals


def _checked_start(name: str, start_level: int, inputs: int) -> int:
    if not 0 <= start_level < inputs:
        raise SynclError(
            f"{name}.start_level: {start_level} leaves no input of {inputs}; choose 0 to {inputs - 1}"
        )
    return start_level
