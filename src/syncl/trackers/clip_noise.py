"""What training does to the tracks it carries on, so that they look like those of tracking.

Some are forgotten, and some hold no object at all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipNoise:
    """How tracks of a training clip are disturbed between frames; not at all by default.

    Attributes:
        drop_probability: chance that a track is forgotten, so that its object is born again.
        carry_score: queries below it are not carried on although they hold an object, as the birth score has
            it at inference.
        false_positive_ratio: chance, a track, that a query without object is carried on as well.
        birth_score: every query without object whose score reaches it is carried on as well, as the birth
            score has it at inference; None = none for that reason. With `carry_score` at the same value
            tracks of training begin and end by score alone, as in tracking.
    """

    drop_probability: float = 0.0
    carry_score: float = 0.0
    false_positive_ratio: float = 0.0
    birth_score: float | None = None

    def carried(self, tied: Tensor, scores: Tensor, valid: Tensor) -> Tensor:
        """[B, Q] bool: the queries that become tracks.

        Args:
            tied: [B, Q] bool, queries that hold an object.
            scores: [B, Q] best class scores.
            valid: [B, Q] bool, rows that are not padding.
        """
        scores = scores.masked_fill(~valid, 0)
        alive = tied & (scores >= self.carry_score)
        if self.drop_probability > 0:
            alive = alive & (torch.rand(alive.shape, device=alive.device) >= self.drop_probability)
        if self.false_positive_ratio > 0:
            lucky = torch.rand(alive.shape, device=alive.device) < self.false_positive_ratio
            wanted = (alive & lucky).sum(1, keepdim=True)
            candidates = scores.masked_fill(tied | ~valid, -1)
            rank = candidates.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
            alive = alive | ((rank < wanted) & (candidates >= 0))
        if self.birth_score is not None:
            alive = alive | (valid & ~tied & (scores >= self.birth_score))
        return alive


UNDISTURBED = ClipNoise()
