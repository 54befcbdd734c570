"""Instance-aware contrastive learning in the cross-attention decoder (method, section 3.4).

    L = -log( exp(k(o_i, t_j) / tau) / sum over k != j of exp(k(o_i, t_k) / tau) ),   k(o, t) = MLP(FFN(o)
    * t)

for every kept pair of an object query i and the track query j of the same object, over all track queries
of the frame. The denominator leaves the positive out, as in the paper; so without a limit the loss could
fall for ever by scaling k. `score_limit` bounds k smoothly, limit * tanh(k / limit); 0 is the paper's
formula as printed.

Letters: B streams, P pairs, N track queries, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syncl.layers.numerics import mlp
from syncl.training.losses import mean_over_processes


@dataclass(frozen=True)
class ContrastiveConfig:
    """Open settings of the paper, fixed here.

    Attributes:
        weight: of the loss.
        temperature: tau.
        score_limit: bound of k; 0 = none.
        all_layers: every decoder layer instead of the last one.
    """

    weight: float = 0.02
    temperature: float = 0.5
    score_limit: float = 5.0
    all_layers: bool = False


class InstanceContrast(nn.Module):
    """The similarity k and the loss. Exists in training only."""

    def __init__(self, dim: int, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.object_projection = mlp(dim, dim, dim)
        self.similarity = mlp(dim, dim, 1)

    def scores(self, objects: Tensor, tracks: Tensor) -> Tensor:
        """k(o, t) [..., P, N] of object queries [..., P, D] and track queries [..., N, D]."""
        product = self.object_projection(objects)[..., :, None, :] * tracks[..., None, :, :]
        score: Tensor = self.similarity(product)[..., 0]
        limit = self.config.score_limit
        return limit * torch.tanh(score / limit) if limit > 0 else score

    def forward(
        self, objects: Tensor, tracks: Tensor, positives: Tensor, pair_valid: Tensor, track_valid: Tensor
    ) -> Tensor:
        """Weighted mean loss over all pairs that have at least one negative; 0 with gradients if none has.

        Args:
            objects: [..., P, D] object query of each pair.
            tracks: [..., N, D] track queries.
            positives: [..., P] int64 track query of each pair's object.
            pair_valid: [..., P] bool.
            track_valid: [..., N] bool.
        """
        if tracks.shape[-2] == 0 or objects.shape[-2] == 0:
            mean_over_processes(objects.new_zeros(()))  # Processes that have pairs wait for this one.
            return sum((p.sum() for p in self.parameters()), objects.sum() + tracks.sum()) * 0
        losses, usable = decoupled_loss(
            self.scores(objects, tracks) / self.config.temperature, positives, pair_valid, track_valid
        )
        count = mean_over_processes(usable.sum().to(losses.dtype)).clamp(min=1)
        return self.config.weight * losses.sum() / count


def decoupled_loss(
    scores: Tensor, positives: Tensor, pair_valid: Tensor, track_valid: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss [..., P] of every pair (0 where it cannot be formed) and where it could be formed.

    Args:
        scores: [..., P, N] similarities over temperature.
        positives: [..., P] index of the positive among N.
        pair_valid: [..., P] bool.
        track_valid: [..., N] bool.
    """
    columns = torch.arange(scores.shape[-1], device=scores.device)
    positive = scores.gather(-1, positives[..., None])[..., 0]
    negative = track_valid[..., None, :] & (columns != positives[..., None])
    usable = pair_valid & negative.any(-1)
    # Rows without a negative get a finite stand-in, so that neither value nor gradient becomes nan.
    masked = scores.masked_fill(~negative & usable[..., None], float("-inf"))
    loss = torch.logsumexp(masked, dim=-1) - positive
    return torch.where(usable, loss, 0.0), usable
