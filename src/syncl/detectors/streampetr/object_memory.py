"""StreamPETR's memory: the best objects of earlier frames, as queries that later frames look back at.

Letters: B streams, M memory slots, P starting points, D channels.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from syncl.detectors.passed import DetectorMemory
from syncl.geometry.transforms import invert_similarity, transform_points
from syncl.structures import Frame
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class RecalledObjects(TensorStructure):
    """The memory as a frame sees it.

    Attributes:
        embeddings: [B, M, D].
        references: [B, M, 3] metres, vehicle frame of the frame.
        age_s: [B, M] float64 seconds.
        motion: [B, M, 15] velocity (2, m/s, in the frame it was seen in), age, and the upper three rows of
            the pose from then to now.
    """

    embeddings: Tensor
    references: Tensor
    age_s: Tensor
    motion: Tensor


@dataclass(frozen=True)
class ObjectMemory(DetectorMemory):
    """Objects of earlier frames of B streams, newest frame first, best first within a frame.

    Places are global and float64, so nothing has to be moved from frame to frame. As in the original,
    centres are never advanced by their velocity, and slots that were never written are not masked: they look
    like an object without content at the first frame's origin, with a pose of zeros.

    Attributes:
        embeddings: [B, M, D].
        references: [B, M, 3] float64 metres, global frame.
        velocities: [B, M, 2] m/s, vehicle frame of the frame they were seen in.
        global_from_vehicle: [B, M, 4, 4] float64 pose of that frame; zero in slots never written.
        timestamps_s: [B, M] float64 its time.
        started: [B] bool; False = the stream remembers nothing, whatever the other fields say.
    """

    embeddings: Tensor
    references: Tensor
    velocities: Tensor
    global_from_vehicle: Tensor
    timestamps_s: Tensor
    started: Tensor

    @classmethod
    def empty(cls, streams: int, slots: int, like: Tensor) -> "ObjectMemory":
        """The memory of streams that have seen nothing, with embeddings of D channels as `like` [..., D]."""
        exact = torch.zeros(streams, slots, 4, 4, dtype=torch.float64, device=like.device)
        return cls(
            embeddings=like.new_zeros(streams, slots, like.shape[-1]),
            references=exact[..., 0, :3],
            velocities=like.new_zeros(streams, slots, 2),
            global_from_vehicle=exact,
            timestamps_s=exact[..., 0, 0],
            started=torch.zeros(streams, dtype=torch.bool, device=like.device),
        )

    def keep(self, streams: Tensor) -> Self:
        """See `DetectorMemory.keep`."""
        return replace(self, started=self.started & streams)

    def rebased(self, new_from_global: Tensor, start_s: Tensor) -> Self:
        """See `DetectorMemory.rebased`."""
        return replace(
            self,
            references=transform_points(new_from_global, self.references),
            global_from_vehicle=new_from_global[:, None] @ self.global_from_vehicle,
            timestamps_s=self.timestamps_s - start_s[:, None],
        )

    def entered(self, frame: Frame, starting_points: Tensor) -> Self:
        """This memory with streams that remember nothing filled for `frame`.

        Their first P slots hold `starting_points` [P, 3] (metres, vehicle frame) as if just seen, the others
        are slots never written.
        """
        slots, points = self.references.shape[1], starting_points.shape[0]
        pose = frame.global_from_vehicle
        origin = torch.zeros(len(pose), slots, 3, dtype=pose.dtype, device=pose.device)
        origin[:, :points] = starting_points.to(pose.dtype)
        poses = pose[:, None] * (torch.arange(slots, device=pose.device) < points)[:, None, None]
        kept = self.started[:, None, None]
        return replace(
            self,
            embeddings=torch.where(kept, self.embeddings, 0),
            references=torch.where(kept, self.references, transform_points(pose, origin)),
            velocities=torch.where(kept, self.velocities, 0),
            global_from_vehicle=torch.where(kept[..., None], self.global_from_vehicle, poses),
            timestamps_s=torch.where(kept[..., 0], self.timestamps_s, frame.timestamp_s[:, None]),
            started=torch.ones_like(self.started),
        )

    def recalled(self, frame: Frame) -> RecalledObjects:
        """The (entered) memory in the vehicle frame of `frame`."""
        now_from_global = invert_similarity(frame.global_from_vehicle)
        now_from_then = now_from_global[:, None] @ self.global_from_vehicle
        age_s = frame.timestamp_s[:, None] - self.timestamps_s
        dtype = self.embeddings.dtype
        motion = [self.velocities, age_s[..., None], now_from_then[..., :3, :].flatten(-2)]
        return RecalledObjects(
            self.embeddings,
            transform_points(now_from_global, self.references).to(dtype),
            age_s,
            torch.cat([part.to(dtype) for part in motion], dim=-1),
        )

    def pushed(self, frame: Frame, embeddings: Tensor, references: Tensor, velocities: Tensor) -> Self:
        """This memory with P objects of `frame` in front; the oldest drop out.

        Args:
            frame: B streams.
            embeddings: [B, P, D].
            references: [B, P, 3] metres, vehicle frame.
            velocities: [B, P, 2] m/s, vehicle frame.
        """
        pose = frame.global_from_vehicle
        count = embeddings.shape[1]

        def in_front(new: Tensor, old: Tensor) -> Tensor:
            return torch.cat([new.to(old.dtype), old], dim=1)[:, : old.shape[1]]

        return replace(
            self,
            embeddings=in_front(embeddings, self.embeddings),
            references=in_front(transform_points(pose, references.to(pose.dtype)), self.references),
            velocities=in_front(velocities, self.velocities),
            global_from_vehicle=in_front(pose[:, None].expand(-1, count, -1, -1), self.global_from_vehicle),
            timestamps_s=in_front(frame.timestamp_s[:, None].expand(-1, count), self.timestamps_s),
        )
