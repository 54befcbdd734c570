"""A model file whose resting parts are stored in half the bytes: what is rounded, and what reading gives."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import rig
from syncl.checkpoints.model_file import initialise_from, load_model, save_model
from syncl.detectors.seen_rigs import SeenRigs
from syncl.trackers.model import InputConfig, ModelConfig

SCRIPT = Path(__file__).parents[2] / "tools" / "evidence" / "halved_parts.py"
PART = "detector.image_encoder"
RIGS = SeenRigs(6, 6, 65.0, 90.0)


def call(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(InputConfig((64, 96)), rig.DETECTORS["petr"], rig.TRACKERS["mutr3d"])
    save_model(
        tmp_path / "whole.safetensors", config.build().state_dict(), config, None, {"note": "x"}, None, RIGS
    )
    return tmp_path / "whole.safetensors"


def test_kernels_of_the_parts_are_rounded_and_read_as_float32(model: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    done = call(model, half, PART)
    assert done.returncode == 0, done.stderr
    whole, read = load_model(model), load_model(half)
    assert (
        read.tracker.detector.rigs == RIGS
        and read.config == whole.config
        and read.notes == whole.notes == {"note": "x"}
    )
    rounded = 0
    with safe_open(half, framework="pt") as file:
        for name, was in whole.tracker.state_dict().items():
            found, stored = read.tracker.state_dict()[name], file.get_tensor(name)
            kernel = name.startswith(f"{PART}.") and was.dim() > 1
            assert found.dtype == was.dtype and (stored.dtype == torch.float16) == kernel
            torch.testing.assert_close(found, was.half().float() if kernel else was, rtol=0, atol=0)
            rounded += kernel
    assert rounded > 5 and half.stat().st_size < model.stat().st_size
    fresh = whole.config.build()
    initialise_from(fresh, half)
    for name, value in read.tracker.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=0, atol=0)


def test_a_part_that_is_not_there_is_named(model: Path, tmp_path: Path) -> None:
    done = call(model, tmp_path / "half.safetensors", "detector.image_encode")
    assert done.returncode == 1 and "no matrix or kernel in 'detector.image_encode'" in done.stderr
    assert not (tmp_path / "half.safetensors").exists()
