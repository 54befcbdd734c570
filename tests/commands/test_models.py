"""Models by name."""

import subprocess
import sys
from pathlib import Path

import pytest

import syncl
from syncl.checkpoints.model_file import load_model
from syncl.errors import SynclError
from syncl.models import MODELS, find_model


def test_every_model_that_ships_is_listed_with_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {path.stem for path in MODELS["demo"].path.parent.glob("*.safetensors")}
    assert listed == MODELS.keys() == {"demo", "any-rig"}
    assert all(model.path.stat().st_size <= 12e6 for model in MODELS.values())
    assert syncl.models() == tuple(MODELS.values())
    shown = capsys.readouterr().out
    for model in MODELS.values():
        loaded = load_model(model.path)
        assert model.image_size == loaded.config.input.image_size == loaded.tracker.image_size
        assert model.classes == loaded.tracker.classes and model.cameras == loaded.tracker.cameras
        assert f"{model.name}: {model.summary}" in shown and str(model.path) in shown
        assert model.parameters == sum(part.numel() for part in loaded.tracker.state_dict().values())
    syncl.models("demo")
    assert "# The model behind `syncl demo`" in capsys.readouterr().out


def test_a_model_is_found_by_name_folder_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "runs" / "model.safetensors"
    file.parent.mkdir()
    file.touch()
    assert find_model("demo") == MODELS["demo"].path and find_model(Path("demo")).is_file()
    assert find_model(file) == file and find_model("runs") == Path("runs/model.safetensors")
    assert find_model("other/none.safetensors") == Path("other/none.safetensors")
    (tmp_path / "began" / "checkpoints" / "step_00000050").mkdir(parents=True)
    (tmp_path / "began" / "recipe.json").touch()
    with pytest.raises(SynclError, match=r"began: this training has not ended.*of step 50\. Go on with"):
        find_model("began")
    (tmp_path / "began" / "best.safetensors").touch()
    with pytest.raises(SynclError, match=r"--resume.*or take what was best so far, began/best\.safetensors"):
        find_model("began")
    with pytest.raises(SynclError, match="no model 'dmeo'; did you mean 'demo'"):
        syncl.load("dmeo")
    with pytest.raises(SynclError, match="no model 'other'; models that ship"):
        syncl.models("other")


def test_listing_models_imports_no_torch() -> None:
    code = "import sys, syncl; syncl.models(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
