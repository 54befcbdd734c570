"""OneTrack's dynamic mask: queries that the two tasks contradict each other about do not see one another.

A query's polarity is whether detecting and whether tracking calls it an object: (+, +) and (-, -) agree,
(+, -) is a fresh query on an object that a track holds, (-, +) such a track. In a layer's self-attention
(+, -) and (-, +) are hidden from each other; all else is as ever, and every query sees itself. The groups are
those of the layer before. No query is (+, -) before the first layer, so that one masks nothing.

In training a guide may say what supervision makes of the layer before; else its scores decide, as they must
in tracking.

Letters: B streams, Q queries of which all but training's further ones are the frame's own.
"""

from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from syncl.detectors.base import Detector
from syncl.detectors.interaction import Interaction
from syncl.structures import Predictions, Queries
from syncl.trackers.look import Guide
from syncl.trackers.tracking_head import TrackingHead, branch_logits


class DynamicMask(Interaction):
    """The mask of one frame's decoding.

    Args:
        detector: whose class branches are the detection head.
        tracking_head: of the same decoder.
        queries: all that is decoded, [B, Q, ...].
        count: how many of them are the frame's own, the first.
        guide: supervision, or None.
        score: at or above it a head calls a query an object.
    """

    def __init__(
        self,
        detector: Detector,
        tracking_head: TrackingHead,
        queries: Queries,
        count: int,
        guide: Guide | None,
        score: float,
    ) -> None:
        self._detector = detector
        self._tracking_head = tracking_head
        self._looked_at = queries.looked_at
        self._frame = replace(queries, attention=None).map(lambda rows: rows[:, :count])
        self._guide = guide
        self.boxes = "none" if guide is None else "heads"
        self._score = score
        self._seen: Tensor | None = None

    @override
    def mask(self, layer: int) -> Tensor | None:
        """[B, Q, Q] bool; None in the first layer."""
        return self._seen

    @override
    @torch.no_grad()
    def __call__(self, layer: int, states: Tensor, codes: Tensor) -> Tensor:
        """The states as they are, after the groups of the next layer's mask have been read off them."""
        if layer + 1 < len(self._detector.layers):
            count = self._frame.count
            seen = self._detector.head_states(states.detach()[:, :count])[None]
            predictions = Predictions(
                logits=branch_logits(self._tracking_head.branches, seen, layer),
                codes=codes.detach()[None, :, :count],
                embeddings=seen,
                references=self._frame.references[None],
                valid=self._frame.valid,
                object_count=self._frame.object_count,
                detection_logits=branch_logits(self._detector.class_branches, seen, layer),
            )
            detected, tracked = self._polarity(predictions)
            self._seen = hide_conflicts(detected, tracked, self._looked_at, states.shape[1])
        return states

    def _polarity(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """[B, Q] bool each, of the frame's own queries."""
        if self._guide is not None:
            return self._guide.polarity(predictions, self._frame)

        def called(logits: Tensor) -> Tensor:
            return (logits[0].sigmoid().amax(-1) >= self._score) & predictions.valid

        return called(predictions.as_detected.logits), called(predictions.logits)


def hide_conflicts(detected: Tensor, tracked: Tensor, looked_at: Tensor | None, count: int) -> Tensor:
    """[B, Q, Q] bool, what each of `count` queries may look at.

    Args:
        detected: [B, R] bool, positives of detection among the first R queries.
        tracked: [B, R] bool, positives of tracking.
        looked_at: what queries could look at anyway, [B, Q] or [B, Q, Q]; None = everything.
        count: Q.
    """
    rest = (0, count - detected.shape[1])
    fresh = torch.nn.functional.pad(detected & ~tracked, rest)
    held = torch.nn.functional.pad(tracked & ~detected, rest)
    hidden = (fresh[:, :, None] & held[:, None]) | (held[:, :, None] & fresh[:, None])
    if looked_at is None:
        return ~hidden
    return (looked_at if looked_at.dim() == 3 else looked_at[:, None]) & ~hidden
