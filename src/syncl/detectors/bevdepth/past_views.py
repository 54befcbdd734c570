"""BEVDepth's memory: the views of the frames before, and what recurrences over objects look at again.

Letters: B streams, N remembered frames, C cameras, D channels of a view, Y X its cells, F channels and H W
cells of image features.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from syncl.detectors.passed import DetectorMemory
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_similarity
from syncl.structures import Frame
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class FrameImages(TensorStructure):
    """What lies in a frame's images, and where its cameras look.

    Attributes:
        features: [B, C, F, H, W].
        image_from_vehicle: [B, C, 4, 4] float64, from the vehicle frame of the frame itself.
        camera_valid: [B, C] bool.
    """

    features: Tensor
    image_from_vehicle: Tensor
    camera_valid: Tensor


@dataclass(frozen=True)
class PastViews(DetectorMemory):
    """Up to N frames of B streams, newest first, without gradient.

    Attributes:
        bev: [B, N, D, Y, X] their views, each in its own vehicle frame.
        images: fields [B, N, ...]; None before the first frame, or where nobody looks at them again.
        global_from_vehicle: [B, N, 4, 4] float64 their poses.
        timestamps_s: [B, N] float64 their times.
        valid: [B, N] bool; False = not of the stream's present scene.
    """

    bev: Tensor
    images: FrameImages | None
    global_from_vehicle: Tensor
    timestamps_s: Tensor
    valid: Tensor

    @classmethod
    def empty(cls, streams: int, like: Tensor, count: int = 0) -> "PastViews":
        """The memory of streams that have seen nothing, with `count` frames that are not valid; view, dtype
        and device as in `like` [D, Y, X].
        """
        poses = torch.zeros(streams, count, 4, 4, dtype=torch.float64, device=like.device)
        times = poses[:, :, 0, 0]
        return cls(like.new_zeros(streams, count, *like.shape), None, poses, times, times > 0)

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

    @property
    def count(self) -> int:
        """Number of frames N."""
        return self.valid.shape[1]

    def past_from_now(self, frame: Frame) -> Tensor:
        """[B, N, 4, 4] float64: from the present vehicle frame to that of each remembered frame; no way
        where none is remembered.
        """
        present = frame.global_from_vehicle[:, None]
        poses = torch.where(self.valid[..., None, None], self.global_from_vehicle, present)
        return invert_similarity(poses) @ present

    def images_like(self, present: FrameImages) -> FrameImages:
        """The remembered images, fields [B, N, ...]; black ones of the present form where there are none."""
        if self.images is not None:
            return self.images
        return present.map(
            lambda tensor: torch.zeros_like(tensor)[:, None].expand(-1, self.count, *tensor.shape[1:])
        )

    def pushed(self, frame: Frame, bev: Tensor, images: FrameImages | None, most: int) -> "PastViews":
        """This memory with a frame in front, at most `most` frames long.

        Args:
            frame: the frame.
            bev: [B, D, Y, X] its view.
            images: what lies in its images; None where nobody looks at them again.
            most: N at the most.
        """

        def before(new: Tensor, old: Tensor) -> Tensor:
            return torch.cat([new.detach()[:, None], old], dim=1)[:, :most]

        seen = torch.ones_like(frame.timestamp_s, dtype=torch.bool)
        if images is not None:
            old = self.images_like(images)
            images = FrameImages(
                before(images.features, old.features),
                before(images.image_from_vehicle, old.image_from_vehicle),
                before(images.camera_valid, old.camera_valid),
            )
        return PastViews(
            before(bev, self.bev),
            images,
            before(frame.global_from_vehicle, self.global_from_vehicle),
            before(frame.timestamp_s, self.timestamps_s),
            before(seen, self.valid),
        )

    def fitting(self, frame: Frame, images: FrameImages | None) -> "PastViews":
        """This memory, or an empty one if its images have another form and belong to scenes that ended.

        Raises:
            SynclError: if cameras or image size change within a scene.
        """
        if images is None or self.images is None:
            return self
        remembered, present = self.images.features.shape[2:], images.features.shape[1:]
        if remembered == present:
            return self
        if bool(self.valid.any()):
            raise SynclError(
                f"sample {frame.samples[0]}: number of cameras or image size changed within a scene (feature "
                f"maps {tuple(present)} after {tuple(remembered)}); start a new scene"
            )
        return PastViews.empty(len(self.valid), self.bev[0, 0])
