"""ConvNeXt against timm's, and the names of those who publish its weights."""

import re
from collections.abc import Callable

import pytest
import torch
from golden import Golden
from torch import Tensor
from torch.nn import functional

from syncl.backbones import ConvNeXtConfig
from syncl.checkpoints.convnext import as_timm_names

AUTHORS = {
    r"stem\.(\d)": r"downsample_layers.0.\1",
    r"stages\.(\d)\.downsample": r"downsample_layers.\1",
    r"stages\.(\d)\.blocks\.(\d+)\.conv_dw": r"stages.\1.\2.dwconv",
    r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc": r"stages.\1.\2.pwconv",
    r"stages\.(\d)\.blocks\.(\d+)\.": r"stages.\1.\2.",
}
MMPRETRAIN = AUTHORS | {
    r"stages\.(\d)\.blocks\.(\d+)\.conv_dw": r"stages.\1.\2.depthwise_conv",
    r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc": r"stages.\1.\2.pointwise_conv",
}


@pytest.fixture
def golden(open_golden: Callable[[str], Golden]) -> Golden:
    return open_golden("timm/convnext")


def renamed(weights: dict[str, Tensor], rules: dict[str, str]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in weights.items():
        rule = next((rule for rule in rules if re.match(rule, name)), None)
        found[re.sub(rule, rules[rule], name) if rule else name] = tensor
    return found


def torchvision_name(name: str) -> str:
    """Written down from a state dict of torchvision 0.29.1."""
    if found := re.fullmatch(r"stem\.(\d\..*)", name):
        return f"features.0.{found[1]}"
    if found := re.fullmatch(r"stages\.(\d)\.downsample\.(.*)", name):
        return f"features.{2 * int(found[1])}.{found[2]}"
    found = re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(conv_dw|norm|mlp\.fc1|mlp\.fc2|gamma)(.*)", name)
    if found is None:
        return f"classifier.{name}"
    part = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}
    return f"features.{2 * int(found[1]) + 1}.{found[2]}.{part.get(found[3], 'layer_scale')}{found[4]}"


def test_stages_equal_timms(golden: Golden) -> None:
    stages, (depths, widths) = (1, 2, 3, 4), (tuple(golden.config[name]) for name in ("depths", "dims"))
    net = ConvNeXtConfig(None, depths, widths, out_stages=stages).build().eval()
    missing, unknown = net.load_state_dict(golden.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"output_norms"}
    assert {name.split(".")[0] for name in unknown} == {"head"}
    for norm in net.output_norms.values():
        norm.forward = lambda features: features  # timm's classifier has none there.
    with torch.inference_mode():
        for stage, features in zip(stages, net(golden.input("img")), strict=True):
            golden.check(f"stage{stage}", features)


def test_outputs_have_norms_over_channels(golden: Golden) -> None:
    net = ConvNeXtConfig(None, (1, 1, 2, 1), (8, 12, 16, 24), out_stages=(2,)).build().eval()
    net.load_state_dict(golden.state_dict(), strict=False)
    with torch.inference_mode():
        (found,) = net(golden.input("img"))
    raw = torch.from_numpy(golden.outputs["stage2"]).permute(0, 2, 3, 1)
    torch.testing.assert_close(found.permute(0, 2, 3, 1), functional.layer_norm(raw, (12,), eps=1e-6))


@pytest.mark.parametrize("rules", [AUTHORS, MMPRETRAIN])
def test_other_publishers_names_lead_to_timms(golden: Golden, rules: dict[str, str]) -> None:
    weights = {name: tensor for name, tensor in golden.state_dict().items() if not name.startswith("head.")}
    published = renamed(weights, rules)
    assert not any("blocks" in name or name.startswith("stem") for name in published)
    # Some have the linear layers as 1x1 convolutions.
    published = {
        name: tensor[..., None, None] if re.search(r"p\w+conv\d\.weight", name) else tensor
        for name, tensor in published.items()
    }
    found = as_timm_names(published)
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_torchvisions_names_lead_to_timms(golden: Golden) -> None:
    weights = {name: tensor for name, tensor in golden.state_dict().items() if not name.startswith("head.")}
    published = {
        torchvision_name(name): tensor[:, None, None] if name.endswith("gamma") else tensor
        for name, tensor in weights.items()
    }
    assert "features.1.0.layer_scale" in published and "features.5.1.block.5.bias" in published
    found = as_timm_names(published)
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
