"""Configurations that older versions wrote: renamed, nested and dropped fields."""

from dataclasses import dataclass, field

import pytest

from syncl.checkpoints import upgrades
from syncl.checkpoints.codec import decode_config, encode_config
from syncl.checkpoints.upgrades import Dropped, Nested, Renamed, replacement
from syncl.errors import SynclError
from syncl.recipes.resolving import apply_changes


@dataclass(frozen=True)
class Inner:
    chance: float = 0.5
    score: float = 0.25


@dataclass(frozen=True)
class Outer:
    width: int
    inner: Inner = field(default_factory=Inner)
    exact: bool = True


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    table = {
        "Outer": (
            Renamed("wide", "width"),
            Nested(("chance", "score"), "inner", "Inner"),
            Dropped("gradients", False, "there are none"),
        )
    }
    monkeypatch.setattr(upgrades, "UPGRADES", table)


def decode(**fields: object) -> Outer:
    return decode_config({"type": "Outer", **fields}, Outer, (Inner,), "a file")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"wide": 3}, Outer(3)),
        ({"width": 3, "exact": False}, Outer(3, exact=False)),
        ({"width": 3, "exact": True, "chance": 0.1, "score": 0.2}, Outer(3, Inner(0.1, 0.2))),
        ({"width": 3, "exact": True, "score": 0.2}, Outer(3, Inner(0.5, 0.2))),
        ({"width": 3, "exact": True, "gradients": False}, Outer(3)),
    ],
)
def test_older_fields_are_read_as_what_they_meant(written, read):
    assert decode(**written) == read


def test_what_is_written_now_is_read_as_it_is():
    config = Outer(3, Inner(0.1, 0.2))
    assert decode_config(encode_config(config), Outer, (Inner,), "a file") == config


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"width": 3, "wide": 4}, "a file: Outer: field wide is called width now, and both are there"),
        ({"width": 3, "chance": 1, "inner": {"type": "Inner"}}, "chance is inside inner now, and both"),
        (
            {"width": 3, "gradients": True},
            r"a file: Outer: field gradients = True .*there are none.*only False",
        ),
        ({"width": 3, "height": 2}, "a file: Outer has no field height; did a newer syncl"),
        ({}, "a file: Outer lacks the field width"),
    ],
)
def test_what_has_no_meaning_any_more_is_named(written, message):
    with pytest.raises(SynclError, match=message):
        decode(**written)


def test_older_settings_on_the_command_line_are_told_their_new_name():
    with pytest.raises(SynclError, match=r"no setting 'chance' there; it is called inner\.chance now"):
        apply_changes(Outer(3), ("chance=0.1",))
    with pytest.raises(SynclError, match="no setting 'height' there; settings: width, inner, exact"):
        apply_changes(Outer(3), ("height=0.1",))
    assert replacement("Outer", "wide") == "it is called width now"
    assert replacement("Outer", "gradients") == "it is gone: there are none"
