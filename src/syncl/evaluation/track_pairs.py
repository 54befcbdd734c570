"""What the tracking metrics look at, and the pairs of it that are close enough to be matched."""

from dataclasses import dataclass

import numpy as np

from syncl.dataset_description import NUSCENES, DatasetDescription, Measures
from syncl.evaluation.arrays import Bools, EvaluationBoxes, Floats, GroundTruth, Ints
from syncl.evaluation.filtering import evaluated_boxes
from syncl.evaluation.track_building import Frames, TrackBoxes, build_tracks, order_frames

_NOISE_M = 1e-9
_FAR_M = 20_000.0
"""From the origin; beyond any map of nuScenes', the official way of measuring loses millimetres and more."""


@dataclass(frozen=True)
class TrackPairs:
    """Close pairs of one class: P pairs of an annotated box (truth) and a tracked one (guess).

    Sorted by step (place of the frame in its scene), then frame, truth, guess.

    Attributes:
        step: [P]. frame: [P]. truth: [P] row of the annotated box. guess: [P] row of the tracked box.
        distance_m: [P] distance of centres with all guesses of the frame present.
        distance_alone_m: [P] the same when the frame has no other guess. Both follow the official code, whose
            matrix products round differently for one guess than for several.
        noisy: [P] whether that difference matters (boxes on top of each other, or at the limit).
        reach_m: pairs farther apart are not close; 2 m officially.
    """

    step: Ints
    frame: Ints
    truth: Ints
    guess: Ints
    distance_m: Floats
    distance_alone_m: Floats
    noisy: Bools
    reach_m: float = Measures.track_distance_m

    def __len__(self) -> int:
        return len(self.step)


def close_pairs(
    truth: TrackBoxes, guesses: TrackBoxes, frames: Frames, reach_m: float = Measures.track_distance_m
) -> TrackPairs:
    """Finds all pairs of boxes of a frame nearer to each other than 2 m.

    Distances are the official library's, rounding included, as long as boxes lie within 20 km of the global
    frame's origin. It takes them from products of coordinates, which at a map projection's millions of metres
    is wrong by up to 0.1 m; there, distances are those of the differences.

    Args:
        truth: annotated boxes of one class.
        guesses: tracked boxes of the same class.
        frames: the frames of both.
        reach_m: in the place of 2 m.
    """
    every = np.arange(len(frames) + 1)
    truth_begin, guess_begin = np.searchsorted(truth.frame, every), np.searchsorted(guesses.frame, every)
    shared = np.flatnonzero((np.diff(truth_begin) > 0) & (np.diff(guess_begin) > 0))
    columns: list[tuple[Ints, Ints, Floats, Floats]] = []
    # Squared norms as the official library takes them; the products go through the same matrix routines.
    truth_norm = np.einsum("ij,ij->i", truth.xy, truth.xy)
    guess_norm = np.einsum("ij,ij->i", guesses.xy, guesses.xy)
    distant = max(truth_norm.max(initial=0), guess_norm.max(initial=0)) > _FAR_M**2
    limit = reach_m**2 + 1e-6
    truth_edges, guess_edges = truth_begin.tolist(), guess_begin.tolist()
    for frame in shared.tolist():
        first, last = truth_edges[frame], truth_edges[frame + 1]
        start, stop = guess_edges[frame], guess_edges[frame + 1]
        own, others = truth.xy[first:last], guesses.xy[start:stop]
        far = distant and max(truth_norm[first:last].max(), guess_norm[start:stop].max()) > _FAR_M**2
        if far:
            squared = ((own[:, None] - others) ** 2).sum(axis=2)
        else:
            squared = -2 * (own @ others.T)
            squared += truth_norm[first:last, None]
            squared += guess_norm[start:stop]
        row, column = np.nonzero(squared < limit)
        if not len(row):
            continue
        if stop - start > 1 and not far:
            product = np.matmul(own, others[:, :, None])[:, :, 0]
            alone = -2 * product[column, row] + truth_norm[first + row] + guess_norm[start + column]
        else:
            alone = squared[row, column]
        columns.append((row + first, column + start, squared[row, column], alone))
    if not columns:
        none = np.zeros(0, np.int64)
        return TrackPairs(none, none, none, none, np.zeros(0), np.zeros(0), np.zeros(0, bool), reach_m)
    rows, guess = (np.concatenate([column[index] for column in columns]) for index in (0, 1))
    together, single = (np.concatenate([column[index] for column in columns]) for index in (2, 3))
    distance, alone = np.sqrt(np.maximum(together, 0)), np.sqrt(np.maximum(single, 0))
    noisy = (np.abs(distance - alone) > _NOISE_M) | ((distance < reach_m) != (alone < reach_m))
    step = frames.step[truth.frame[rows]]
    order = np.argsort(step, kind="stable")
    order = order[((distance < reach_m) | (alone < reach_m))[order]]
    return TrackPairs(
        step=step[order],
        frame=truth.frame[rows[order]],
        truth=rows[order],
        guess=guess[order],
        distance_m=distance[order],
        distance_alone_m=alone[order],
        noisy=noisy[order],
        reach_m=reach_m,
    )


@dataclass(frozen=True)
class EvaluatedTracks:
    """Annotated and tracked boxes that are evaluated, and the tracks they make.

    Attributes:
        frames: the samples in scene and time order.
        objects: the annotated boxes.
        found: the tracked boxes.
        own: the tracks of the annotated ones.
        guesses: those of the tracked ones, with their mean scores.
        dataset: classes and thresholds.
    """

    frames: Frames
    objects: EvaluationBoxes
    found: EvaluationBoxes
    own: TrackBoxes
    guesses: TrackBoxes
    dataset: DatasetDescription = NUSCENES

    @classmethod
    def of(cls, tracks: EvaluationBoxes, truth: GroundTruth) -> "EvaluatedTracks":
        """What is evaluated of unfiltered results and annotations."""
        dataset = truth.dataset
        tracked = [dataset.classes.index(name) for name in dataset.tracked]
        annotations = truth.boxes.select(np.isin(truth.boxes.label, tracked))
        with np.errstate(invalid="ignore"):
            objects = evaluated_boxes(annotations, truth)
            found = evaluated_boxes(tracks, truth)
        frames = order_frames(truth.samples)
        own = build_tracks(objects, frames, average_scores=False)
        return cls(frames, objects, found, own, build_tracks(found, frames, average_scores=True), dataset)

    def of_class(self, name: str) -> tuple[TrackBoxes, TrackBoxes, TrackPairs]:
        """Annotated and tracked boxes of a class, and their close pairs."""
        label = self.dataset.classes.index(name)
        own, guesses = self.own.of_class(label), self.guesses.of_class(label)
        return own, guesses, close_pairs(own, guesses, self.frames, self.dataset.measures.track_distance_m)
