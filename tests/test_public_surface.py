"""What `import syncl` offers, and that it stays that way."""

import inspect

import pytest

import syncl


def test_the_public_functions():
    assert syncl.__all__ == [
        "check_rig",
        "demo",
        "evaluate",
        "generate",
        "load",
        "open_recording",
        "plot",
        "prepare",
        "render",
        "report",
        "track",
        "train",
    ]
    for name in syncl.__all__:
        function = getattr(syncl, name)
        assert callable(function) and function.__name__ == name and inspect.getdoc(function)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = syncl.nonsense
