"""A tracker small enough to run in a moment, for any number of cameras."""

from pathlib import Path

import pytest
import torch

from syncl.backbones import CpFpnConfig, ResNetConfig
from syncl.checkpoints.model_file import save_model
from syncl.detectors import ImageEncoderConfig, PetrConfig
from syncl.trackers import Mutr3dConfig
from syncl.trackers.model import InputConfig, ModelConfig

ENCODER = ImageEncoderConfig(
    ResNetConfig(depth=None, blocks=(1, 1, 1, 1), stem_width=8, widths=(8, 8, 8, 8), out_stages=(3, 4)),
    CpFpnConfig(32),
)
DETECTOR = PetrConfig(ENCODER, ("car", "bus"), queries=8, dim=32, heads=4, layers=2, hidden=48)
# Scores of fresh weights lie near the prior; births must happen all the same.
TRACKER = Mutr3dConfig(heads=4, hidden=32, birth_score=0.0, keep_score=0.0, output_score=0.0)
SMALL_MODEL = ModelConfig(InputConfig((64, 96)), DETECTOR, TRACKER)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PETR + MUTR3D model file with fresh weights."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, SMALL_MODEL.build().state_dict(), SMALL_MODEL)
    return path
