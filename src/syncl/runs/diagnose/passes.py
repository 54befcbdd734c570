"""Passes over a scene that look into a tracker: as it tracks, and as training matches it.

Letters: L decoder layers, Q queries, R shown queries, M objects, K candidates an object, Z pairs.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.checkpoints.model_file import load_model
from syncl.detectors.attention_maps import attention_mass, recorded_self_attention
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE, encode_boxes
from syncl.layers.decoder import PARALLEL
from syncl.progress import progress_bar
from syncl.recipes.recipe import Recipe, recipe_from_json
from syncl.recipes.resolving import strategy_for
from syncl.rendering.diagnosis_figures import MatchingCosts
from syncl.runs.diagnose.box_numbers import BoxNumber, box_numbers
from syncl.structures import Annotations, Frame, Outcome, Predictions
from syncl.trackers import GreedyConfig, SingleFrameConfig, Tracker
from syncl.training.assignment import held_objects
from syncl.training.config import TrainingConfig
from syncl.training.strategies.syncl.hybrid_matching import Candidates
from syncl.training.strategies.syncl.query_filtering import fit_mixture
from syncl.training.strategies.syncl.strategy import SynCL, SynclConfig

Frames = tuple[tuple[Frame, Annotations], ...]

# Object queries shown in a map; more would be specks.
_SHOWN = 40


@dataclass(frozen=True)
class Subject:
    """A model and how it was trained.

    Attributes:
        tracker: on its device, in inference mode.
        recipe: of its file; a plain one where the file has none.
    """

    tracker: Tracker
    recipe: Recipe

    @classmethod
    def of_file(cls, path: Path, device: torch.device) -> "Subject":
        """Load a model file.

        Raises:
            SynclError: if it is none, or its model has no track queries.
        """
        loaded = load_model(path, device)
        if isinstance(loaded.config.tracker, SingleFrameConfig | GreedyConfig):
            raise SynclError(f"{path}: this model detects only; track queries are what is looked at here")
        recipe = Recipe(path.stem, "", loaded.config, TrainingConfig())
        if loaded.recipe is not None:
            recipe = recipe_from_json(loaded.recipe, str(path))
        return cls(loaded.tracker, replace(recipe, model=loaded.config))

    @property
    def matching(self) -> SynclConfig:
        """SynCL's own matching, with the costs and filter that the model was, or would be, trained with."""
        trained = strategy_for(self.recipe, "syncl")
        if not isinstance(trained, SynclConfig):
            return SynclConfig()
        own = SynclConfig(trained.cost, trained.loss, two_tasks=trained.two_tasks)
        if trained.one_to_many and trained.decoder == "cross_only":
            own = replace(own, queries_per_object=trained.queries_per_object, filter_cost=trained.filter_cost)
            own = replace(own, filter="mixture" if trained.filter == "none" else trained.filter)
        return own


@dataclass(frozen=True)
class Tracked:
    """What tracking over the frames showed.

    Attributes:
        mass: [L, 2, 4] mean over frames with tracks, see `attention_mass`.
        even: [2, 4] the same if all keys were attended alike.
        maps: L maps [R, R] of the last frame's chosen queries.
        shown_objects: how many of the R are object queries.
        standard: the standard decoder's predictions of the last frame.
        cross: the cross-attention decoder's.
    """

    mass: NDArray[np.float64]
    even: NDArray[np.float64]
    maps: tuple[NDArray[np.float32], ...]
    shown_objects: int
    standard: Predictions
    cross: Predictions


@dataclass(frozen=True)
class Pairs:
    """One-to-many pairs of a frame's persistent objects, before and after the filter."""

    before: Candidates
    after: Candidates
    persistent: Tensor


@dataclass(frozen=True)
class Matched:
    """What training's matching gives over the frames.

    Attributes:
        pairs: one-to-many pairs of every frame with persistent objects.
        numbers: how well each number of the box code is regressed: standard decoder, last layer, one to one.
    """

    pairs: list[Pairs]
    numbers: tuple[BoxNumber, ...]


