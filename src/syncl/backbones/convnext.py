"""ConvNeXt (Liu et al., CVPR 2022): depthwise 7x7 convolutions and narrow-wide-narrow layers, LayerNorm.

Parameter names are those of timm, but for the norms of the outputs: `stem.0`, `stages.2.downsample.1`,
`stages.2.blocks.0.mlp.fc1`; `syncl.checkpoints.convnext` brings other publishers' names there. Stages are
counted 1 to 4 in configurations, as a ResNet's are, at strides 4, 8, 16 and 32.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.backbones.contract import StagedBackbone, check_stages
from syncl.errors import SynclError

ConvNeXtVariant = Literal["tiny", "small", "base", "large"]
_LAYOUTS: dict[ConvNeXtVariant, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
_EPS = 1e-6
_WIDER = 4


@dataclass(frozen=True)
class ConvNeXtConfig:
    """Which ConvNeXt to build.

    Attributes:
        variant: a published layout; None means that `blocks` and `widths` say it.
        blocks: residual blocks of each stage, where `variant` is None.
        widths: channels of each stage, where `variant` is None.
        out_stages: stages (1 to 4) whose outputs are returned, each behind a norm of its own.
        frozen_stages: -1 trains all; 0 freezes the stem; n freezes the stem and stages 1 to n.
        drop_path: how often the last block is left out in training, image by image; earlier ones less, the
            first never.
        layer_scale: where the factor of each block's channels starts.
        checkpointing: recompute each block in the backward pass: less memory, about a third more time.
    """

    variant: ConvNeXtVariant | None = "base"
    blocks: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    out_stages: tuple[int, ...] = (3, 4)
    frozen_stages: int = -1
    drop_path: float = 0.0
    layer_scale: float = 1e-6
    checkpointing: bool = False

    def build(self) -> "ConvNeXt":
        """Return the network with fresh weights.

        Raises:
            SynclError: if an option is out of range, naming the field.
        """
        return ConvNeXt(self)


class ConvNeXt(StagedBackbone):
    """ConvNeXt over images [N, 3, H, W]; see `ConvNeXtConfig`."""

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        blocks, widths = _layout(config)
        check_stages("ConvNeXtConfig.out_stages", config.out_stages, range(1, len(blocks) + 1))
        if not -1 <= config.frozen_stages <= len(blocks):
            raise SynclError(
                f"ConvNeXtConfig.frozen_stages: {config.frozen_stages} is not within -1 to {len(blocks)}"
            )
        if not 0 <= config.drop_path < 1:
            raise SynclError(f"ConvNeXtConfig.drop_path: {config.drop_path} is not within 0 and 1")
        self.config = config
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        # Plain numbers: the net is also built on the meta device.
        last = max(sum(blocks) - 1, 1)
        drops = iter([config.drop_path * number / last for number in range(sum(blocks))])
        self.stages = nn.ModuleList()
        for before, width, count in zip((None, *widths), widths, blocks):
            own = [Block(width, next(drops), config.layer_scale) for _ in range(count)]
            self.stages.append(Stage(before, width, own))
        self.stage_names = [f"stages.{index}" for index in range(len(blocks))]
        self.output_norms = nn.ModuleDict(
            {str(stage): ChannelNorm(widths[stage - 1]) for stage in config.out_stages}
        )
        self.channels = tuple(widths[stage - 1] for stage in config.out_stages)
        self.strides = tuple(2 ** (stage + 1) for stage in config.out_stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.freeze("live", config.frozen_stages, self.stem)

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images [N, 3, H, W] to one map for each of `out_stages`, finest first."""
        features: Tensor = self.stem(images)
        outputs = []
        for number, name in enumerate(self.stage_names[: self.config.out_stages[-1]], start=1):
            features = self.get_submodule(f"{name}.downsample")(features)
            features = self.stage(f"{name}.blocks", features, self.config.checkpointing)
            if number in self.config.out_stages:
                outputs.append(self.output_norms[str(number)](features))
        return tuple(outputs)


class Stage(nn.Module):
    """Blocks of one width, behind a halving of the size where there is a stage before."""

    def __init__(self, before: int | None, width: int, blocks: "list[Block]") -> None:
        super().__init__()
        self.downsample = nn.Sequential()
        if before is not None:
            self.downsample.extend([ChannelNorm(before), nn.Conv2d(before, width, 2, stride=2)])
        self.blocks = nn.Sequential(*blocks)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of maps [N, D, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPS)

    @override
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A depthwise convolution, then two linear layers at every place; [N, D, H, W] to the same."""

    def __init__(self, channels: int, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(channels, _WIDER * channels))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(_WIDER * channels, channels))
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block."""
        changes: Tensor = self.mlp(self.norm(self.conv_dw(features).permute(0, 2, 3, 1))) * self.gamma
        changes = changes.permute(0, 3, 1, 2)
        if self.training and self.drop_path:
            # The originals draw for a whole image, and make up for those left out.
            kept = torch.rand(len(features), 1, 1, 1, device=features.device) >= self.drop_path
            changes = changes * kept / (1 - self.drop_path)
        return features + changes


def _layout(config: ConvNeXtConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks and widths of the stages."""
    if config.variant is None:
        if len(config.blocks) != len(config.widths) or min(*config.blocks, *config.widths) < 1:
            raise SynclError(
                f"ConvNeXtConfig: blocks={config.blocks} and widths={config.widths} must be positive, and as "
                "many of each"
            )
        return config.blocks, config.widths
    if config.variant not in _LAYOUTS:
        known = ", ".join(_LAYOUTS)
        raise SynclError(f"ConvNeXtConfig.variant: {config.variant!r} is unknown; choose from {known}")
    return _LAYOUTS[config.variant]
