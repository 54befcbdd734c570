"""Files of earlier versions, whose parameters had other names."""

from pathlib import Path

import pytest
import torch

from syncl.checkpoints.model_file import initialise_from, load_model, read_model_file, save_model
from syncl.checkpoints.upgrades import current_names
from syncl.models import find_model
from syncl.recipes import find_recipe

# Names of all parameters outside image encoders, as version 0.1.0 wrote them.
WRITTEN: dict[str, list[str]] = {}
for line in (Path(__file__).parent / "names_0_1_0.txt").read_text().splitlines():
    if line.startswith("# "):
        WRITTEN[line[2:]] = names = []
    else:
        names.append(line)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_name_that_was_ever_written_has_its_place(name: str) -> None:
    with torch.device("meta"):
        expected = find_recipe(name).model.build().state_dict()
    assert any("cross_attentions" in old for old in WRITTEN[name])
    renamed = current_names(dict.fromkeys(WRITTEN[name]), expected)
    assert set(renamed) == {own for own in expected if "image_encoder" not in own}


def test_the_shipped_model_is_read_whole() -> None:
    path = find_model("demo")
    stored, _ = read_model_file(path)
    loaded = load_model(path).tracker.state_dict()
    for old, tensor in stored.items():
        own = old.replace("cross_attentions.0", "layers.0.cross_attention")
        if own in loaded:
            assert torch.equal(loaded[own], tensor)
    assert len(stored) == len(loaded)


def test_models_start_from_files_with_old_names(tmp_path: Path) -> None:
    model = find_recipe("petr_synthetic").model
    torch.manual_seed(0)
    weights = model.build().state_dict()
    old = {
        name.replace(".layers.1.cross_attention.", ".cross_attentions.1."): t for name, t in weights.items()
    }
    assert old.keys() != weights.keys()
    path = tmp_path / "model.safetensors"
    save_model(path, old, model)
    fresh = model.build()
    report = initialise_from(fresh, path)
    assert not report.fresh and not report.unused
    assert all(torch.equal(tensor, weights[name]) for name, tensor in fresh.state_dict().items())


def test_a_name_that_the_model_has_itself_stays() -> None:
    assert current_names({"cross_attentions.0.weight": 1}, {"cross_attentions.0.weight"}) == {
        "cross_attentions.0.weight": 1
    }
