"""The kit that reads goldens, on a small folder made here: other seed and sizes, every kind of exception."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, relative_error

FILL = """
import zlib
import numpy as np

def fill_parameter(name, shape, seed=0):
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape).astype(np.float32)

def fill_state_dict(shapes, seed=0):
    return {name: fill_parameter(name, tuple(shape), seed) for name, shape in shapes.items()}

def fill_input(name, shape, seed=0, scale=1.0):
    return scale * fill_parameter("input/" + name, shape, seed)
"""
SEED = 7


def _filled(name: str, *shape: int) -> torch.Tensor:
    generator = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def _golden(
    root: Path, manifest: dict[str, Any], outputs: dict[str, Any] | None = None, name: str = "here/one"
) -> Golden:
    (root / name).mkdir(parents=True)
    (root / "fill.py").write_text(FILL)
    (root / name / "manifest.json").write_text(json.dumps({"seed": SEED, "state_dict": {}} | manifest))
    np.savez(root / name / "outputs.npz", **(outputs or {}))
    return Golden(root, name, [])


def test_plain_weights_and_prefixes(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {"state_dict": {"a.w": [2, 3], "b.w": [4]}, "extra_state_dict": {"m.w": [5]}})
    assert set(golden.state_dict()) == {"a.w", "b.w"}
    assert torch.equal(golden.state_dict("a.")["w"], _filled("a.w", 2, 3))
    assert torch.equal(golden.extra_state_dict()["m.w"], _filled("m.w", 5))


def test_changed_weights(tmp_path: Path) -> None:
    names = ["x.scaled", "y.attn.proj", "refs", "head.bias", "head.cls_branches.2.w", "head.cls_branches.0.w"]
    golden = _golden(
        tmp_path,
        {
            "state_dict": {name: [3] for name in names} | {"code_weights": [10], "stored": [2]},
            "parameter_overrides": {
                "every parameter ending in attn.proj": "fill * 0.25",
                "refs": "sigmoid(2 * fill)",
            },
            "state_dict_scale": {"*.scaled": 3.0, "head.bias": 2.0, "head.bias (added)": -4.5},
            "state_dict_overrides": {
                "head.cls_branches.i.*": "one shared module; every i filled with the values of index 0",
                "code_weights": "constructor constant",
                "stored": "4*fill (so that it matters)",
            },
            "state_dict_tied_aliases": {"alias": "x.scaled"},
            "state_dict_constants": {"constant": [1, 0.2]},
        },
        {"sd_stored": np.array([5.0, 6.0])},
    )
    weights = golden.state_dict()
    torch.testing.assert_close(weights["x.scaled"], 3 * _filled("x.scaled", 3))
    torch.testing.assert_close(weights["y.attn.proj"], 0.25 * _filled("y.attn.proj", 3))
    torch.testing.assert_close(weights["refs"], (2 * _filled("refs", 3)).sigmoid())
    torch.testing.assert_close(weights["head.bias"], 2 * _filled("head.bias", 3) - 4.5)
    torch.testing.assert_close(weights["head.cls_branches.2.w"], _filled("head.cls_branches.0.w", 3))
    torch.testing.assert_close(weights["code_weights"], torch.tensor([1.0] * 8 + [0.2] * 2))
    assert weights["stored"].tolist() == [5, 6]  # the archive's value wins, and is float32
    assert weights["stored"].dtype == torch.float32
    assert torch.equal(weights["alias"], weights["x.scaled"])
    torch.testing.assert_close(weights["constant"], torch.tensor([1.0, 0.2]))


def test_weight_gain_reaches_convolutions_outside_channel_attention(tmp_path: Path) -> None:
    where = "img_backbone.* parameters of rank 4 without .ese. in the name"
    shapes = {"img_backbone.c": [1, 2, 1, 1], "img_backbone.ese.c": [1, 2, 1, 1], "img_backbone.n": [2]}
    golden = _golden(tmp_path, {"state_dict": shapes, "weight_gain": {"where": where, "factor": 1.5}})
    for name, gain in zip(shapes, (1.5, 1, 1), strict=True):
        torch.testing.assert_close(golden.state_dict()[name], gain * _filled(name, *shapes[name]))


def test_overrides_can_point_at_a_sibling(tmp_path: Path) -> None:
    overrides = {"w": "4*fill", "costs": "constructor constant (not filled), value in outputs.npz sd_<name>"}
    shapes = {"w": [2], "costs": [2]}
    sibling = {"state_dict": shapes, "state_dict_overrides": overrides}
    _golden(tmp_path, sibling, {"sd_costs": np.array([1.0, 2.0])}, "here/first")
    golden = _golden(
        tmp_path, {"state_dict": shapes, "state_dict_overrides": "as in first"}, name="here/second"
    )
    torch.testing.assert_close(golden.state_dict()["w"], 4 * _filled("w", 2))
    assert golden.state_dict()["costs"].tolist() == [1, 2]


@pytest.mark.parametrize("change", ["twice the fill", "fill ** 2", "sigmoid of something"])
def test_an_unknown_change_is_refused(tmp_path: Path, change: str) -> None:
    golden = _golden(tmp_path, {"state_dict": {"w": [2]}, "parameter_overrides": {"w": change}})
    with pytest.raises(AssertionError, match="cannot read"):
        golden.state_dict()


def test_a_rule_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {"state_dict": {"w": [2]}, "state_dict_scale": {"*.missing": 2.0}})
    with pytest.raises(AssertionError, match="matches no parameter"):
        golden.state_dict()


def test_inputs(tmp_path: Path) -> None:
    hows = {
        "plain": "fill_input scale=3 (pos | feat)",
        "named": "fill_input('named') scale=1",
        "other": "fill_input scale=1 name=elsewhere",
        "points": "sigmoid(fill_input scale=1.5)",
        "none": "zeros",
        "stored": "in outputs.npz",
        "in_stored": "in outputs.npz",
        "special": "fill_input scale=1, minus 1",
    }
    entries = {name: {"shape": [2, 2], "how": how} for name, how in hows.items()}
    # An output may share an input's name; the input is the `in_` entry.
    golden = _golden(tmp_path, {"inputs": entries}, {"in_stored": np.arange(4), "stored": np.zeros(4)})
    torch.testing.assert_close(golden.input("plain"), 3 * _filled("input/plain", 2, 2))
    torch.testing.assert_close(golden.input("named"), _filled("input/named", 2, 2))
    torch.testing.assert_close(golden.input("other"), _filled("input/elsewhere", 2, 2))
    torch.testing.assert_close(golden.input("points"), (1.5 * _filled("input/points", 2, 2)).sigmoid())
    assert not golden.input("none").any()
    assert golden.input("stored").tolist() == golden.input("in_stored").tolist() == [0, 1, 2, 3]
    with pytest.raises(AssertionError, match="the test must build"):
        golden.input("special")
    torch.testing.assert_close(golden.filled("special", scale=2), 2 * _filled("input/special", 2, 2))


def test_comparison(tmp_path: Path) -> None:
    golden = _golden(tmp_path, {}, {"x": np.array([3.0, 4.0]), "ids": np.array([1, 2])})
    golden.check("x", torch.tensor([3.0, 4.0 + 4e-4]))
    golden.check("ids", torch.tensor([1, 2]))
    with pytest.raises(AssertionError, match="relative error"):
        golden.check("x", torch.tensor([3.0, 4.0 + 6e-4]))
    with pytest.raises(AssertionError, match="1 of 2 integers differ"):
        golden.check("ids", torch.tensor([1, 3]))
    with pytest.raises(AssertionError, match="shape"):
        golden.check("x", torch.zeros(1, 2))


def test_values_that_are_not_finite_must_agree() -> None:
    ours, golden = np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf])
    assert relative_error(ours, golden) == 0
    assert relative_error(np.array([1.0, 0.0, np.inf]), golden) == np.inf
    assert relative_error(np.array([np.nan]), np.array([1.0])) == np.inf
    assert relative_error(np.array([0.5]), np.array([0.0])) == 0.5
