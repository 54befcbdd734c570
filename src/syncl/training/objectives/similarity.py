"""Losses of CC-3DT's embeddings (QDTrack's, Pang et al. 2021, as CC-3DT uses them).

Boxes of an object in two frames of one camera are to look alike, all others not.

Letters: B streams, C cameras, K boxes of the frame before, R boxes of the frame, E channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from syncl.structures import Annotations, Outcome
from syncl.trackers.cc_3dt.embedded_boxes import EmbeddedBoxes
from syncl.trackers.cc_3dt.tracker import Cc3dtMemory
from syncl.trackers.look import Decoded
from syncl.training.objectives.base import Objective

_MARGIN = 0.3
_NEGATIVES_A_POSITIVE = 3


@dataclass(frozen=True)
class SimilarityLossConfig:
    """Weights; the defaults are the published ones.

    Attributes:
        contrast: of the cross entropy over all pairs of a counterpart and another box.
        cosine: of the squared distance of cosines.
    """

    contrast: float = 0.25
    cosine: float = 1.0

    def build(self) -> "SimilarityObjective":
        """The objective."""
        return SimilarityObjective(self)


class SimilarityObjective(Objective):
    """Trains what boxes look like: `contrast` and `cosine`."""

    def __init__(self, config: SimilarityLossConfig) -> None:
        self.config = config

    def __call__(
        self, decoded: Decoded, _outcome: Outcome, _annotations: Annotations, /
    ) -> dict[str, Tensor]:
        """The losses of a frame and the one before it; 0 where there was none."""
        now = decoded.reasoned
        if not isinstance(now, EmbeddedBoxes):
            return {}
        before = decoded.state.owned(Cc3dtMemory).looks
        nothing = now.embeddings.sum() * 0
        contrast, cosine, pairs = nothing, nothing, 0
        for stream in range(len(now.valid)):
            for camera in range(decoded.frame.images.shape[1]):
                pairs += 1
                key, key_ids = before.of(stream, camera)
                reference, reference_ids = now.of(stream, camera)
                key, key_ids = key[key_ids >= 0], key_ids[key_ids >= 0]
                if not len(key) or not len(reference):
                    continue
                contrast = contrast + contrast_loss(key, key_ids, reference, reference_ids)
                cosine = cosine + cosine_loss(key, key_ids, reference, reference_ids)
        return {
            "contrast": self.config.contrast * contrast / pairs,
            "cosine": self.config.cosine * cosine / pairs,
        }


def contrast_loss(key: Tensor, key_ids: Tensor, reference: Tensor, reference_ids: Tensor) -> Tensor:
    """Mean over boxes [K, E] with a counterpart of log(1 + sum over p, n of exp(s_n - s_p)).

    p are the reference boxes [R, E] of the same identity, n all others; s are dot products.
    """
    products = key @ reference.T
    same = key_ids[:, None] == reference_ids
    alike = (-products).masked_fill(~same, -torch.inf).logsumexp(1)
    others = products.masked_fill(same, -torch.inf).logsumexp(1)
    counted = same.any(1)
    loss = functional.softplus((alike + others)[counted]).sum()
    return loss / (counted.sum() + 1e-5)


def cosine_loss(key: Tensor, key_ids: Tensor, reference: Tensor, reference_ids: Tensor) -> Tensor:
    """Mean squared distance of cosines to 1 for one identity, to the margin for the hardest of the others."""
    cosines = functional.normalize(key, dim=1) @ functional.normalize(reference, dim=1).T
    same = key_ids[:, None] == reference_ids
    positive = (cosines.clamp(0, 1) - 1).square()[same]
    negative = (cosines - _MARGIN).clamp(0, 1).square()[~same]
    kept = min(len(negative), _NEGATIVES_A_POSITIVE * max(1, len(positive)))
    return torch.cat([positive, negative.topk(kept).values]).mean()
