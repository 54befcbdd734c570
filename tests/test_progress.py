"""What commands say is what they were told to say."""

import re
from pathlib import Path

import pytest
from rich.table import Column, Table

from syncl.progress import plain_console, print_whole

SOURCE = Path(__file__).parents[1] / "src" / "syncl"


@pytest.mark.parametrize("name", ["run[old]/m.json", "run[/b]/m.json", ":car:.json", "[bold]x", "n" * 300])
def test_names_are_printed_as_they_are(name: str, capsys: pytest.CaptureFixture[str]):
    plain_console().print(f"wrote {name}")
    assert capsys.readouterr().out == f"wrote {name}\n"


@pytest.mark.parametrize("columns", ["30", "200"])
def test_tables_keep_their_figures_on_a_narrow_console(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", columns)
    cells = ("MOBILE_PEDESTRIAN_CROSSING_SIGN", *(f"{n}.123" for n in range(9)))
    table = Table(*(Column(no_wrap=True) for _ in cells))
    table.add_row(*cells)
    print_whole(plain_console(), table)
    printed = capsys.readouterr().out
    assert all(f" {cell} " in printed for cell in cells)
    assert max(map(len, printed.splitlines())) == sum(len(cell) + 3 for cell in cells) + 1


def test_nothing_else_prints_by_rules_of_its_own():
    makers = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"\bConsole\(|from rich import print", path.read_text())
    ]
    assert makers == ["progress.py"]
