"""What supervision makes of a frame."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """Losses of a frame, and which query holds which object after it.

    Attributes:
        losses: scalars by name, weights included.
        identities: [B, Q] int64 annotation identity each query is tied to after the frame, -1 = none.
        layer_targets: [L, B, Q] int64 object of the frame that each query holds by the standard decoder's
            layers, -1 = none.
    """

    losses: dict[str, Tensor]
    identities: Tensor
    layer_targets: Tensor

    @property
    def targets(self) -> Tensor:
        """[B, Q] int64: what counts, the last layer's."""
        return self.layer_targets[-1]

    @property
    def present(self) -> Tensor:
        """[B, Q] bool: queries whose object is annotated in this frame."""
        return self.targets >= 0
