"""A class head of the tracker's own beside the detector's, for detecting and tracking learned at once.

Detection wants an object query to fire on every object, tracking only on those that no track query holds: one
head trained on both is told opposite things of the same query (OneTrack, Wang et al., ECCV 2024). With a head
for each, the conflict is gone from the classes; boxes have none, and share their head.

Letters: L decoder layers, B streams, Q queries, D channels, K classes.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from syncl.detectors.base import Detector
from syncl.layers.numerics import at_full_precision, mlp, prior_bias
from syncl.structures import Predictions


class TrackingHead(nn.Module):
    """Class branches like the detector's, which read the same features.

    The tracker's life cycle goes by their logits, and so does what StreamPETR remembers; the detector's own
    are kept beside them, for the losses.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        dim, classes = detector.dim, len(detector.classes)
        self.branches = nn.ModuleList(
            mlp(dim, dim, dim, classes, norm=True) for _ in range(len(detector.class_branches))
        )
        for branch in self.branches:
            last = cast(nn.Linear, cast(nn.Sequential, branch)[-1])
            nn.init.constant_(last.bias, prior_bias(0.01))

    def forward(self, predictions: Predictions) -> Predictions:
        """The predictions with this head's `logits`, and the detector's as `detection_logits`."""
        logits = branch_logits(self.branches, predictions.embeddings)
        return replace(predictions, logits=logits, detection_logits=predictions.logits)


def branch_logits(branches: nn.ModuleList, embeddings: Tensor, first: int = 0) -> Tensor:
    """Class logits [L, ..., K] of what heads see of L layers [L, ..., D].

    Args:
        branches: a branch a decoder layer, or one for all.
        embeddings: of layers in a row.
        first: number of the first of them.
    """
    last = len(branches) - 1
    return torch.stack(
        [at_full_precision(branches[min(first + n, last)], state) for n, state in enumerate(embeddings)]
    )
