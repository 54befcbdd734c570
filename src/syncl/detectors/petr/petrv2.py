"""PETRv2: a unified framework for 3D perception from multi-camera images (Liu et al., ICCV 2023).

PETR that attends two frames at once: a past frame's cameras stand beside the present ones, their rays
expressed in the present vehicle frame by the poses; nothing else aligns them. The past comes with the frame
(`Frame.past`), as in the original, or else is a frame seen before. Three more differences: the 3D
position embedding is gated by image features (feature-guided position encoder), every layer has its own
branches, and velocities are regressed as displacements between the two frames.

Letters: B batch, C cameras of one frame, S tokens of both, Q queries, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.image_encoder import beside
from syncl.detectors.passed import DetectorMemory, Features, own
from syncl.detectors.petr.past_frames import FrameView, PastFrames
from syncl.detectors.petr.petr import Petr, PetrConfig, attended_tokens
from syncl.detectors.token_detector import TokenFeatures
from syncl.geometry.transforms import invert_affine
from syncl.layers.conditioning import FeatureGate
from syncl.layers.numerics import mlp
from syncl.structures import Frame, Predictions

# Which output of the task heads, laid behind each other, is each number of the box code. Published weights
# order sizes and height as w, l, z, h, with the heads cut where names and contents do not match.
_CODE_FROM_HEADS = (0, 1, 4, 3, 2, 5, 6, 7, 8, 9)
_HEAD_SIZES = (2, 1, 3, 2, 2)


@dataclass(frozen=True)
class Petrv2Config(PetrConfig):
    """Sizes of a PETRv2. The defaults are the published V2-99 configuration's; see `PetrConfig` for the rest.

    Attributes:
        history: past frames remembered; one of them is attended.
        past_interval_s: of frames that come without past images, the remembered frame whose age is nearest to
            this is attended. Published weights were trained with ages of 0.33 to 2.25 s, tested at 1.25 s.
        repeat_interval_s: age given to the present frame where it stands in for a missing past one.
    """

    shared_branches: bool = False
    history: int = 1
    past_interval_s: float = 1.25
    repeat_interval_s: float = 1.245

    def build(self) -> "Petrv2":
        """Build the module."""
        return self.with_aids(Petrv2, self.queries)


@dataclass(frozen=True)
class Petrv2Features(TokenFeatures):
    """Tokens of both frames.

    Attributes:
        view: the present frame's features, to be remembered.
        interval_s: [B] float64 seconds between the two frames.
    """

    view: FrameView
    interval_s: Tensor

    @override
    def velocities(self, regressed: Tensor) -> Tensor:
        """Branches regress displacements over the frame interval."""
        return regressed / self.interval_s.to(regressed.dtype)[:, None, None]


class TaskBranch(nn.Module):
    """Box branch with a shared trunk and one head a group of numbers (PETR's `RegLayer`)."""

    order: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.heads = nn.ModuleList(mlp(dim, dim, size) for size in _HEAD_SIZES)
        self.register_buffer("order", torch.tensor(_CODE_FROM_HEADS), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Box code offsets [..., 10] of states [..., D]."""
        trunk = self.trunk(states)
        outputs = torch.cat([head(trunk) for head in self.heads], dim=-1)
        return outputs.index_select(-1, self.order)


class Petrv2(Petr):
    """See the module's docstring. State-dict layout: ours; `checkpoints` maps the published one."""

    config: Petrv2Config

    def __init__(self, config: Petrv2Config) -> None:
        super().__init__(config)
        self.feature_gate = FeatureGate(config.dim)

    @override
    def box_branch(self) -> nn.Module:
        return TaskBranch(self.dim)

    @override
    def initial_memory(self, streams: int) -> PastFrames:
        """No past frames."""
        return PastFrames.empty(streams, self.reference_points.weight.device)

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Petrv2Features:
        """Tokens of the present cameras, then of the past ones.

        Raises:
            SynclError: if cameras or image size change within a scene.
        """
        if frame.past is None:
            view = self._look(frame)
            past, interval_s = self._past(memory, frame).aligned(
                frame, view, self.config.past_interval_s, self.config.repeat_interval_s
            )
        else:
            # All images in one go, as in the original: one grid mask in training.
            both = self._look(beside(frame, frame.past))
            cameras = len(frame.rig.names)
            view, past = both.map(lambda t: t[:, :cameras]), both.map(lambda t: t[:, cameras:])
            interval_s = frame.timestamp_s - frame.past.timestamp_s
        frame = self.image_encoder.pad(frame)
        both = view.beside(past)
        vehicle_from_image = torch.cat(
            [frame.rig.vehicle_from_image, invert_affine(past.image_from_vehicle)], dim=1
        )
        keys, values = self._tokens(both.features, vehicle_from_image, both.cell_valid, frame.image_size)
        return Petrv2Features(
            view.image_from_vehicle,
            frame.camera_valid,
            frame.image_size,
            auxiliary=(),
            keys=keys,
            values=values,
            token_valid=attended_tokens(both.cell_valid, both.camera_valid),
            view=view,
            interval_s=interval_s,
        )

    def _look(self, frame: Frame) -> FrameView:
        """The view of all cameras of a frame."""
        frame = self.image_encoder.pad(frame)
        attended = self.image_encoder(frame)[self.config.attended_level]
        cell_valid = self._valid_cells(frame, attended.shape[-2:])
        return FrameView(attended, frame.rig.image_from_vehicle, cell_valid, frame.camera_valid)

    def _past(self, memory: DetectorMemory | None, frame: Frame) -> PastFrames:
        if memory is None:
            return self.initial_memory(frame.batch_size)
        return own(PastFrames, memory, self)

    @override
    def ray_positions(self, rays: Tensor, values: Tensor) -> Tensor:
        gated: Tensor = self.feature_gate(rays, values)
        return gated

    @override
    def remember(
        self, memory: DetectorMemory | None, frame: Frame, features: Features, predictions: Predictions
    ) -> PastFrames:
        """The frame's image features in front of the memory, with their gradients."""
        view = own(Petrv2Features, features, self).view
        return self._past(memory, frame).pushed(frame, view, self.config.history)
