"""What kind of rigs a detector has seen, so that it says when it is shown another."""

from dataclasses import dataclass

import torch

from syncl.structures import Frame

# A lens may be this much wider or narrower than any of training's.
_MARGIN_DEG = 10.0


@dataclass(frozen=True)
class SeenRigs:
    """The rigs of a training.

    Attributes:
        fewest: cameras of the smallest.
        most: cameras of the largest.
        narrowest_deg: least angle of view of a camera from left to right.
        widest_deg: the greatest.
    """

    fewest: int
    most: int
    narrowest_deg: float
    widest_deg: float

    def doubt(self, frame: Frame) -> str | None:
        """What is so unlike these rigs in a frame that little is to be expected; None = nothing.

        The first stream's cameras that delivered an image are looked at. Waits for the device.
        """
        count = len(frame.rig.names)
        if not self.fewest <= count <= self.most:
            return f"{count} cameras here"
        valid = frame.camera_valid[0].cpu()
        focal = frame.rig.image_from_camera[0, :, 0, 0].cpu()
        angles_deg = 2 * torch.atan(frame.content_size[0, :, 1].cpu() / (2 * focal)).rad2deg()
        beyond = torch.maximum(self.narrowest_deg - angles_deg, angles_deg - self.widest_deg).masked_fill(
            ~valid, 0
        )
        worst = int(beyond.argmax()) if count else 0
        if not count or beyond[worst] <= _MARGIN_DEG:
            return None
        return f"{frame.rig.names[worst]} sees {float(angles_deg[worst]):.0f} degrees here"

    def __str__(self) -> str:
        cameras = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{cameras} cameras that see {self.narrowest_deg:.0f} to {self.widest_deg:.0f} degrees each"
