"""Opening checkpoint files: wrappers, prefixes, damage, pickles that hold code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from syncl.checkpoints.published import parameters, read_published, write_published
from syncl.errors import SynclError

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
    with pytest.raises(SynclError, match="truncated, or not a checkpoint"):
        read_published(path)


def test_old_style_files_are_read_and_their_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert read_published(path).keys() == WEIGHTS.keys()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SynclError, match="truncated"):
        read_published(path)


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


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match="there is no such checkpoint"):
        read_published(tmp_path / "absent.pth")
