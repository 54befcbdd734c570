"""An exported folder for all tests of this room."""

from pathlib import Path

import pytest

from exporting import DRIVE, build, config
from syncl.deployment.writing import write_export


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    made, folder = config("pf_track", "petr"), tmp_path_factory.mktemp("onnx")
    done = write_export(folder, build(made), made, DRIVE, source={"model": "fresh"})
    assert done.agreement.identities_equal and done.agreement.box_m < 1e-3
    return folder
