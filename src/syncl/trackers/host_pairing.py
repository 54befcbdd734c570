"""Trackers that pair on the host: a look says what is there, and `associate` who it is.

The two are apart, so that an exported program can do the one and whoever runs it the other.
"""

from abc import abstractmethod

from torch import Tensor

from syncl.structures import Frame, Objects
from syncl.trackers.base import Tracker
from syncl.trackers.state import TrackState


class HostPairing(Tracker):
    """Base of trackers that pair what a look says with tracks which the detector knows nothing of.

    Attributes:
        config: its rules, which an exported folder tells other hosts.
        pairs: the kind of objects that it pairs, those which its `stepping_part` reports.
    """

    config: object
    pairs: type[Objects] = Objects

    @abstractmethod
    def stepping_part(self) -> Tracker:
        """The tracker of single frames that says what is there. It shares the detector."""

    @abstractmethod
    def associate(self, frame: Frame, state: TrackState, detections: Objects) -> tuple[Objects, TrackState]:
        """Tie the detections of a frame to the tracks of a state that has entered it.

        Args:
            frame: of the same streams.
            state: of the frame.
            detections: [B, D] of the kind that it pairs, best first. Their identities are not looked at.

        Returns:
            The detections that are tracks now, and the state after the frame.
        """

    def weights_beside(self) -> dict[str, Tensor]:
        """The weights by which it pairs, of its own: all but the detector's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("detector.")}

    def load_beside(self, weights: dict[str, Tensor]) -> None:
        """Fill itself, without a detector, with these.

        Raises:
            RuntimeError: they are others than it has.
        """
        if strange := sorted(weights.keys() ^ self.weights_beside().keys()):
            raise RuntimeError(f"{strange[0]}, ...")
        self.load_state_dict(weights, strict=False)
