"""Options and reports shared by all tests."""

from pathlib import Path

import pytest

PARITY_RECORDS = pytest.StashKey[list[tuple[str, str, float, float]]]()
"""(golden, tensor, relative error or count of differing integers, tolerance) of every parity comparison."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--goldens",
        type=Path,
        default=Path(__file__).parents[2] / "shared" / "golden",
        help="folder of golden outputs of the original implementations (default: ../shared/golden)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PARITY_RECORDS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    records = config.stash[PARITY_RECORDS]
    if not records:
        return
    terminalreporter.section("parity with the original implementations")
    terminalreporter.write_line(f"{'golden':<40}{'tensors':>8}{'largest relative error':>25}  worst tensor")
    for golden in sorted({record[0] for record in records}):
        own = [record for record in records if record[0] == golden]
        # The worst is the one nearest to, or furthest beyond, its own tolerance.
        _, name, error, tolerance = max(own, key=lambda record: record[2] / max(record[3], 1e-12))
        verdict = "" if error <= tolerance else f"  OVER {tolerance:.0e}"
        terminalreporter.write_line(f"{golden:<40}{len(own):>8}{error:>25.1e}  {name}{verdict}")


@pytest.fixture
def parity_records(request: pytest.FixtureRequest) -> list[tuple[str, str, float, float]]:
    return request.config.stash[PARITY_RECORDS]
