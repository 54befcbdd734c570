"""`syncl profile`: costs go to the parts that cause them."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from deployment.test_export import DRIVE, build, config
from syncl.errors import SynclError
from syncl.rendering.figures import save_figure
from syncl.rendering.profile_figure import Bars, profile_figure
from syncl.runs.profile.frame_costs import PARTS, methods_of, profile_model
from syncl.runs.profile.meters import Allocations, Meter, Watch, metered


def test_costs_go_to_the_part_that_runs() -> None:
    now = 0.0
    meter = Meter(lambda: {"seconds": now})
    with meter.part("outer"):
        now += 1
        with meter.part("inner"):
            now += 10
        now += 100
    now += 1000
    assert {name: cost["seconds"] for name, cost in meter.costs.items()} == {"outer": 101, "inner": 10}


def test_memory_is_what_is_there_at_once() -> None:
    allocations = Allocations()
    with allocations:
        allocations.enter("one")
        first = torch.zeros(1000)
        second = first + 1
        del first
        allocations.enter("two")
        (second + 1).view(10, 100)
    assert allocations.peaks == {"one": 8000, "two": 8000}


def test_a_steps_operations_and_waits_are_found_where_they_are() -> None:
    tracker = build(config("mutr3d", "petr"))
    state = tracker.initial_state()
    watch = Watch()
    meter = Meter(watch.read)
    with watch, metered(meter, methods_of(tracker)), meter.part("tracker"):
        tracker.step(DRIVE[0], state)
    flops = {part: cost["flops"] for part, cost in meter.costs.items()}
    assert {*flops} == {"encoder", "tokens", "decoder", "tracker"} and min(flops.values()) > 0
    # Scenes and times are read on the host, and how many rows go on; an image encoder asks for nothing.
    assert meter.costs["encoder"]["waits"] == 0 < meter.costs["tracker"]["waits"]
    assert "encode" not in vars(tracker.detector)


def test_a_recording_is_profiled_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from syncl.checkpoints.model_file import save_model
    from syncl.commands.profile import profile
    from syncl.runs.profile import frame_costs

    made = config("mutr3d", "petr")
    save_model(tmp_path / "model.safetensors", build(made).state_dict(), made)

    class Recording:
        def __len__(self) -> int:
            return 4

        def __iter__(self):
            return iter(DRIVE)

    monkeypatch.setattr(frame_costs, "recording_for", lambda *_: Recording())
    draw = Mock(wraps=frame_costs.draw_frame)
    monkeypatch.setattr(frame_costs, "draw_frame", draw)
    picture = tmp_path / "profile.png"
    found = profile(tmp_path / "model.safetensors", recording=tmp_path, frames=2, output=picture)
    assert [*found.parts] == [*PARTS] and picture.is_file()
    # The first picture, for which fonts and the like are loaded, is none of those that are timed.
    assert draw.call_count == 3
    assert found.images == (2, *DRIVE[0].image_size) and found.frames == 2
    assert all(cost.seconds > 0 for cost in found.parts.values()) and found.parts["data"].gflops is None
    assert found.parts["encoder"].peak_mb and found.parts["tracker"].waits
    with pytest.raises(SynclError, match="exists"):
        profile(tmp_path / "model.safetensors", recording=tmp_path, frames=2, output=picture)
    with pytest.raises(SynclError, match=r"4 frames; 12 are needed"):
        profile_model(tmp_path / "model.safetensors", recording=tmp_path, frames=10)
    with pytest.raises(SynclError, match="--frames: 0 is not between"):
        profile_model(tmp_path / "model.safetensors", frames=0)


def test_a_part_without_a_figure_has_no_bar(tmp_path: Path) -> None:
    figure = profile_figure("a model", ("data", "encoder"), [Bars("GFLOP", {"encoder": 2.0}, ".1f")])
    assert [text.get_text() for text in figure.axes[0].texts] == ["", "2.0"]
    save_figure(figure, tmp_path / "profile.svg")
