"""Opening checkpoint files: wrappers, prefixes, damage, pickles that hold code."""

import pickle
import sys
import types
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from syncl.checkpoints.published import parameters, read_published, write_published
from syncl.errors import SynclError
from syncl.files import read_tensors
from syncl.models import MODELS

WEIGHTS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, 2)}


class Unwelcome:
    """Something a pickle could run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("opened",))


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "meta": {"epoch": 24}},
        {"model": WEIGHTS},
        {"model": {"state_dict": WEIGHTS}},
        {"state_dict": {f"module.{name}": tensor for name, tensor in WEIGHTS.items()}},
    ],
)
def test_wrappers_and_prefixes_are_removed(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    read = read_published(path)
    assert read.keys() == WEIGHTS.keys()
    assert all(torch.equal(read[name], WEIGHTS[name]) for name in WEIGHTS)


def test_a_prefix_that_only_some_names_have_stays() -> None:
    assert set(parameters({"module.a": torch.ones(1), "b": torch.ones(1)}, "x")) == {"module.a", "b"}


def test_written_files_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.pth"
    write_published(path, WEIGHTS, {"classes": "car"})
    assert torch.load(path, weights_only=True)["meta"] == {"classes": "car"}
    assert torch.equal(read_published(path)["b"], WEIGHTS["b"])


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(WEIGHTS, path)
    assert read_published(path).keys() == WEIGHTS.keys()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_file_says_so(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"weights{suffix}"
    big = {"w": torch.randn(1000)}
    if suffix == ".pth":
        torch.save(big, path)
    else:
        save_file(big, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(SynclError, match=r"truncated, or not a checkpoint|an empty file"):
        read_published(path)


def test_old_style_files_are_read_and_their_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert read_published(path).keys() == WEIGHTS.keys()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SynclError, match="truncated"):
        read_published(path)


@pytest.mark.parametrize("content", [b"{}", b"\xd5\x01junk" * 9, pickle.dumps({"state_dict": 1}, protocol=4)])
def test_what_torch_never_wrote_is_not_called_code(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk.pth"
    path.write_bytes(content)
    with pytest.raises(
        SynclError, match=r"truncated, or not a checkpoint \(unsupported operand \d+ is none"
    ) as caught:
        read_published(path)
    assert "weights_only" not in str(caught.value)


def test_code_in_a_pickle_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": WEIGHTS, "extra": Unwelcome()}, path)
    with pytest.raises(SynclError, match="more than tensors"):
        read_published(path)
    assert "opened" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, {"state_dict": {"epoch": 3}}])
def test_files_without_parameters(tmp_path: Path, content: object) -> None:
    path = tmp_path / "empty.pth"
    torch.save(content, path)
    with pytest.raises(SynclError, match="there are no"):
        read_published(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html><head><title>Sign in</title>", "a web page"),
        (b"<html>\n404", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "a pointer of Git LFS"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_is_called_what_it_is(
    tmp_path: Path, content: bytes, said: str, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(SynclError, match=rf"{said}.*, not a checkpoint; download it again"):
        read_published(path)
    with pytest.raises(SynclError, match=rf"{said}.*, not a checkpoint; download it again"):
        read_tensors(path, "model file")


NUMBERS = {"loss": np.float64(0.25), "epoch": np.int64(3), "small": np.float32(1), "yes": np.bool_(True)}


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_beside_the_weights_are_read_over(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "trained.pth"
    content = {"state_dict": WEIGHTS, "meta": NUMBERS, "best": [np.float64(0.5)]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert read_published(path).keys() == WEIGHTS.keys()


def test_other_objects_beside_the_weights_are_named(tmp_path: Path) -> None:
    """mmengine keeps its logs so; they are of a class that is not there."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    path = tmp_path / "mmengine.pth"
    parents = {name: types.ModuleType(name) for name in ("mmengine", "mmengine.logging")}
    with patch.dict(sys.modules, {**parents, module.__name__: module}):
        torch.save({"state_dict": WEIGHTS, "message_hub": {"loss": module.HistoryBuffer()}}, path)
    with pytest.raises(SynclError, match=r"more than .* \(mmengine\.logging\.history_buffer\.History"):
        read_published(path)


def test_a_model_file_of_our_own_is_recognised() -> None:
    with pytest.raises(SynclError, match="is a model file of syncl's own already"):
        read_published(MODELS["demo"].path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match="there is no such checkpoint"):
        read_published(tmp_path / "absent.pth")


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match=f"{tmp_path}: a folder, not a checkpoint"):
        read_published(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(
        SynclError, match="an exported folder, not a model file; take the model file it was made"
    ):
        read_tensors(tmp_path, "model file")
