"""The contract of motion models, and the Kalman filter that needs no training (KF3D).

Boxes are x y z l w h yaw in the global frame, float64: differences of places hundreds of metres from the
origin are what counts. States have a row a track, so that tracks can be picked and joined by row.

Letters: N tracks.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syncl.structures.tensors import TensorStructure
from syncl.trackers.cc_3dt.half_turns import normalised, turned_towards

BOX = 7


class MotionState(TensorStructure, ABC):
    """What a motion model knows of N tracks.

    Attributes:
        boxes: [N, 7] float64 where it believes the tracks to be.
    """

    boxes: Tensor


class Motion(nn.Module, ABC):
    """How boxes move between frames."""

    @abstractmethod
    def start(self, boxes: Tensor) -> MotionState:
        """The state of tracks that begin with these boxes [N, 7]."""

    @abstractmethod
    def predict(self, state: MotionState) -> tuple[MotionState, Tensor]:
        """The state a frame later, and the step [N, 3] in metres by which association moves the boxes."""

    @abstractmethod
    def update(self, state: MotionState, boxes: Tensor, scores: Tensor) -> MotionState:
        """The state after a sighting of every track: boxes [N, 7] with scores [N]."""

    @abstractmethod
    def steps(self, state: MotionState) -> Tensor:
        """Where the tracks will have moved a frame from now, [N, 3] metres."""


@dataclass(frozen=True)
class KalmanState(MotionState):
    """State of the constant-velocity filter.

    Attributes:
        boxes: [N, 7] float64 mean.
        velocities: [N, 3] float64 mean, metres a frame.
        variances: [N, 4] float64: of a coordinate of the centre, of it with its velocity, of the velocity,
            and of each other number of the box. Coordinates do not mix and have the same noise, so these are
            all that differs in the filter's 10 x 10 covariance.
    """

    boxes: Tensor
    velocities: Tensor
    variances: Tensor


class Kalman(Motion):
    """KF3D: constant velocity a frame, everything else constant. The noise is the published one."""

    def start(self, boxes: Tensor) -> KalmanState:
        """See `Motion.start`."""
        variances = boxes.new_tensor([10.0, 0.0, 10000.0, 10.0]).expand(len(boxes), 4)
        return KalmanState(boxes, boxes.new_zeros(len(boxes), 3), variances)

    def predict(self, state: MotionState) -> tuple[KalmanState, Tensor]:
        """See `Motion.predict`."""
        assert isinstance(state, KalmanState)
        boxes = _boxes(state.boxes[:, :3] + state.velocities, state.boxes[:, 3:])
        place, mixed, velocity, rest = state.variances.unbind(1)
        later = [place + 2 * mixed + velocity + 1, mixed + velocity, velocity + 0.01, rest + 1]
        return KalmanState(boxes, state.velocities, torch.stack(later, 1)), state.velocities

    def update(self, state: MotionState, boxes: Tensor, scores: Tensor) -> KalmanState:  # noqa: ARG002
        """See `Motion.update`; how sure the detector was does not count."""
        assert isinstance(state, KalmanState)
        yaw = normalised(boxes[:, 6])
        expected = turned_towards(normalised(state.boxes[:, 6]), yaw)
        off = torch.cat([boxes[:, :6] - state.boxes[:, :6], (yaw - expected)[:, None]], 1)
        place, mixed, velocity, rest = state.variances.unbind(1)
        trust, trust_velocity, trust_rest = place / (place + 1), mixed / (place + 1), rest / (rest + 1)
        gains = torch.cat([trust[:, None].expand(-1, 3), trust_rest[:, None].expand(-1, 4)], 1)
        mean = torch.cat([state.boxes[:, :6], expected[:, None]], 1) + gains * off
        left = [trust, trust_velocity, velocity - trust_velocity * mixed, trust_rest]
        return KalmanState(
            _boxes(mean[:, :3], mean[:, 3:]),
            state.velocities + trust_velocity[:, None] * off[:, :3],
            torch.stack(left, 1),
        )

    def steps(self, state: MotionState) -> Tensor:
        """See `Motion.steps`."""
        assert isinstance(state, KalmanState)
        return state.velocities


def _boxes(centres: Tensor, rest: Tensor) -> Tensor:
    return torch.cat([centres, rest[:, :3], normalised(rest[:, 3:])], 1)
