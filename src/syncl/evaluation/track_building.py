"""From boxes to tracks: mean scores, holes filled, the frames in order.

All of it is official behaviour, down to the rounding: thresholds often equal a track's score, so a score that
is off by one unit in the last place changes which boxes are counted.
"""

from dataclasses import dataclass, fields

import numpy as np

from syncl.evaluation.arrays import EvaluationBoxes, Floats, Ints, Samples


@dataclass(frozen=True)
class Frames:
    """The samples in scene and time order: frame f is the f-th of them.

    Attributes:
        of_sample: [S] frame of each sample.
        scene: [S] scene of each frame.
        step: [S] place of each frame within its scene.
        timestamp_us: [S] of each frame.
    """

    of_sample: Ints
    scene: Ints
    step: Ints
    timestamp_us: Ints | Floats

    def __len__(self) -> int:
        return len(self.scene)


@dataclass(frozen=True)
class TrackBoxes:
    """Boxes of tracks, sorted by frame and, within a frame, in the order in which they are matched.

    Attributes:
        frame: [N] index into `Frames`.
        track: [N] number of the track; the same identity in two scenes is two tracks.
        label: [N] number of the class.
        xy: [N, 2] metres.
        score: [N] score of the track.
        source: [N] row of the `EvaluationBoxes` it was built from; -1 for a box that fills a hole.
    """

    frame: Ints
    track: Ints
    label: Ints
    xy: Floats
    score: Floats
    source: Ints

    def __len__(self) -> int:
        return len(self.frame)

    def of_class(self, label: int) -> "TrackBoxes":
        """The boxes of one class."""
        rows = np.flatnonzero(self.label == label)
        return TrackBoxes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def order_frames(samples: Samples) -> Frames:
    """Sorts samples by scene and time."""
    order = np.lexsort((samples.timestamp_us, samples.scene))
    of_sample = np.empty(len(order), np.int64)
    of_sample[order] = np.arange(len(order))
    scene = samples.scene[order]
    first = np.searchsorted(scene, scene)
    return Frames(of_sample, scene, np.arange(len(order)) - first, samples.timestamp_us[order])


def build_tracks(boxes: EvaluationBoxes, frames: Frames, average_scores: bool) -> TrackBoxes:
    """Groups boxes by identity within each scene and fills the holes of each track.

    A frame between the first and the last box of a track that has no box of it receives an interpolated one,
    of the class of the next box. The official code mixes up the two weights of the interpolation; so does
    this function.

    Args:
        boxes: filtered boxes.
        frames: the frames they are in.
        average_scores: whether each box gets the mean score of its track (results) or keeps its own.
    """
    frame = frames.of_sample[boxes.sample]
    order = np.argsort(frame, kind="stable")
    frame, xy, label = frame[order], boxes.centre[order, :2], boxes.label[order]
    score, identity = boxes.score[order], boxes.identity[order]
    track = _number_tracks(frames.scene[frame], identity)
    if average_scores:
        score = _mean_scores(track, score)
    left, right, hole = _holes(frame, track)
    timestamp = frames.timestamp_us
    rest = (timestamp[frame[right]] - timestamp[hole]).astype(np.float64)
    weight = rest / (timestamp[frame[right]] - timestamp[frame[left]])
    between = (1.0 - weight[:, None]) * xy[left] + weight[:, None] * xy[right]
    # Not simply the score: the sum may be one unit in the last place below it.
    between_score = (1.0 - weight) * score[left] + weight * score[right]
    # Filled boxes come last in a frame, in the order in which their tracks began: that of track numbers.
    place = np.concatenate([np.arange(len(frame)), len(frame) + track[left]])
    frame = np.concatenate([frame, hole])
    sequence = np.lexsort((place, frame))
    return TrackBoxes(
        frame=frame[sequence],
        track=np.concatenate([track, track[left]])[sequence],
        label=np.concatenate([label, label[right]])[sequence],
        xy=np.concatenate([xy, between])[sequence],
        score=np.concatenate([score, between_score])[sequence],
        source=np.concatenate([order, np.full(len(hole), -1)])[sequence],
    )


def _number_tracks(scene: Ints, identity: Ints) -> Ints:
    """Numbers pairs of scene and identity in the order in which they first occur."""
    if not len(scene):
        return np.zeros(0, np.int64)
    key = scene * (int(identity.max()) + 1) + identity
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


def _mean_scores(track: Ints, score: Floats) -> Floats:
    """Mean score of each box's track [N], rounded as `numpy.mean` of the track's scores alone is."""
    order = np.argsort(track, kind="stable")
    count = np.bincount(track)
    begin = np.cumsum(count) - count
    mean = np.zeros(len(count))
    for length in np.unique(count):
        tracks = np.flatnonzero(count == length)
        rows = order[begin[tracks][:, None] + np.arange(length)]
        mean[tracks] = np.ascontiguousarray(score[rows]).mean(axis=1)
    return mean[track]


def _holes(frame: Ints, track: Ints) -> tuple[Ints, Ints, Ints]:
    """Every frame a track skips: the boxes before and after it, and the frame itself."""
    order = np.lexsort((frame, track))
    left, right = order[:-1], order[1:]
    skipped = np.where(track[left] == track[right], frame[right] - frame[left] - 1, 0)
    skipped = np.maximum(skipped, 0)
    within = np.arange(skipped.sum()) - np.repeat(np.cumsum(skipped) - skipped, skipped)
    left, right = np.repeat(left, skipped), np.repeat(right, skipped)
    return left, right, frame[left] + 1 + within
