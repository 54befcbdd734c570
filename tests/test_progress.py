"""What commands say is what they were told to say."""

import re
from pathlib import Path

import pytest

from syncl.progress import plain_console

SOURCE = Path(__file__).parents[1] / "src" / "syncl"


@pytest.mark.parametrize("name", ["run[old]/m.json", "run[/b]/m.json", ":car:.json", "[bold]x", "n" * 300])
def test_names_are_printed_as_they_are(name: str, capsys: pytest.CaptureFixture[str]):
    plain_console().print(f"wrote {name}")
    assert capsys.readouterr().out == f"wrote {name}\n"


def test_nothing_else_prints_by_rules_of_its_own():
    makers = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"\bConsole\(|from rich import print", path.read_text())
    ]
    assert makers == ["progress.py"]
