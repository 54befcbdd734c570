"""Options and reports shared by all tests."""

import gc
import os
import signal
from pathlib import Path

import pytest
import torch

from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

PARITY_RECORDS = pytest.StashKey[list[tuple[str, str, float, float]]]()
"""(golden, tensor, relative error or count of differing integers, tolerance) of every parity comparison."""


_PARITY_LIMIT = 1e-4


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--goldens",
        type=Path,
        default=Path(__file__).parent / "goldens",
        help="folder of golden outputs of the original implementations (default: tests/goldens)",
    )
    parser.addoption(
        "--nuscenes-sample",
        type=Path,
        help="folder of one real nuScenes key frame, six images and sample.json (not ours to ship)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PARITY_RECORDS] = []
    # Small tensors: more threads only wait for each other, here and in processes that tests start.
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # What is imported for good is a million objects, and looking for garbage among them a tenth of the time.
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    # What tests import later is looked through every time: seldom, then.
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    records = config.stash[PARITY_RECORDS]
    if not records:
        return
    terminalreporter.section("parity with the original implementations")
    for line in parity_table(records):
        terminalreporter.write_line(line)


def parity_table(records: list[tuple[str, str, float, float]]) -> list[str]:
    """What this run measured: each golden's largest relative error, and where more than 1e-4 is allowed."""
    lines = [f"{'golden':<38}{'tensors':>8}{'largest relative error':>24}{'limit':>9}  where"]
    loose = []
    for golden in sorted({record[0] for record in records}):
        own = [record for record in records if record[0] == golden]
        _, name, error, limit = max(own, key=lambda record: record[2])
        lines.append(f"{golden:<38}{len(own):>8}{error:>24.1e}{limit:>9.0e}  {name}")
        loose += [(golden, label, found, most) for _, label, found, most in own if most > _PARITY_LIMIT]
    above = [record for record in loose if record[2] > _PARITY_LIMIT]
    lines.append(
        f"{len(loose)} of {len(records)} comparisons may exceed {_PARITY_LIMIT:.0e}, {len(above)} do"
    )
    lines += [f"  {golden} {label}: {found:.1e} (limit {most:.0e})" for golden, label, found, most in above]
    return lines


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic world of two training scenes and one for validation, five frames each, to be read only."""
    root = tmp_path_factory.mktemp("small") / "world"
    generate_world(root, WorldConfig(2, 1, keyframes=5, width=96, height=64, seed=3), workers=1)
    return root


@pytest.fixture(scope="session")
def wide_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of one scene a split whose images are large enough for shipped models; to be read only."""
    root = tmp_path_factory.mktemp("wide") / "world"
    generate_world(root, WorldConfig(1, 1, keyframes=3, width=352, height=128, seed=1000), workers=1)
    return root


@pytest.fixture(scope="session")
def nuscenes_sample(request: pytest.FixtureRequest) -> Path:
    """The `sample.json` of a real key frame; skips where none is named."""
    folder: Path | None = request.config.getoption("--nuscenes-sample")
    if folder is None:
        pytest.skip("name a real nuScenes key frame with --nuscenes-sample")
    return folder / "sample.json"


@pytest.fixture(scope="session")
def parity_records(request: pytest.FixtureRequest) -> list[tuple[str, str, float, float]]:
    return request.config.stash[PARITY_RECORDS]


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """Whoever started the tests may have had them ignore Ctrl-C, and processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
