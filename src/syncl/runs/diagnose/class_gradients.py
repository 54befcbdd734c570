"""How far the class losses of detecting and tracking contradict each other on the features they share.

OneTrack's analysis (Wang et al., ECCV 2024, figure 1), for any tracker: every query is matched for both
tasks, and the gradients of the two class losses on what the class heads read are compared, over all queries
and over the four groups of polarity. Where a tracker has one class head, both losses are taken of that.

Letters: L decoder layers, G groups (all queries, then the four), N tracks.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.progress import progress_bar
from syncl.runs.diagnose.passes import Frames, Subject
from syncl.structures import Annotations, Outcome
from syncl.trackers import Decoded, Tracker
from syncl.trackers.one_track import HeadsApart
from syncl.trackers.tracking_head import branch_logits
from syncl.training.assignment import Assignment, identities_after, tie_by_identity
from syncl.training.strategies.one_track import TwoTasksConfig
from syncl.training.strategies.one_track.coordination import Polarity, feature_gradients
from syncl.training.strategies.one_track.two_tasks import two_task_assignment

GROUPS = ("all", "(+, +)", "(-, -)", "(+, -)", "(-, +)")


@dataclass(frozen=True)
class ClassGradients:
    """What comparing the two tasks' class gradients gave; a polarity is (detecting, tracking).

    Attributes:
        cosines: [L, G] between the gradients of a group, those of all frames in one vector; nan without any.
        shares: [L, G] how much of the squared length of both gradients a group has.
        queries: [L, G] mean number of queries a frame.
        disputed: queries of (+, +) a frame, last layer, that the two tasks call different objects.
    """

    cosines: NDArray[np.float64]
    shares: NDArray[np.float64]
    queries: NDArray[np.float64]
    disputed: float

    @property
    def figures(self) -> dict[str, object]:
        """As in figures.json, by group; a cosine that does not exist is null."""
        rounded = [np.round(values.T, 6).tolist() for values in (self.cosines, self.shares, self.queries)]
        groups: dict[str, object] = {
            name: {
                "cosine": [None if np.isnan(value) else value for value in cosine],
                "share": share,
                "queries": queries,
            }
            for name, cosine, share, queries in zip(GROUPS, *rounded, strict=True)
        }
        return groups | {"disputed": self.disputed}


def class_gradient_pass(subject: Subject, frames: Frames, name: str) -> ClassGradients:
    """Match frames for both tasks, with tracks that hold what annotations say, and compare gradients."""
    tracker, matching = subject.tracker.undisturbed(), subject.matching
    tasks = TwoTasksConfig(high_cost="none")
    state = tracker.initial_state(1)
    sums: list[Tensor] = []
    disputed = 0
    for frame, annotations in progress_bar(frames, f"gradients {name}"):
        with torch.no_grad():
            decoded = tracker.look(frame, state)
        heads, decoded = both_heads(tracker, decoded)
        ties = tie_by_identity(decoded.track_identities, _track_valid(decoded), annotations)
        assignment = two_task_assignment(
            decoded.standard, ties, decoded.track_identities, annotations, matching.cost, tasks, 1.0
        )
        gradients = feature_gradients(heads, assignment, annotations, matching.loss)
        groups = Polarity.of(assignment)
        sums.append(_products(groups, *gradients))
        detected = (assignment.detection or assignment).targets
        disputed += int((groups.both & (detected != assignment.targets))[-1].sum())
        with torch.no_grad():
            state = tracker.carry(decoded, _outcome(decoded, assignment, annotations))
    dot, first, second, count = torch.stack(sums).sum(0).double().cpu().numpy()
    lengths = first + second
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = dot / np.sqrt(first * second)
        shares = np.nan_to_num(lengths / lengths[:, :1])
    return ClassGradients(cosines, shares, count / len(frames), disputed / len(frames))


def both_heads(tracker: Tracker, decoded: Decoded) -> tuple[HeadsApart, Decoded]:
    """Both class heads over the decoder's features as leaves, and the look with their logits."""
    features = decoded.standard.embeddings.detach().requires_grad_()
    logits = branch_logits(tracker.detector.class_branches, features)
    own = replace(decoded.standard, embeddings=features, logits=logits, detection_logits=None)
    told = tracker.classify(own, decoded.state)
    told = replace(told, detection_logits=told.as_detected.logits)
    heads = HeadsApart(features, told.as_detected.logits, told.logits)
    return heads, replace(decoded, predictions=(told.detach(), *decoded.predictions[1:]))


def gradients_table(found: ClassGradients) -> list[str]:
    """Lines of a table for people, of the last layer."""
    lines = [f"{'class gradients':<17}{'queries':>9}{'cosine':>9}{'share':>8}   detecting against tracking"]
    for name, cosine, share, queries in zip(
        GROUPS, found.cosines[-1], found.shares[-1], found.queries[-1], strict=True
    ):
        shown = "-" if np.isnan(cosine) else f"{cosine:.2f}"
        lines.append(f"{name:<17}{queries:>9.1f}{shown:>9}{share:>8.2f}")
    return lines


def _track_valid(decoded: Decoded) -> Tensor:
    return decoded.queries.valid[:, decoded.queries.object_count :]


def _outcome(decoded: Decoded, assignment: Assignment, annotations: Annotations) -> Outcome:
    identities = identities_after(assignment, decoded.track_identities, annotations)
    return Outcome({}, identities, assignment.targets)


def _products(groups: Polarity, detecting: Tensor, tracking: Tensor) -> Tensor:
    """[4, L, G]: of each layer and group, the gradients' product, their squared lengths, and the queries."""
    members = torch.stack([groups.both, groups.neither, groups.detected, groups.tracked])
    masks = torch.cat([members.any(0, keepdim=True), members]).float()

    def summed(values: Tensor) -> Tensor:
        return (values * masks).sum((2, 3)).transpose(0, 1)

    pairs = ((detecting, tracking), (detecting, detecting), (tracking, tracking))
    return torch.stack([*(summed((one * other).sum(-1)) for one, other in pairs), masks.sum((2, 3)).T])
