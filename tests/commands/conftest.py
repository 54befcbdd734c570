"""A tracker small enough to run in a moment, for any number of cameras."""

import dataclasses
from pathlib import Path

import pytest
import torch

from rig import DETECTORS, TRACKERS
from syncl.checkpoints.model_file import save_model
from syncl.trackers.model import InputConfig, ModelConfig

# Scores of fresh weights lie near the prior; births must happen all the same.
TRACKER = dataclasses.replace(TRACKERS["mutr3d"], birth_score=0.0, keep_score=0.0, output_score=0.0)
DETECTOR = DETECTORS["petr"]
SMALL_MODEL = ModelConfig(InputConfig((64, 96)), DETECTOR, TRACKER)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PETR + MUTR3D model file with fresh weights."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, SMALL_MODEL.build().state_dict(), SMALL_MODEL)
    return path
