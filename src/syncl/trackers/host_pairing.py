"""Trackers that pair on the host: a look says what is there, and `associate` who it is.

The two are apart, so that an exported program can do the one and whoever runs it the other.
"""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from syncl.errors import SynclError
from syncl.structures import Frame, Objects
from syncl.trackers.base import Tracker
from syncl.trackers.state import TrackState


class HostPairing(Tracker):
    """Base of trackers that pair what a look says with tracks.

    The tracks may be queries that the look is taken with: then its state is theirs, and the look moves them
    to the frame. Or the detector knows nothing of them.

    Attributes:
        config: its rules, which an exported folder tells other hosts.
        pairs: the kind of objects that it pairs, those which its `stepping_part` reports.
        meanings: of the fields that this kind has besides, for other hosts.
    """

    config: object
    pairs: type[Objects] = Objects
    meanings: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def stepping_part(self) -> Tracker:
        """The tracker that looks and says what is there, and pairs nobody. It shares the detector."""

    def fixed_slots(self) -> int:
        """Refused: whoever pairs on the host waits for the device. What looks need not (`stepping_part`).

        Raises:
            SynclError: saying so.
        """
        raise SynclError(
            f"{type(self).__name__} ties detections to tracks on the host, one after the other, so its step "
            "has no form that waits for nothing"
        )

    @abstractmethod
    def associate(self, frame: Frame, state: TrackState, detections: Objects) -> tuple[Objects, TrackState]:
        """Tie the detections of a frame to the tracks of a state that has entered it.

        Args:
            frame: of the same streams.
            state: of the frame.
            detections: [B, D] of the kind that it pairs; plain ones best first, and their identities are not
                looked at.

        Returns:
            The objects that are tracks now, and the state after the frame.
        """

    def weights_beside(self) -> dict[str, Tensor]:
        """The weights by which it pairs, of its own: all but those by which it looks."""
        looking = self.stepping_part().state_dict().keys()
        return {name: value for name, value in self.state_dict().items() if name not in looking}

    def load_beside(self, weights: dict[str, Tensor]) -> None:
        """Fill itself, without a detector, with these.

        Raises:
            RuntimeError: they are others than it has.
        """
        if strange := sorted(weights.keys() ^ self.weights_beside().keys()):
            raise RuntimeError(f"{strange[0]}, ...")
        self.load_state_dict(weights, strict=False)
