"""MUTR3D's own modules against the originals: query interaction and memory bank."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from golden import Golden
from torch import Tensor, nn

from syncl.checkpoints.mapping import Entry, read_entries, write_entries
from syncl.checkpoints.mutr3d import tracking_entries
from syncl.trackers.memory_bank import MemoryBank
from syncl.trackers.query_interaction import QueryInteraction

OpenGolden = Callable[[str], Golden]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _load(module: nn.Module, ours: str, published: str, weights: dict[str, Tensor]) -> None:
    """Fill a module from a golden through the adapter, and make sure that the way back gives the same."""
    own = {ours + name: tensor for name, tensor in module.state_dict().items()}
    entries: list[Entry] = tracking_entries(own)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    prefixed = {published + name: tensor for name, tensor in weights.items()}
    conversion = read_entries(prefixed, entries, shapes, (), "golden")
    assert not conversion.new
    back = write_entries(conversion.weights, entries).weights
    assert back.keys() == prefixed.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in prefixed.items())
    module.load_state_dict({name.removeprefix(ours): value for name, value in conversion.weights.items()})


def test_query_interaction(open_golden: OpenGolden) -> None:
    golden = open_golden("mutr3d/mutr3d_qim")
    dim, hidden = golden.config["dim_in"], golden.config["hidden_dim"]
    module = QueryInteraction(dim, 8, hidden, golden.config["update_query_pos"]).eval()
    _load(module, "query_interaction.", "query_interact.", golden.state_dict())
    positions, contents = golden.input("qim_query")[None].split(dim, dim=-1)
    outputs = golden.input("qim_output_embedding")[None]
    everyone = torch.ones(outputs.shape[:2], dtype=torch.bool)
    updated = torch.cat(module(positions, contents, outputs, everyone), dim=-1)
    golden.check("query", updated[0])

    # Empty slots must not change what the others become.
    padding = torch.randn(1, 3, dim)
    padded = module(
        torch.cat([positions, padding], dim=1),
        torch.cat([contents, padding], dim=1),
        torch.cat([outputs, padding], dim=1),
        torch.cat([everyone, torch.zeros(1, 3, dtype=torch.bool)], dim=1),
    )
    golden.compare("query, padded slots", torch.cat(padded, dim=-1)[0, :-3], golden.outputs["query"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_memory_bank(open_golden: OpenGolden, mode: str) -> None:
    golden = open_golden("mutr3d/mutr3d_memory_bank")
    config: dict[str, Any] = golden.config
    slots = config["memory_bank_len"]
    bank = MemoryBank(config["dim_in"], 8, config["hidden_dim"], slots).train(mode == "train")
    _load(bank, "memory_bank.", "memory_bank.", golden.state_dict())

    outputs = golden.input("mem_output_embedding")[None]
    memory = golden.input("mem_mem_bank")[None]
    valid = ~golden.input("mem_padding_mask").bool()[None]
    scores = golden.filled("mem_score_logit").sigmoid()[None]
    countdown = golden.input("save_period").long()[None]
    attended = bank.attend(outputs, memory, valid)
    memory, valid, countdown = bank.update(attended, scores, memory, valid, countdown)

    golden.check(f"{mode}_embed", attended[0])
    meaning = golden.manifest["outputs"][f"{mode}_mem_bank"]["meaning"]
    cut = re.search(r"channels 0::(\d+)", meaning)
    assert cut, f"cannot tell which channels the golden holds: {meaning!r}"
    golden.check(f"{mode}_mem_bank", memory[0, ..., :: int(cut[1])])
    golden.check(f"{mode}_mask", (~valid[0]).to(torch.uint8))
    golden.compare(f"{mode}_save_period", countdown[0], golden.outputs[f"{mode}_save_period"].astype(int))
