"""Fixtures for comparisons with goldens (`golden.py` says what those are)."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from golden import Golden


@pytest.fixture(scope="session")
def open_golden(
    request: pytest.FixtureRequest, parity_records: list[tuple[str, str, float, float]]
) -> Callable[[str], Golden]:
    """A function from a golden's name (`streampetr/petr_head`) to the golden; skips where it is absent."""
    root: Path = request.config.getoption("--goldens")

    def load(name: str) -> Golden:
        if not (root / "fill.py").is_file():
            pytest.skip(f"no goldens at {root}; name a folder with --goldens")
        if not (root / name / "manifest.json").is_file():
            pytest.skip(f"{root} has no golden {name}")
        return Golden(root, name, parity_records)

    return load
