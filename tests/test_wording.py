"""How numbers are told."""

import pytest

from syncl.wording import counted


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 scenes"), (1, "1 scene"), (2, "2 scenes"), (28130, "28,130 scenes")]
)
def test_a_number_is_told_with_its_noun(number: int, told: str) -> None:
    assert counted(number, "scene") == told


def test_boxes_are_boxes() -> None:
    assert [counted(number, "lost box") for number in (1, 2)] == ["1 lost box", "2 lost boxes"]
