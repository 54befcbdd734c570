"""The guides' command lines, run one after another as a reader would, at sizes that a test can afford."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from syncl.checkpoints.model_file import save_model
from syncl.commands.convert import convert
from syncl.commands.main import main
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.recording import write_recording
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.models import find_model
from syncl.recipes import find_recipe

from .documented import ROOT, command_lines

GUIDES = sorted((ROOT / "docs").glob("guide-*.md"))
# Published files that a reader has: format, and the recipe whose random weights stand for them.
PUBLISHED = {
    "f3_all.pth": ("pf_track", "pf-track_petr_v99_320x800"),
    "petr.pth": ("petr", "petr_v99_320x800"),
}
NUSCENES_LIDAR = np.array([[0.0, 1, 0, 0.94], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1]])
ONE_STEP = ("training.steps=1", "training.data.batch_size=1", "training.data.clip_length=2")
SMALL_IMAGES = "model.input.image_size=[64,160]"
ONE_FRAME = ("training.steps=1", "training.data.clip_length=1", SMALL_IMAGES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drives under two names of versions: scenes 61 and 103 train and validate both."""
    root = tmp_path_factory.mktemp("guides") / "world"
    generate_world(root, WorldConfig(1, 1, keyframes=2, width=352, height=128, seed=1000), workers=1)
    shutil.copytree(root / "v1.0-mini", root / "v1.0-trainval")
    return root


def affordable(line: str) -> list[str]:
    """The line's arguments, with one step in the place of a training, and few scenes in that of many."""
    line = re.sub(r"--train-scenes \d+", "--train-scenes 9", line)
    line = re.sub(r"--val-scenes \d+", "--val-scenes 1 --keyframes 3", line)
    line = re.sub(r"training\.validate_every=\d+", "training.validate_every=1", line)
    arguments = shlex.split(line, comments=True)
    if arguments[0] == "convert":
        arguments += ["--set", SMALL_IMAGES]
    if arguments[0] == "diagnose":
        arguments += ["--frames", "2", "--cost-steps", "1"]
    if arguments[0] == "train":
        frames = ONE_FRAME if "petr_v99" in line or "my.yaml" in line else ONE_STEP
        arguments += ["--threads", "1", "--set", *frames]
    return arguments


def test_every_guide_has_lines_to_run() -> None:
    assert len(GUIDES) == 6 and all(any(command_lines(page)) for page in GUIDES)


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guides_lines_run(
    page: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    lines = list(command_lines(page))
    for name in ("world", "nuscenes", "my_data"):
        Path(name).symlink_to(world)
    for name, (kind, recipe) in PUBLISHED.items():
        if any(f"convert {name}" in line for line in lines):
            model = find_recipe(recipe).model
            save_model(Path("random.safetensors"), model.build().state_dict(), model)
            convert(Path("random.safetensors"), Path(name), to=kind)
    if any("my_rig" in line for line in lines):
        frames = SceneStream(open_nuscenes(world, "v1.0-mini"), "scene-0103", ImageOptions((128, 352)))
        write_recording(list(frames), Path("my_rig"), vehicle_from_lidar=NUSCENES_LIDAR)
    if not any("--output runs/tracker" in line for line in lines):
        Path("runs/tracker").mkdir(parents=True)
        shutil.copy(find_model("demo"), "runs/tracker/model.safetensors")
    for line in lines:
        try:
            main(affordable(line))
        except SystemExit as stopped:
            pytest.fail(f"syncl {line}: ended with {stopped.code}\n{capsys.readouterr().err}")
    written = [
        path for path in tmp_path.rglob("*") if path.suffix in (".json", ".mp4", ".html", ".safetensors")
    ]
    assert len(written) > len(lines) / 2
