"""OneTrack's assignments: every query and every object, for detecting and for tracking.

- Detecting: the Hungarian match of all queries, tracks too, to all objects, by the detection head.
- Tracking: a track to its own object; queries that hold nothing to the objects that nobody holds.

So each query has a polarity pair (detecting, tracking), and where a fresh query predicts a held object better
than its track does, the tasks contradict each other about both. Boxes have one target: the track's object,
else what tracking says, else what detecting says.

A track whose prediction lies too far from its object is no positive of tracking (high-cost suppression): a
fresh query may take the object over in the same frame, and the track lets go. Its box is still drawn there.

Letters: L decoder layers, B streams, Q queries, O object queries, N track queries (the last), M objects.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.structures import Annotations, Predictions
from syncl.training.assignment import Assignment, CostConfig, held_objects, hungarian, matching_cost

Coordination = Literal["none", "detach_negative", "detach_positive", "drop", "project"]


@dataclass(frozen=True)
class TwoTasksConfig:
    """How two class heads are supervised; `none` and `object_queries` together are SynCL's table 8.

    Attributes:
        detects: who takes part in detection's match: `all` queries, or the `object_queries` alone, as in
            SynCL's reproduction.
        coordination: what becomes of the class losses of queries that the tasks contradict each other about.
            `none`: two heads, nothing else. `detach_negative`: the task that calls the query background
            trains its own head and nothing below. `detach_positive`: the same of the task that calls it an
            object. `drop`: the negative task has no loss there. `project`: its gradient on the features loses
            what points against the positive task's.
        polarity: what the tracker's mask groups queries by in training: supervision's assignment of the layer
            before (`assigned`), the scores (`predicted`), as in tracking, or first the one, then the other
            (`scheduled`).
        predicted_from: scheduled: the part of training after which scores are what counts.
        high_cost: which tracks are too far from their objects: those whose centre ends farther off than
            `high_cost_m` (`centre`), those with more than twice the cost of detection's match of the same
            object (`relative`), or `none`.
        high_cost_m: metres on the ground.
        suppress_from: the part of training before which nothing is suppressed, since all boxes are bad.
    """

    detects: Literal["all", "object_queries"] = "all"
    coordination: Coordination = "detach_negative"
    polarity: Literal["assigned", "predicted", "scheduled"] = "scheduled"
    predicted_from: float = 1 / 3
    high_cost: Literal["centre", "relative", "none"] = "centre"
    high_cost_m: float = 2.0
    suppress_from: float = 0.1

    def check(self) -> None:
        """Refuse settings that contradict one another.

        Raises:
            SynclError: with the reason.
        """
        for name in ("predicted_from", "suppress_from"):
            part = getattr(self, name)
            if not 0 <= part <= 1:
                raise SynclError(f"strategy: two_tasks.{name}={part}: a part of training is between 0 and 1")
        if self.high_cost_m <= 0:
            raise SynclError(
                f"strategy: two_tasks.high_cost_m={self.high_cost_m}: must be positive; to suppress nothing "
                "set two_tasks.high_cost=none"
            )
        if self.detects == "object_queries" and self.high_cost != "none":
            raise SynclError(
                f"strategy: two_tasks.detects=object_queries with high_cost={self.high_cost}: tracking then "
                "takes its new-born objects from detection's match, which leaves none for what a suppressed "
                "track gives up; set high_cost=none or detects=all"
            )

    def is_predicted(self, progress: float) -> bool:
        """Whether scores are what the mask groups queries by, at this part of training."""
        return self.polarity == "predicted" or (
            self.polarity == "scheduled" and progress >= self.predicted_from
        )


def two_task_assignment(
    predictions: Predictions,
    ties: Tensor,
    track_identities: Tensor,
    annotations: Annotations,
    cost_config: CostConfig,
    config: TwoTasksConfig,
    progress: float,
) -> Assignment:
    """Both tasks' assignment, of all queries.

    Args:
        predictions: of the standard decoder, with the logits of both heads.
        ties: [B, N] object of each track query, -1 = none.
        track_identities: [B, N] annotation identity of each track query, -1 = none.
        annotations: of the frame.
        cost_config: weights of the matching cost.
        config: the tasks.
        progress: how much of the training is done.
    """
    layers, count, valid = predictions.logits.shape[0], predictions.object_count, predictions.valid
    cost = matching_cost(predictions.as_detected, annotations, cost_config)
    detected = hungarian(cost, valid, annotations.valid)
    own = ties.expand(layers, -1, -1)
    held = own
    if progress >= config.suppress_from:
        held = own.masked_fill(too_far(predictions, cost, detected, own, annotations, config), -1)
    objects = cost.shape[3]
    # Layers have new-born objects of their own where some suppress a track: they are matched as streams.
    new_born = annotations.valid & ~held_objects(held.flatten(0, 1), objects).unflatten(0, held.shape[:2])
    free = torch.cat([valid[:, :count], valid[:, count:] & (track_identities < 0)], dim=1)
    born = hungarian(
        cost.flatten(0, 1)[None], free.expand(layers, -1, -1).flatten(0, 1), new_born.flatten(0, 1)
    ).view_as(detected)
    tracked = torch.cat([born[:, :, :count], torch.where(held >= 0, held, born[:, :, count:])], dim=2)
    boxes = torch.where(tracked >= 0, tracked, detected)
    boxes = torch.cat([boxes[:, :, :count], torch.where(own >= 0, own, boxes[:, :, count:])], dim=2)
    supervised = valid.expand(layers, -1, -1)
    return Assignment(
        tracked,
        supervised,
        vanished=(track_identities >= 0) & (ties < 0) & valid[:, count:],
        detection=Assignment(detected, supervised),
        boxes=boxes,
    )


def too_far(
    predictions: Predictions,
    cost: Tensor,
    detected: Tensor,
    own: Tensor,
    annotations: Annotations,
    config: TwoTasksConfig,
) -> Tensor:
    """[L, B, N] bool: tracks too far from their objects `own` [L, B, N], -1 = none.

    Args:
        predictions: of the standard decoder.
        cost: [L, B, Q, M] by the detection head.
        detected: [L, B, Q] detection's match.
        own: see above.
        annotations: of the frame.
        config: says how far is too far.
    """
    objects, count = cost.shape[3], predictions.object_count
    if config.high_cost == "none" or objects == 0:
        return torch.zeros_like(own, dtype=torch.bool)
    index = own.clamp(min=0)
    if config.high_cost == "centre":
        centres = annotations.boxes[..., :2].expand(len(own), -1, -1, -1)
        centres = centres.gather(2, index[..., None].expand(-1, -1, -1, 2))
        distance = (predictions.codes[:, :, count:, :2].detach() - centres).norm(dim=-1)
        far: Tensor = distance > config.high_cost_m
        return far & (own >= 0)
    matched = detected[..., None] == torch.arange(objects, device=own.device)
    best = (cost * matched).sum(2)
    # Costs may be negative: such a match is beaten by twice as much only above 0.
    limit = (best + best.abs()).gather(2, index)
    dear: Tensor = cost[:, :, count:].gather(3, index[..., None])[..., 0] > limit
    return (own >= 0) & dear
