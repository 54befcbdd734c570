"""`syncl generate` as users call it."""

from pathlib import Path

import pytest

from syncl.commands.generate import generate
from syncl.errors import SynclError


def test_generate_writes_a_world_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "town"
    generate(
        out, train_scenes=1, val_scenes=1, keyframes=2, width=64, height=32, difficulty="easy", workers=1
    )
    said = capsys.readouterr().out
    assert "v1.0-mini, 1 training scene and 1 validation scene, 4 keyframes" in said
    assert len(list(out.glob("samples/CAM_*/*.jpg"))) == 24
    with pytest.raises(SynclError, match="pass --overwrite"):
        generate(out, train_scenes=1, val_scenes=0, keyframes=2, width=64, height=32, workers=1)


def test_generate_refuses_bad_options_before_touching_anything(tmp_path: Path) -> None:
    out = tmp_path / "town"
    with pytest.raises(SynclError, match="width: -1 is outside"):
        generate(out, width=-1)
    with pytest.raises(SynclError, match="workers: -2"):
        generate(out, workers=-2)
    assert not out.exists()
