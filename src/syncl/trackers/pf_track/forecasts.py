"""What a tracker foresees, and what its reasoning makes of a frame.

Letters: B streams, Q queries, N track slots, D channels, S history slots, F future frames, K classes.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from syncl.geometry.transforms import transform_points
from syncl.structures.tensors import TensorStructure

# Part of a frame by which a frame may be early or late.
_PUNCTUAL = 0.2


@dataclass(frozen=True)
class History(TensorStructure):
    """Past embeddings of queries or tracks, the newest last.

    Attributes:
        embeddings: [B, N, S, D].
        valid: [B, N, S] bool.
    """

    embeddings: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Reasoned(TensorStructure):
    """A frame's predictions after past and future reasoning, one row a query (object queries first).

    Training looks at it as well: it is all that losses of the reasoning need.

    Attributes:
        embeddings: [B, Q, D] refined content, the track queries' in the next frame.
        positions: [B, Q, D] positional part at the decoder's last reference points.
        logits: [B, Q, K] refined class logits.
        codes: [B, Q, 10] refined box codes, vehicle frame, metres.
        history: with this frame in its newest slot.
        displacements: [B, Q, F, 3] metres from each frame to the next, from now on, along the axes of the
            present vehicle frame; the height's is not supervised. None until they are foreseen.
    """

    embeddings: Tensor
    positions: Tensor
    logits: Tensor
    codes: Tensor
    history: History
    displacements: Tensor | None = None


@dataclass(frozen=True)
class Forecasts(TensorStructure):
    """What is expected of tracks, from the last frame that showed them clearly.

    Attributes:
        labels: [B, N] int64 class.
        centres: [B, N, F, 3] where the object is expected 1 to F frames on, metres, vehicle frame of the last
            frame.
        displacements: [B, N, F, 3] metres from frame to frame, along the axes of the vehicle frame in which
            they were predicted.
    """

    labels: Tensor
    centres: Tensor
    displacements: Tensor

    def stretched(self, frames: Tensor, references: Tensor) -> Self:
        """The same where the next frame is not a frame's time away but `frames` [B] of them, 1 = as it is.

        The first step then leads to that frame, all others are a frame each from there; between the moments
        foreseen objects move evenly, and beyond the horizon they stand still. They are at `references`
        [B, N, 3] now.
        """
        horizon = self.centres.shape[2]
        if horizon == 0:
            return self
        ahead = frames.to(self.centres.dtype)[:, None] + torch.arange(horizon, device=frames.device)
        nowhere = torch.zeros_like(self.displacements[:, :, :1])
        way = torch.cat([nowhere, self.displacements.cumsum(2)], dim=2)
        steps = torch.cat([self.displacements, nowhere], dim=2)
        return type(self)(
            labels=self.labels,
            centres=_at(torch.cat([references[:, :, None], self.centres], dim=2), ahead),
            displacements=torch.cat([_at(way, ahead[:, :1]), _at(steps, ahead[:, 1:] - 1)], dim=2),
        )

    def advanced(self) -> Self:
        """One frame further without news; beyond the horizon objects stand still."""
        if self.centres.shape[2] == 0:
            return self
        return type(self)(
            labels=self.labels,
            centres=torch.cat([self.centres[:, :, 1:], self.centres[:, :, -1:]], dim=2),
            displacements=torch.cat(
                [self.displacements[:, :, 1:], torch.zeros_like(self.displacements[:, :, :1])], dim=2
            ),
        )

    def seen_from(self, now_from_before: Tensor) -> Self:
        """The same in the vehicle frame of the next frame.

        Displacements keep their old axes, as boxes keep heading and velocity: published weights were trained
        so.
        """
        centres = transform_points(now_from_before, self.centres.flatten(1, 2))
        return replace(self, centres=centres.unflatten(1, self.centres.shape[1:3]))


def foreseen(codes: Tensor, logits: Tensor, displacements: Tensor) -> Forecasts:
    """Forecasts of queries just seen.

    Expected centres move in the ground plane only. No gradient flows into the displacements from here: the
    trajectory loss alone trains them.

    Args:
        codes: [B, Q, 10].
        logits: [B, Q, K].
        displacements: [B, Q, F, 3].
    """
    displacements = displacements.detach()
    travelled = displacements[..., :2].cumsum(2)
    planar = codes[:, :, None, :2] + travelled
    height = codes[:, :, None, 2:3].expand(*planar.shape[:3], 1)
    return Forecasts(logits.argmax(-1), torch.cat([planar, height], dim=-1), displacements)


def frames_passed(elapsed_s: Tensor, frame_s: float) -> Tensor:
    """[B] frames of `frame_s` seconds in `elapsed_s` [B].

    Times within a fifth of a frame of a whole number of frames count as that number: no camera is on time to
    the millisecond, and published weights took every step for a whole one.
    """
    frames = elapsed_s / frame_s
    whole = frames.round()
    return torch.where(((frames - whole).abs() <= _PUNCTUAL) & (whole >= 1), whole, frames)


def _at(sequence: Tensor, moments: Tensor) -> Tensor:
    """Values [B, N, M, X] of `sequence` [B, N, T, X] at `moments` [B, M], indices that need not be whole."""
    last = sequence.shape[2] - 1
    moments = moments.clamp(0, last)
    before = moments.floor()
    weight = (moments - before)[:, None, :, None]

    def rows(index: Tensor) -> Tensor:
        wanted = index.long()[:, None, :, None]
        return sequence.gather(2, wanted.expand(-1, sequence.shape[1], -1, sequence.shape[3]))

    return torch.lerp(rows(before), rows((before + 1).clamp(max=last)), weight.to(sequence.dtype))
