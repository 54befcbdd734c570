"""The order of streaming training: parts of scenes, walked through in time order, slot by slot."""

from itertools import islice

import pytest

from syncl.data.stream_clips import StreamSampler, scene_parts
from syncl.errors import SynclError

PARTS = scene_parts([5, 4, 7, 1], 2)


def keys(slots: int, steps: int, step: int = 0, seed: int = 3) -> list[list[tuple[int, int]]]:
    flat = list(islice(StreamSampler(PARTS, slots, seed, step), steps * slots))
    return [flat[start : start + slots] for start in range(0, len(flat), slots)]


def test_scenes_are_cut_into_halves_the_first_the_longer() -> None:
    assert (
        range(3),
        range(3, 5),
        range(5, 7),
        range(7, 9),
        range(9, 13),
        range(13, 16),
        range(16, 17),
    ) == PARTS
    assert scene_parts([5], 1) == (range(5),)
    assert scene_parts([2], 4) == (range(1), range(1, 2))


def test_steps_of_several_frames_take_the_clips_that_start_one_behind_the_other() -> None:
    # Scenes of 7 and 2 and 8 frames have 5, 0 and 6 clips of 3; the second part of a scene starts at frame 4.
    assert scene_parts([7, 2, 8], 1, clip_length=3) == (range(0, 5, 3), range(5, 11, 3))
    assert [list(part) for part in scene_parts([7, 2, 8], 2, 3)] == [[0], [4], [5], [9]]
    assert scene_parts([2], 1, clip_length=3) == ()


@pytest.mark.parametrize("slots", [1, 2, 3, 10])
def test_a_slot_walks_whole_parts_in_time_order(slots: int) -> None:
    steps = keys(slots, 60)
    for slot in range(slots):
        walked = [step[slot] for step in steps]
        while len(walked) > 4:
            number, frame = walked[0]
            (part,) = (part for part in PARTS if frame in part)
            assert frame == part.start
            assert walked[: len(part)] == [(number, inside) for inside in part][: len(walked)]
            walked = walked[len(part) :]


def test_every_part_comes_once_a_pass() -> None:
    walked = [step[0] for step in keys(1, 17 * 3)]
    for number in range(3):
        assert sorted(frame for found, frame in walked if found == number) == list(range(17))
    assert [frame for number, frame in walked if number == 0] != [
        frame for number, frame in walked if number == 1
    ]


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("step", [1, 2, 7, 40])
def test_going_on_equals_coming_there(slots: int, step: int) -> None:
    assert keys(slots, 20, step) == keys(slots, 20 + step)[step:]


def test_the_seed_decides_the_order() -> None:
    assert keys(2, 30) == keys(2, 30) != keys(2, 30, seed=4)


def test_processes_share_one_order() -> None:
    # Two processes with one row each take turns at the batches of one process with two rows.
    together = keys(2, 12)
    flat = list(islice(StreamSampler(PARTS, 2, 3), 24))
    assert [row[1] for row in together] == flat[1::2]


def test_nothing_to_walk_through_is_refused() -> None:
    with pytest.raises(SynclError, match="0 scene parts for 2 slots"):
        StreamSampler((), 2, 0)
    with pytest.raises(SynclError, match="cut into 0 parts"):
        scene_parts([3], 0)
