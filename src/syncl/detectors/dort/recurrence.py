"""DORT's recurrence over objects: motion and place refined in turns (Lian et al., CoRL 2023; RECONSTRUCTED).

The published code does not have it. What is known is the paper's abstract: local volumes around objects,
motion and location refined in turns, better motion gathering past features more exactly. The rest are choices
of ours, listed in `docs/dort.md`.

A turn gathers what the box's surroundings looked like along its present velocity (`local_volume`), looks at
that with a few 3D convolutions, tells a recurrent state, and adds what the state says to box, velocity and
score. The next turn looks where the box is then.

Letters: B streams, Q boxes, G points of a grid, K frames, V channels of volumes, D channels of states.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.dort.local_volume import (
    FrameStack,
    correspondence,
    headings,
    local_grid,
    sample_along_motion,
    search,
)
from syncl.errors import SynclError
from syncl.layers.numerics import at_full_precision

# Centre, log sizes, sine and cosine, velocity.
_CODE = 10
# Velocity (2), log sizes (3), score, distance, direction seen from (2), height.
_NUMBERS = 10
_SPEED_M_S, _DISTANCE_M = 10.0, 50.0
_NEIGHBOURS = 9


@dataclass(frozen=True)
class RecurrenceConfig:
    """Sizes of the recurrence. Known from the published configuration: three residual layers, 256 channels,
    nine frames (the detector's `frames`), candidates above a score of 0.1. The rest is ours.

    Attributes:
        turns: how often boxes are refined, with the same weights.
        grid: points along, across and up.
        extent: sides of the grid in sides of the box.
        least_m: shortest sides of the grid.
        level: which of the neck's levels is looked at.
        channels: of what is looked at, and remembered of past frames.
        groups: of channels, whose inner products say how alike past and present are.
        volume: channels V of the 3D convolutions.
        blocks: residual blocks of them.
        dim: channels D of the recurrent state.
        follow_motion: points go back in time with the box's velocity; False leaves them where they are now,
            the ablation.
    """

    turns: int = 3
    grid: tuple[int, int, int] = (7, 7, 5)
    extent: float = 1.5
    least_m: tuple[float, float, float] = (4.0, 4.0, 3.0)
    level: int = 0
    channels: int = 64
    groups: int = 8
    volume: int = 64
    blocks: int = 3
    dim: int = 256
    follow_motion: bool = True

    def __post_init__(self) -> None:
        if min(self.turns, self.blocks, *self.grid) < 1 or self.channels % self.groups:
            raise SynclError(
                f"detector.recurrence: turns={self.turns}, blocks={self.blocks} and grid={self.grid} must be "
                f"positive, channels={self.channels} a multiple of groups={self.groups}"
            )


class Turn(NamedTuple):
    """What a turn comes to.

    Attributes:
        codes: [B, Q, 10] box codes.
        raises: [B, Q, K] what it adds to the logits of each class.
        states: [B, Q, D].
    """

    codes: Tensor
    raises: Tensor
    states: Tensor


class VolumeBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, [N, V, X, Y, Z]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.GroupNorm(1, channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.GroupNorm(1, channels),
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Apply the block."""
        return functional.relu(volume + self.convolutions(volume))


class Recurrence(nn.Module):
    """See the module's docstring.

    Attributes:
        fixed_shapes: see `Detector.fixed_shapes`.
    """

    fixed_shapes: bool = False

    def __init__(self, config: RecurrenceConfig, frames: int, classes: int) -> None:
        super().__init__()
        self.config, self.frames = config, frames
        a_past_frame = config.channels + config.groups + _NEIGHBOURS + 2
        self.evidence = nn.Linear(config.channels + 1 + (frames - 1) * a_past_frame, config.volume)
        self.blocks = nn.Sequential(*(VolumeBlock(config.volume) for _ in range(config.blocks)))
        self.told = nn.Linear(config.volume + _NUMBERS, config.dim)
        self.cell = nn.GRUCell(config.dim, config.dim)
        self.said = nn.Linear(config.dim, _CODE + classes)
        # The first turns change nothing until training says what.
        nn.init.zeros_(self.said.weight)
        nn.init.zeros_(self.said.bias)

    def forward(self, codes: Tensor, scores: Tensor, states: Tensor, frames: FrameStack) -> Turn:
        """One turn. Boxes that no camera sees now stay as they are.

        Args:
            codes: [B, Q, 10] boxes as they are before it, without gradient.
            scores: [B, Q] in [0, 1].
            states: [B, Q, D].
            frames: at most as many as the recurrence was built for.
        """
        config = self.config
        points = local_grid(codes, config.grid, config.extent, config.least_m)
        velocities = codes[..., 8:10] if config.follow_motion else torch.zeros_like(codes[..., 8:10])
        evidence, seen = self.gathered(points, velocities, frames)
        volume = functional.relu(self.evidence(evidence)).transpose(2, 3).flatten(0, 1)
        volume = self.blocks(volume.unflatten(-1, config.grid)).flatten(2).mean(-1)
        volume = volume.view(*codes.shape[:2], -1)
        told = functional.relu(self.told(torch.cat([volume, box_numbers(codes, scores)], dim=-1)))
        fresh = self.cell(told.flatten(0, 1), states.flatten(0, 1)).view_as(states)
        said = at_full_precision(self.said, fresh) * seen[..., None]
        changes, raises = said.split((_CODE, said.shape[-1] - _CODE), dim=-1)
        return Turn(changed(codes, changes), raises, torch.where(seen[..., None], fresh, states))

    def gathered(self, points: Tensor, velocities: Tensor, frames: FrameStack) -> tuple[Tensor, Tensor]:
        """What every point sees in all frames, side by side, and [B, Q] which boxes are seen now.

        Of each past frame: what is there, how alike it is there and around, whether it is seen, how long ago
        it was; zeros of frames that there are not.
        """
        sampled = sample_along_motion(points, velocities, frames, self.fixed_shapes)
        alike = correspondence(sampled, self.config.groups)
        seen = sampled.seen.to(points.dtype)[..., None]
        age = frames.age_s[:, 1:, None, None, None].to(points.dtype) * seen[:, 1:]
        around = search(sampled, self.config.grid)
        past = torch.cat([sampled.features[:, 1:], alike, around, seen[:, 1:], age], dim=-1)
        past = functional.pad(past.permute(0, 2, 3, 4, 1), (0, self.frames - 1 - past.shape[1])).flatten(3)
        return torch.cat([sampled.features[:, 0], seen[:, 0], past], dim=-1), sampled.seen[:, 0].any(-1)


def box_numbers(codes: Tensor, scores: Tensor) -> Tensor:
    """What a turn is told of boxes [B, Q, 10]: velocity and direction of sight in the box's axes, log sizes,
    score, distance and height.
    """
    sin, cos = headings(codes)
    distance = codes[..., :2].norm(dim=-1, keepdim=True)
    sight = into_axes(codes[..., :2] / distance.clamp(min=1e-3), sin, cos)
    velocity = into_axes(codes[..., 8:10], sin, cos) / _SPEED_M_S
    return torch.cat(
        [velocity, codes[..., 3:6], scores[..., None], distance / _DISTANCE_M, sight, codes[..., 2:3]], dim=-1
    )


def changed(codes: Tensor, changes: Tensor) -> Tensor:
    """Box codes [B, Q, 10] after changes [B, Q, 10], whose centre and velocity are along the box's axes."""
    sin, cos = headings(codes)
    centre = into_axes(changes[..., :2], -sin, cos)
    velocity = into_axes(changes[..., 8:10], -sin, cos)
    return codes + torch.cat([centre, changes[..., 2:8], velocity], dim=-1)


def into_axes(vectors: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Vectors [..., 2] of the vehicle frame in axes turned by an angle; its negative turns them back."""
    x, y = vectors.split(1, dim=-1)
    return torch.cat([x * cos + y * sin, y * cos - x * sin], dim=-1)
