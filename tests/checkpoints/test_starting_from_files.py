"""Starting from files that do not fit, or are not whole: the message names what differs."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rig import DETECTORS
from syncl.checkpoints.model_file import initialise_from, load_model, save_model
from syncl.errors import SynclError
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

PETR = dataclasses.replace(DETECTORS["petr"], classes=("car", "bus"))
MODEL = ModelConfig(InputConfig((64, 96)), PETR, SingleFrameConfig())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, MODEL.build().state_dict(), MODEL)
    return path


def test_a_model_of_another_size_names_keys_and_both_shapes(file: Path) -> None:
    larger = dataclasses.replace(
        MODEL, detector=dataclasses.replace(PETR, queries=15, classes=("car", "bus", "tram"))
    )
    with pytest.raises(SynclError) as caught:
        initialise_from(larger.build(), file)
    message = str(caught.value)
    assert "detector.reference_points.weight has shape (12, 3) instead of (15, 3)" in message
    assert "detector.class_branches.0.6.weight has shape (2, 32) instead of (3, 32)" in message


def test_a_file_of_another_model_says_that_nothing_fits(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_model(path, {"something.else": torch.ones(2)}, MODEL)
    with pytest.raises(SynclError, match="no parameter has a name in common"):
        initialise_from(MODEL.build(), path)
    with pytest.raises(SynclError, match=r"detector\.image_encoder\.backbone\.conv1\.weight is missing"):
        load_model(path)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_model_file_says_so(file: Path, kept: float) -> None:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    for attempt in (lambda: load_model(file), lambda: initialise_from(MODEL.build(), file)):
        with pytest.raises(SynclError, match=r"not a complete safetensors file|an empty file"):
            attempt()


def test_a_foreign_safetensors_file_is_sent_to_convert(tmp_path: Path) -> None:
    path = tmp_path / "published.safetensors"
    save_file({"img_backbone.conv1.weight": torch.ones(2)}, path)
    with pytest.raises(SynclError, match="see `syncl convert`"):
        initialise_from(MODEL.build(), path)