@torch.no_grad()
def tracking_pass(subject: Subject, frames: Frames, name: str) -> Tracked:
    """Track the frames and look at self-attention and at both decoders.

    Raises:
        SynclError: if no track was born.
    """
    tracker = subject.tracker
    detector = tracker.detector
    state = tracker.initial_state(1)
    masses, evens = [], []
    for frame, _ in progress_bar(frames, "tracking"):
        with recorded_self_attention(detector) as recorded:
            decoded = tracker.look(frame, state, PARALLEL)
        queries, (standard, cross) = decoded.queries, decoded.predictions
        maps = [layer[0].mean(0) for layer in recorded]
        if queries.count > queries.object_count:
            masses.append(torch.stack([attention_mass(layer, queries.object_count) for layer in maps]))
            evens.append(attention_mass(torch.full_like(maps[0], 1 / maps[0].shape[1]), queries.object_count))
        _, state = tracker.conclude(decoded)
    if not masses:
        raise SynclError(
            f"{name}: no track was born in {len(frames)} frames, so there is nothing to look "
            "at; take more frames (--frames) or a model that is trained further"
        )
    scores = standard.logits[-1, 0].sigmoid().amax(-1)
    best = scores[: standard.object_count].topk(min(_SHOWN, standard.object_count)).indices
    tracks = torch.arange(standard.object_count, len(scores), device=scores.device)
    rows = torch.cat([best.sort().values, tracks])
    return Tracked(
        torch.stack(masses).mean(0).double().cpu().numpy(),
        torch.stack(evens).mean(0).double().cpu().numpy(),
        tuple(layer[rows][:, rows].cpu().numpy() for layer in maps),
        len(best),
        standard,
        cross,
    )


@torch.no_grad()
def matching_pass(subject: Subject, frames: Frames, name: str) -> Matched:
    """Match the frames as training does, tracks held as there but without its chance."""
    tracker = subject.tracker.undisturbed()
    matching = subject.matching
    dim = tracker.detector.dim
    device = next(tracker.parameters()).device
    filtering: SynCL = matching.build(dim).to(device)
    everything: SynCL = replace(matching, filter="none").build(dim).to(device)
    state = tracker.initial_state(1)
    found: list[Pairs] = []
    boxes: list[Tensor] = []
    for frame, annotations in progress_bar(frames, f"matching {name}"):
        decoded = tracker.look(frame, state, PARALLEL)
        assignment, ties = filtering.assign(decoded, annotations)
        persistent = held_objects(ties, annotations.labels.shape[1]) & annotations.valid
        if persistent.any():
            cross = decoded.predictions[1]
            before = everything.reliable_pairs(cross, annotations, persistent)
            after = filtering.reliable_pairs(cross, annotations, persistent)
            found.append(Pairs(before, after, persistent))
        boxes.append(_matched_boxes(decoded.standard, assignment.targets[-1, 0], annotations))
        identities = filtering.identities(decoded, assignment, annotations)
        state = tracker.carry(decoded, Outcome({}, identities, assignment.targets))
    codes, truth, labels = torch.cat(boxes).double().cpu().split([CODE_SIZE, CODE_SIZE, 1], dim=1)
    return Matched(found, box_numbers(codes.numpy(), truth.numpy(), labels[:, 0].long().numpy()))


def _matched_boxes(predictions: Predictions, targets: Tensor, annotations: Annotations) -> Tensor:
    """[N, 10 + 10 + 1] box codes of the last layer, of the objects they hold, and the objects' classes."""
    rows = (targets >= 0).nonzero()[:, 0]
    held = targets[rows]
    truth = encode_boxes(annotations.boxes[0])[held]
    return torch.cat([predictions.codes[-1, 0, rows], truth, annotations.labels[0][held, None]], dim=1)


def matching_costs(name: str, frames: list[Pairs]) -> MatchingCosts:
    """The last layer's costs of all frames, and one mixture fitted to them together.

    Raises:
        SynclError: if no frame has persistent objects.
    """
    if not frames:
        raise SynclError(f"{name}: no object is annotated in two frames in a row, so nothing is persistent")
    exists = [pairs.before.valid[-1, 0] for pairs in frames]
    costs = torch.cat([pairs.before.costs[-1, 0][valid] for pairs, valid in zip(frames, exists)])
    kept = torch.cat([pairs.after.valid[-1, 0][valid] for pairs, valid in zip(frames, exists)])
    weights, means, variances = fit_mixture(costs, torch.ones_like(costs, dtype=torch.bool))
    order = means.argsort()
    return MatchingCosts(
        name,
        costs.cpu().numpy(),
        kept.cpu().numpy(),
        weights[order].cpu().numpy(),
        means[order].cpu().numpy(),
        variances[order].cpu().numpy(),
    )


def candidate_counts(frames: list[Pairs]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Queries [L, N] of each persistent object of each frame, before and after the filter."""

    def counted(pairs: Pairs, part: Candidates) -> Tensor:
        return part.valid[:, 0, pairs.persistent[0]].sum(-1)

    before = torch.cat([counted(pairs, pairs.before) for pairs in frames], dim=1)
    after = torch.cat([counted(pairs, pairs.after) for pairs in frames], dim=1)
    return before.cpu().numpy(), after.cpu().numpy()
