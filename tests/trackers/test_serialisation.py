"""States as plain values and tensors: every kind of state, through JSON and back."""

import orjson
import pytest
import torch

from looks import same
from syncl.errors import SynclError
from syncl.recipes import find_recipe
from syncl.trackers import GreedyConfig, Tracker
from syncl.trackers.serialisation import put_together, take_apart


def tracker_of(name: str) -> Tracker:
    recipe, _, kind = name.partition(", ")
    tracker = find_recipe(recipe).model.build()
    return GreedyConfig().build(tracker.detector) if kind == "greedy" else tracker


@pytest.mark.parametrize(
    "name",
    [
        "streampetr_synthetic",
        "petrv2_synthetic",
        "mutr3d_detr3d_synthetic",
        "pf-track_detr3d_synthetic",
        "streampetr_synthetic, greedy",
    ],
)
def test_every_kind_of_state_survives(name: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def other_numbers(tensor: torch.Tensor) -> torch.Tensor:
        drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        return drawn.to(tensor.dtype) if tensor.is_floating_point() else (8 * drawn).to(tensor.dtype)

    state = tracker_of(name).initial_state(2).map(other_numbers)
    content, tensors = take_apart(state)
    restored = put_together(orjson.loads(orjson.dumps(content)), tensors, "memory")
    assert same(restored, state)
    memories = {tensor.data_ptr() for tensor in tensors.values() if tensor.numel()}
    assert len(memories) == sum(tensor.numel() > 0 for tensor in tensors.values())


def test_what_is_no_state_is_named() -> None:
    content, tensors = take_apart(tracker_of("mutr3d_detr3d_synthetic").initial_state())
    with pytest.raises(SynclError, match=r"file: the tensor state\.queries\.codes is missing"):
        put_together(
            content, {name: t for name, t in tensors.items() if name != "state.queries.codes"}, "file"
        )
    with pytest.raises(SynclError, match="file: unknown structure 'Strange'"):
        put_together({**content, "type": "Strange"}, tensors, "file")
    with pytest.raises(SynclError, match=r"file: TrackState: .*surprise"):
        put_together({**content, "surprise": 1}, tensors, "file")
    with pytest.raises(SynclError, match="file: holds a int"):
        put_together(3, tensors, "file")
