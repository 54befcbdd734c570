"""STAR-Track's latent motion model: a track's content moves as its place does.

What an object looks like changes with where it is seen from. A hyper-network (TfNet) turns the motion of an
object against the vehicle between two frames into an affine map of its query's content,

    h = relu(mlp(motion)),   W, b = linear(h),   q' = q + (W - 1) q + b,

brought back to the length of q. The last linear map starts at zero, so the model starts as the identity. The
paper publishes no shapes: they are ours, as `docs/tracking.md` tells.

Letters: B streams, N tracks, D channels, H blocks.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from syncl.errors import SynclError
from syncl.geometry.transforms import rotate_planar
from syncl.layers.numerics import mlp
from syncl.trackers.state import Move, TrackQueries

Transform = Literal["block", "full", "diagonal", "none"]
Norm = Literal["length", "layer", "none"]

# Rotation (9) and translation (3) of the vehicle, the object's way (3), velocity (2), time (1), heading (2).
MOTION_SIZE = 20
_LENGTH_M = 10.0


def relative_motion(before: TrackQueries, references: Tensor, move: Move) -> Tensor:
    """How tracks and vehicle moved between two frames: [B, N, 20].

    Lengths are in tens of metres, velocities in tens of metres a second.

    Args:
        before: tracks in the frame before, in that frame's axes.
        references: [B, N, 3] where they are expected now, metres, in the present axes.
        move: of the vehicle.
    """
    codes = before.codes
    streams, count = codes.shape[:2]
    pose = move.now_from_before.to(codes.dtype)
    # The box code has sine before cosine.
    heading = rotate_planar(move.now_from_before, codes[..., 6:8].flip(-1))
    vehicle = torch.cat([pose[:, :3, :3].flatten(1), pose[:, :3, 3] / _LENGTH_M], dim=1)
    numbers = [
        vehicle[:, None].expand(-1, count, -1),
        (references - before.references) / _LENGTH_M,
        before.velocities / _LENGTH_M,
        move.elapsed_s.to(codes.dtype)[:, None, None].expand(streams, count, 1),
        heading.flip(-1),
    ]
    return torch.cat(numbers, dim=-1)


class LatentMotion(nn.Module):
    """The hyper-network and the map it makes, block diagonal with H blocks of D / H channels.

    One block is a full matrix, D blocks of one channel are StreamPETR's scale and shift. Maps of all tracks
    are made in one pass: 4 N D (D / H + 1) bytes in single precision, 79 MB for 300 tracks of 256 channels
    with one full block.

    Args:
        dim: channels D.
        blocks: H.
        hidden: hidden channels of the hyper-network.
        norm: what follows the map: `length` gives the content its length back, `layer` is a LayerNorm (and no
            identity at the start), `none` nothing.

    Raises:
        SynclError: if the channels cannot be split into so many blocks.
    """

    def __init__(self, dim: int, blocks: int, hidden: int, norm: Norm) -> None:
        super().__init__()
        if blocks < 1 or dim % blocks:
            raise SynclError(f"tracker.blocks={blocks}: {dim} channels cannot be split into so many blocks")
        self.blocks = blocks
        self.norm = norm
        self.dim = dim
        self.encoder = mlp(MOTION_SIZE, hidden, hidden)
        self.transform = nn.Linear(hidden, dim * (dim // blocks) + dim)
        nn.init.zeros_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        self.layer_norm = nn.LayerNorm(dim) if norm == "layer" else nn.Identity()

    def forward(self, contents: Tensor, motion: Tensor) -> Tensor:
        """Contents [B, N, D] behind motions [B, N, 20]."""
        made = self.transform(torch.relu(self.encoder(motion)))
        size = self.dim // self.blocks
        weights, shift = made.split([self.dim * size, self.dim], dim=-1)
        change = torch.einsum(
            "bnhij,bnhj->bnhi",
            weights.unflatten(-1, (self.blocks, size, size)),
            contents.unflatten(-1, (self.blocks, size)),
        ).flatten(-2)
        moved = contents + change + shift
        if self.norm == "length":
            moved = moved * (_length(contents) / _length(moved))
        out: Tensor = self.layer_norm(moved)
        return out


def _length(vectors: Tensor) -> Tensor:
    """Lengths [..., 1], never 0, so that rows of zeros (padding) stay finite in value and gradient."""
    # Writing ONNX takes the addition of so little away.
    return vectors.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
