"""ResNet (He et al. 2015) with the options that published 3D detectors use.

Parameter names are those of mmdetection and torchvision: `conv1`, `layer1.0.conv1`, `layer1.0.downsample.0`.
Stages are counted as in those names: 1 to 4, at strides 4, 8, 16 and 32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from syncl.backbones.contract import NormPolicy, StagedBackbone, check_stages
from syncl.errors import SynclError
from syncl.layers.deformable_convolution import DeformableConvolution

Block = Literal["basic", "bottleneck"]
Style = Literal["pytorch", "caffe"]
_LAYOUTS: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}


@dataclass(frozen=True)
class ResNetConfig:
    """Which ResNet to build.

    Attributes:
        depth: a named layout; None means that `block` and `blocks` say it.
        block: kind of residual block, where `depth` is None.
        blocks: residual blocks of each stage, where `depth` is None.
        stem_width: channels of the first convolution.
        widths: inner channels of each stage; a bottleneck stage puts out four times as many.
        style: where a bottleneck has its stride: `pytorch` on the 3x3, `caffe` on the first 1x1 convolution.
        out_stages: stages (1 to 4) whose outputs are returned.
        frozen_stages: -1 trains all; 0 freezes the stem; n freezes the stem and stages 1 to n.
        norm: what BatchNorm does in training.
        dcn_stages: stages (1 to 4) whose 3x3 convolutions are deformable (bottleneck only).
        checkpointing: recompute each block in the backward pass: less memory, about a third more time.
    """

    depth: Literal[18, 34, 50, 101] | None = 50
    block: Block = "basic"
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem_width: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    style: Style = "pytorch"
    out_stages: tuple[int, ...] = (2, 3, 4)
    frozen_stages: int = -1
    norm: NormPolicy = "live"
    dcn_stages: tuple[int, ...] = ()
    checkpointing: bool = False

    def build(self) -> "ResNet":
        """Return the network with fresh weights.

        Raises:
            SynclError: if the options contradict one another, naming the field.
        """
        return ResNet(self)


class ResNet(StagedBackbone):
    """Residual network over images [N, 3, H, W]; see `ResNetConfig`."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        block, blocks = _layout(config)
        _check(config, block, blocks)
        self.config = config
        expansion = 4 if block == "bottleneck" else 1
        self.conv1 = nn.Conv2d(3, config.stem_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = config.stem_width
        self.stage_names: list[str] = []
        for stage, (width, count) in enumerate(zip(config.widths, blocks, strict=True), start=1):
            layers: list[nn.Module] = []
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                if block == "basic":
                    layers.append(BasicBlock(channels, width, stride))
                else:
                    deformable = stage in config.dcn_stages
                    layers.append(Bottleneck(channels, width, stride, config.style, deformable))
                channels = expansion * width
            self.stage_names.append(f"layer{stage}")
            self.add_module(self.stage_names[-1], nn.Sequential(*layers))
        self.channels = tuple(expansion * config.widths[stage - 1] for stage in config.out_stages)
        self.strides = tuple(2 ** (stage + 1) for stage in config.out_stages)
        self._initialise()
        self.freeze(config.norm, config.frozen_stages, self.conv1, self.bn1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images [N, 3, H, W] to one map for each of `out_stages`, finest first."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        outputs = []
        for stage, name in enumerate(self.stage_names[: self.config.out_stages[-1]], start=1):
            features = self.stage(name, features, self.config.checkpointing)
            if stage in self.config.out_stages:
                outputs.append(features)
        return tuple(outputs)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.config.norm == "frozen":
            return  # A zero scale that is never trained would cut the branch off for good.
        for module in self.modules():
            # Each block starts as the identity (Goyal et al. 2017, section 5.1).
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [N, in_channels, H, W] to [N, width, H / stride, W / stride]."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = _shortcut(in_channels, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block."""
        branch = self.relu(self.bn1(self.conv1(features)))
        branch = self.bn2(self.conv2(branch))
        shortcut = features if self.downsample is None else self.downsample(features)
        output: Tensor = self.relu(branch + shortcut)
        return output


class Bottleneck(nn.Module):
    """1x1, 3x3 (ordinary or deformable) and 1x1 convolutions and a shortcut; puts out 4 width channels."""

    def __init__(self, in_channels: int, width: int, stride: int, style: Style, deformable: bool) -> None:
        super().__init__()
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2: nn.Module
        if deformable:
            self.conv2 = DeformableConvolution(width, width, stride=second)
        else:
            self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, 4 * width, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block."""
        branch = self.relu(self.bn1(self.conv1(features)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        shortcut = features if self.downsample is None else self.downsample(features)
        output: Tensor = self.relu(branch + shortcut)
        return output


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _layout(config: ResNetConfig) -> tuple[Block, tuple[int, ...]]:
    if config.depth is None:
        return config.block, config.blocks
    if config.depth not in _LAYOUTS:
        known = ", ".join(str(depth) for depth in _LAYOUTS)
        raise SynclError(
            f"ResNetConfig.depth: {config.depth} is not one of {known}, or None with blocks given"
        )
    return _LAYOUTS[config.depth]


def _check(config: ResNetConfig, block: Block, blocks: Sequence[int]) -> None:
    stages = len(blocks)
    if len(config.widths) != stages:
        raise SynclError(
            f"ResNetConfig.widths: {len(config.widths)} widths for {stages} stages; give one each"
        )
    if not blocks or min(blocks) < 1 or min(config.widths) < 1 or config.stem_width < 1:
        raise SynclError("ResNetConfig: blocks, widths and stem_width must be positive")
    check_stages("ResNetConfig.out_stages", config.out_stages, range(1, stages + 1))
    if not -1 <= config.frozen_stages <= stages:
        raise SynclError(f"ResNetConfig.frozen_stages: {config.frozen_stages} is not within -1 to {stages}")
    if config.dcn_stages:
        check_stages("ResNetConfig.dcn_stages", config.dcn_stages, range(1, stages + 1))
        if block == "basic":
            raise SynclError(
                "ResNetConfig.dcn_stages: only bottleneck networks (depth 50, 101) can be deformable"
            )
