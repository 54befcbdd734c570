"""Whether a decoder says where an object is, or only where its query was put.

Queries that start on objects, as those lifted from proposals do, teach a small decoder that references are
the truth. Then tracks, which stand where their object is expected, are left behind by everything that moves.
So tracks are put beside their objects, as they would be in the next frame, and decoded: how far off do they
end?

Letters: N tracks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.detectors.passed import Features
from syncl.progress import progress_bar
from syncl.runs.diagnose.passes import Frames, Subject
from syncl.structures import Outcome
from syncl.trackers import Tracker, TrackState
from syncl.training.assignment import tie_by_identity

_ASIDE_M = (0.0, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class PlaceCorrection:
    """Where tracks end that are put beside their objects.

    Attributes:
        aside_m: how far in the ground plane, in a direction that chance chose.
        off_m: median distance there of the last layer's centre from the object's.
        tracks: how many were put there, in all frames.
    """

    aside_m: float
    off_m: float
    tracks: int


@torch.no_grad()
def place_corrections(subject: Subject, frames: Frames, name: str) -> tuple[PlaceCorrection, ...]:
    """Put the tracks of every frame beside their objects; () where a tracker's tracks are no queries.

    Tracks hold what annotations say, as in training, from wherever they were before. The detector alone
    decodes them, with all else of the frame as it is.
    """
    tracker, strategy = subject.tracker.undisturbed(), subject.matching.build(subject.tracker.detector.dim)
    state = tracker.initial_state(1)
    chance = torch.Generator().manual_seed(0)
    off_m: dict[float, list[Tensor]] = {aside_m: [] for aside_m in _ASIDE_M}
    for frame, annotations in progress_bar(frames, f"places {name}"):
        decoded = tracker.look(frame, state)
        if decoded.state.queries is None:
            return ()
        alive = decoded.queries.valid[:, decoded.queries.object_count :]
        held = tie_by_identity(decoded.track_identities, alive, annotations)[0]
        rows = (held >= 0).nonzero()[:, 0]
        centres = annotations.boxes[0, held[rows], :3]
        for aside_m, found in off_m.items():
            angles = 2 * math.pi * torch.rand(len(rows), generator=chance).to(centres)
            away = aside_m * torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=-1)
            seen = _seen_from(tracker, decoded.state, decoded.features, rows, centres + away)
            found.append((seen - centres)[:, :2].norm(dim=-1))
        assignment, _ = strategy.assign(decoded, annotations)
        identities = strategy.identities(decoded, assignment, annotations)
        state = tracker.carry(decoded, Outcome({}, identities, assignment.targets))
    return tuple(
        PlaceCorrection(aside_m, float(torch.cat(found).median()), sum(map(len, found)))
        for aside_m, found in off_m.items()
        if sum(map(len, found))
    )


def _seen_from(
    tracker: Tracker, state: TrackState, features: Features, rows: Tensor, places: Tensor
) -> Tensor:
    """[N, 3] centres that these tracks [N] are decoded to when they are put at places [N, 3]."""
    tracks = state.track_queries
    references = tracks.references.clone()
    references[0, rows] = places.to(references.dtype)
    positions = tracker.detector.track_positions(tracks.positions, references)
    state = replace(state, queries=replace(tracks.moved_to(references), positions=positions))
    queries = tracker.queries(state, features)
    (predictions,) = tracker.detector.decode(
        queries, features, interaction=tracker.interaction(state, queries, None)
    )
    return predictions.codes[-1, 0, queries.object_count + rows, :3]


def corrections_table(corrections: Sequence[PlaceCorrection]) -> list[str]:
    """Lines of a table for people."""
    if not corrections:
        return []
    aside = "".join(f"{one.aside_m:>7.1f}" for one in corrections)
    off = "".join(f"{one.off_m:>7.2f}" for one in corrections)
    return [
        f"tracks put beside their objects by (m)  {aside}",
        f"end off them by (median of {corrections[0].tracks} tracks, m)".ljust(40) + off,
    ]
