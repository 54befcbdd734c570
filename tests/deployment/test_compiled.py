"""A step as one compiled graph; what torch compiles is stood in for where only the way round it is tested."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from deployment.test_export import DRIVE, alike, build, config
from rig import DETECTORS, make_frame
from syncl.deployment.compiled import compiled
from syncl.errors import SynclError
from syncl.trackers import GreedyConfig
from syncl.trackers.compiling import compile_parts, prepare_to_compile
from syncl.trackers.inference import for_inference
from syncl.trackers.live import LiveTracker


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What is to be compiled runs as it is; the options it was to be compiled with."""
    asked: list[dict[str, object]] = []

    def keep(step: Callable[..., object], **options: object) -> Callable[..., object]:
        asked.append(options)
        return step

    monkeypatch.setattr(torch, "compile", keep)
    return asked


def test_a_compiled_tracker_does_what_the_tracker_does_and_is_compiled_once(
    uncompiled: list[dict[str, object]],
) -> None:
    tracker = build(config("pf_track", "streampetr"))
    quick = compiled(tracker)
    state, held = tracker.initial_state(), quick.initial_state()
    for frame in DRIVE[:4]:
        objects, state = tracker.step(frame, state)
        found, held = quick.step(frame, held)
        alike(objects, found)
    assert [options["fullgraph"] for options in uncompiled] == [True]
    # States go on in either.
    alike(tracker.step(DRIVE[4], held)[0], quick.step(DRIVE[4], state)[0])
    quick.step(make_frame(3.0, "b", cameras=3), quick.initial_state())
    assert len(uncompiled) == 2
    with pytest.raises(SynclError, match="of one stream, not of 2"):
        quick.initial_state(2)


def test_states_keep_their_types_in_half_precision(uncompiled: list[dict[str, object]]) -> None:
    quick = compiled(for_inference(build(config()), "bfloat16"))
    with LiveTracker(quick) as live:
        live.warm_up(DRIVE[0])
        live.push(DRIVE[0])
        live.drain()
        result = live.poll()
    assert result is not None and result.objects.boxes.dtype == torch.float32
    _, state = quick.step(DRIVE[1], quick.step(DRIVE[0], quick.initial_state())[1])
    assert state.track_queries.embeddings.dtype == torch.float32 and len(uncompiled) == 1


def test_what_goes_wrong_in_compiling_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Callable[..., object]:
        def broken(*_: object) -> object:
            raise RuntimeError("no such instruction\nand more")

        return broken

    monkeypatch.setattr(torch, "compile", fail)
    quick = compiled(build(config()))
    with pytest.raises(SynclError, match=r"cannot be compiled here \(no such instruction\)"):
        quick.step(DRIVE[0], quick.initial_state())


def test_without_a_compiler_nothing_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SynclError, match=r"needs a C\+\+ compiler, and there is no g\+\+, clang\+\+, c\+\+"):
        compiled(build(config()))
    monkeypatch.setenv("CXX", "mycc")
    with pytest.raises(SynclError, match="there is no mycc"):
        compile_parts(DETECTORS["petr"].build(), "cpu")
    monkeypatch.undo()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert prepare_to_compile("cpu") == tmp_path / "syncl" / "compiled"
    # Torch's own choice, which importing its compiler leaves there.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
    assert prepare_to_compile("cpu") == tmp_path / "syncl" / "compiled"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "syncl" / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    assert prepare_to_compile("cpu") == Path("mine")
    (tmp_path / "taken").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "taken" / "below"))
    with pytest.raises(SynclError, match=r"code cannot be kept: .*taken is a file.*TORCHINDUCTOR_CACHE_DIR"):
        prepare_to_compile("cpu")


def test_trackers_that_pair_on_the_host_say_why_they_are_not_compiled() -> None:
    made = dataclasses.replace(config(), tracker=GreedyConfig(classes=("car",)))
    with pytest.raises(SynclError, match="Greedy ties detections to tracks on the host"):
        compiled(build(made))


@pytest.mark.slow
def test_a_step_compiles_as_one_graph_and_says_the_same(tmp_path: Path) -> None:
    tracker = build(config("mutr3d", "petr"))
    quick = compiled(tracker)
    state, held = tracker.initial_state(), quick.initial_state()
    for frame in DRIVE[:4]:
        objects, state = tracker.step(frame, state)
        found, held = quick.step(frame, held)
        alike(objects, found)


WARM_UP = """
import sys; sys.path.insert(0, {tests!r})
import dataclasses, rig
from deployment.test_export import DRIVE
from syncl.deployment.compiled import compiled
from syncl.trackers import SingleFrameConfig
from torch._dynamo.utils import counters
detector = dataclasses.replace(rig.DETECTORS["petr"], layers=1).build()
quick = compiled(SingleFrameConfig().build(detector).eval())
quick.step(DRIVE[0], quick.initial_state())
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.slow
def test_a_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    places = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    code = WARM_UP.format(tests=str(Path(__file__).parents[1]))
    found = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=places, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append([int(count) for count in done.stdout.split()])
    (hits, misses), (hits_again, misses_again) = found
    assert (hits, misses_again) == (0, 0) and misses == hits_again > 0


@pytest.mark.slow
def test_compiled_parts_train_as_the_others_do() -> None:
    torch.manual_seed(0)
    plain = DETECTORS["petr"].build()
    quick = DETECTORS["petr"].build()
    quick.load_state_dict(plain.state_dict())
    compile_parts(quick, "cpu")
    losses = []
    for detector in (plain.eval(), quick.eval()):
        features = detector.encode(DRIVE[0])
        (predictions,) = detector.decode(detector.initial_queries(features), features)
        loss = predictions.logits.square().mean() + predictions.codes.square().mean()
        loss.backward()
        losses.append((loss.detach(), detector.class_branches[0][0].weight.grad))
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
    assert quick.state_dict().keys() == plain.state_dict().keys()
