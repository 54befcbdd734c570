"""Model files and checkpoints of strangers: every wrong configuration and weight is refused by name."""

from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import save_file

from syncl.checkpoints.model_file import initialise_from, load_model, read_model_file, save_model
from syncl.checkpoints.published import read_published
from syncl.commands.convert import convert
from syncl.errors import SynclError
from syncl.recipes import find_recipe, resolve_recipe

MODEL = find_recipe("petr_synthetic").model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(file, MODEL.build().state_dict(), MODEL)
    return file


def changed(path: Path, target: Path, place: str, value: object) -> Path:
    """The model file with one value of its configuration changed."""
    weights, metadata = read_model_file(path)
    config = orjson.loads(metadata["model"])
    inner = config
    *way, last = place.split(".")
    for name in way:
        inner = inner[name]
    inner[last] = value
    save_file(weights, target, metadata | {"model": orjson.dumps(config).decode()})
    return target


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("detector.layers", "six"),
        ("detector.layers", 10**9),
        ("detector.layers", 0),
        ("detector.layers", True),
        ("detector.dim", 1.5),
        ("detector.dim", -256),
        ("detector.dim", 10**12),
        ("detector.dim", None),
        ("detector.dim", [[256]]),
        ("detector.hidden", 10**18),
        ("detector.dropout", 7.0),
        ("detector.classes", "car"),
        ("detector.classes", [1, 2]),
        ("detector.point_range", [1.0, 2.0]),
        ("detector.image.backbone.style", "tensorflow"),
        ("detector.image", 3),
        ("tracker.max_objects", 10**9),
        ("input.image_size", [10**6, 10**6]),
        ("input.image_size", [0, 0]),
        ("tracker.output_range_m", {"type": "NormaliserConfig"}),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(
    path: Path, tmp_path: Path, place: str, value: object
) -> None:
    file = changed(path, tmp_path / "wrong.safetensors", place, value)
    with pytest.raises(SynclError, match=rf"wrong\.safetensors: model\.{place}\W"):
        load_model(file)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("detector.dimm", 3, "has no field dimm"),
        ("detector.type", "Popen", "unknown configuration type 'Popen'"),
        ("detector.heads", 7, "cannot be built"),
        ("detector.queries", 99_999, "the weights do not fit the configuration"),
        ("detector", {"type": "InputConfig", "image_size": [3, 4]}, r"model\.detector"),
        ("tracker", [], r"model\.tracker"),
    ],
)
def test_what_is_no_model_is_refused(
    path: Path, tmp_path: Path, place: str, value: object, message: str
) -> None:
    with pytest.raises(SynclError, match=rf"wrong\.safetensors.*{message}"):
        load_model(changed(path, tmp_path / "wrong.safetensors", place, value))


@pytest.mark.parametrize("entry", ["model", "notes"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 200 + "]" * 200, "9" * 5000])
def test_a_damaged_header_is_refused(path: Path, tmp_path: Path, entry: str, text: str) -> None:
    weights, metadata = read_model_file(path)
    file = tmp_path / "wrong.safetensors"
    save_file(weights, file, metadata | {entry: text})
    with pytest.raises(SynclError, match=r"wrong\.safetensors"):
        load_model(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(path: Path, tmp_path: Path, value: float) -> None:
    weights, metadata = read_model_file(path)
    name = next(name for name in weights if "neck" in name and name.endswith("weight"))
    weights[name].view(-1)[-1] = value
    file = tmp_path / "broken.safetensors"
    save_file(weights, file, metadata)
    tracker = MODEL.build()
    for read in (load_model, lambda path: initialise_from(tracker, path)):
        with pytest.raises(SynclError, match=rf"broken\.safetensors: {name} has values that are not finite"):
            read(file)


def test_convert_refuses_weights_that_are_not_finite(path: Path, tmp_path: Path) -> None:
    original = tmp_path / "petr.pth"
    convert(path, original, to="petr")
    content = torch.load(original, weights_only=True)
    next(t for name, t in content["state_dict"].items() if "neck" in name)[0] = float("nan")
    torch.save(content, original)
    with pytest.raises(
        SynclError, match=r"petr\.pth: detector\.image_encoder\.neck\.\S+ has values .* not finite"
    ):
        convert(original, tmp_path / "out.safetensors", from_="petr", recipe="petr_synthetic")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_checkpoint_that_holds_itself_ends(tmp_path: Path) -> None:
    itself: dict[str, object] = {}
    itself["state_dict"] = itself
    torch.save(itself, tmp_path / "loop.pth")
    first: dict[str, object] = {}
    first["model"] = {"state_dict": first}
    torch.save(first, tmp_path / "ring.pth")
    for name in ("loop.pth", "ring.pth"):
        with pytest.raises(SynclError, match=rf"{name}: there are no tensors"):
            read_published(tmp_path / name)


def test_settings_of_recipes_have_the_same_bounds() -> None:
    with pytest.raises(SynclError, match=r"model\.detector\.layers: is 1000000000, expected 1 to 64"):
        resolve_recipe("petr_synthetic", changes=("model.detector.layers=1000000000",))
