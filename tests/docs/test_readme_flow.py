"""The README's lines from images to figures, as they stand there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from syncl.commands.main import main

from .documented import ROOT


def quick_lines() -> list[list[str]]:
    (block,) = re.findall(r"<!-- quick -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def test_the_first_page_shows_the_readmes_lines() -> None:
    page = (ROOT / "docs" / "index.md").read_text()
    assert len(quick_lines()) == 5 and all(line[0] in page for line in quick_lines())


@pytest.mark.slow
def test_the_readmes_lines_end_in_tracks_one_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in quick_lines():
        main(line)
    assert json.loads(Path("metrics.json").read_text())["amota"] > 0.3
    assert Path("tracks.mp4").stat().st_size > 100_000
