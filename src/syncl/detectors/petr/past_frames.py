"""PETRv2's memory: the image features of earlier frames and what is needed to align them.

Letters: B streams, N remembered frames, C cameras, D channels, H W cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from syncl.detectors.passed import DetectorMemory
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_similarity
from syncl.layers.numerics import either
from syncl.structures import Frame
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class FrameView(TensorStructure):
    """One frame's image features and where its cameras look.

    Attributes:
        features: [B, C, D, H, W].
        image_from_vehicle: [B, C, 4, 4] float64.
        cell_valid: [B, C, H, W] bool, False = padding.
        camera_valid: [B, C] bool.
    """

    features: Tensor
    image_from_vehicle: Tensor
    cell_valid: Tensor
    camera_valid: Tensor

    def combine(self, other: "FrameView", function: Callable[[Tensor, Tensor], Tensor]) -> "FrameView":
        """`function` of every field of this view and the other's."""
        return FrameView(
            function(self.features, other.features),
            function(self.image_from_vehicle, other.image_from_vehicle),
            function(self.cell_valid, other.cell_valid),
            function(self.camera_valid, other.camera_valid),
        )

    def beside(self, other: "FrameView") -> "FrameView":
        """Both views' cameras, these first."""
        return self.combine(other, lambda own, others: torch.cat([own, others], dim=1))


@dataclass(frozen=True)
class PastFrames(DetectorMemory):
    """Up to N frames of B streams, newest first.

    Attributes:
        views: fields [B, N, ...] of the frames, each in its own vehicle frame; None before the first frame.
        global_from_vehicle: [B, N, 4, 4] float64 their poses.
        timestamps_s: [B, N] float64 their times.
        valid: [B, N] bool; False = not of the stream's present scene.
    """

    views: FrameView | None
    global_from_vehicle: Tensor
    timestamps_s: Tensor
    valid: Tensor

    @classmethod
    def empty(cls, streams: int, device: torch.device) -> "PastFrames":
        """The memory of streams that have seen nothing."""
        poses = torch.zeros(streams, 0, 4, 4, dtype=torch.float64, device=device)
        return cls(None, poses, poses[:, :, 0, 0], poses[:, :, 0, 0] > 0)

    def keep(self, streams: Tensor) -> Self:
        """See `DetectorMemory.keep`."""
        return replace(self, valid=self.valid & streams[:, None])

    def rebased(self, new_from_global: Tensor, start_s: Tensor) -> Self:
        """See `DetectorMemory.rebased`."""
        return replace(
            self,
            global_from_vehicle=new_from_global[:, None] @ self.global_from_vehicle,
            timestamps_s=self.timestamps_s - start_s[:, None],
        )

    def pushed(self, frame: Frame, view: FrameView, most: int) -> "PastFrames":
        """This memory with a frame in front, at most `most` frames long."""
        memory = self._fitting(view, frame)
        views = view.map(lambda tensor: tensor[:, None])
        if memory.views is not None:
            views = views.combine(memory.views, lambda new, old: torch.cat([new, old], dim=1)[:, :most])
        seen = torch.ones_like(frame.timestamp_s[:, None], dtype=torch.bool)
        return PastFrames(
            views,
            torch.cat([frame.global_from_vehicle[:, None], memory.global_from_vehicle], dim=1)[:, :most],
            torch.cat([frame.timestamp_s[:, None], memory.timestamps_s], dim=1)[:, :most],
            torch.cat([seen, memory.valid], dim=1)[:, :most],
        )

    def aligned(
        self, frame: Frame, view: FrameView, interval_s: float, repeat_interval_s: float
    ) -> tuple[FrameView, Tensor]:
        """The past frame to look at beside `frame`, with cameras as seen from the present vehicle frame.

        Args:
            frame: the present frame.
            view: its view, repeated for streams without a past.
            interval_s: the frame nearest to this age is taken.
            repeat_interval_s: age given to repeated frames.

        Returns:
            The past view and its age [B] float64 in seconds.
        """
        memory = self._fitting(view, frame)
        repeated = torch.full_like(frame.timestamp_s, repeat_interval_s)
        if memory.views is None:
            return view, repeated
        age_s = frame.timestamp_s[:, None] - memory.timestamps_s
        distance = torch.where(memory.valid, (age_s - interval_s).abs(), torch.inf)
        nearest = distance.argmin(1)
        stream = torch.arange(len(nearest), device=nearest.device)
        exists = memory.valid.any(1)
        past = memory.views.map(lambda tensor: tensor[stream, nearest])
        past_from_global = invert_similarity(memory.global_from_vehicle[stream, nearest])
        past_from_now = past_from_global @ frame.global_from_vehicle
        past = replace(past, image_from_vehicle=past.image_from_vehicle @ past_from_now[:, None])

        def chosen(old: Tensor, new: Tensor) -> Tensor:
            return either(exists.view(-1, *[1] * (new.dim() - 1)), old, new)

        return past.combine(view, chosen), torch.where(exists, age_s[stream, nearest], repeated)

    def _fitting(self, view: FrameView, frame: Frame) -> "PastFrames":
        """This memory, or an empty one if its images have another form and belong to scenes that ended.

        Raises:
            SynclError: if cameras or image size change within a scene.
        """
        if self.views is None or self.views.features.shape[2:] == view.features.shape[1:]:
            return self
        if bool(self.valid.any()):
            raise SynclError(
                f"sample {frame.samples[0]}: number of cameras or image size changed within a scene (feature "
                f"maps {tuple(view.features.shape[1:])} after {tuple(self.views.features.shape[2:])}); "
                "start a new scene"
            )
        return PastFrames.empty(len(self.valid), self.valid.device)
