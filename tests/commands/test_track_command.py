"""`syncl track` beyond one process and the model's own tracker."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from syncl.checkpoints.model_file import load_model, save_model
from syncl.commands.generate import generate
from syncl.commands.track import track
from syncl.data.nuscenes.index import open_nuscenes
from syncl.dataset_description import NUSCENES
from syncl.detectors import ProposalConfig
from syncl.errors import SynclError
from syncl.recipes.synthetic import small_detr3d, small_mutr3d
from syncl.runs.processes import Processes
from syncl.runs.track.parts import SceneParts, scene_parts
from syncl.runs.track.reports import ALONE, Reports
from syncl.runs.track.run import track_to_file, tracking_origin
from syncl.runs.track.scenes import cameras_seen, track_scene
from syncl.trackers import PfTrackConfig, SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig
from two import in_two

SCENES, KEYFRAMES = 3, 2
DETECTOR = dataclasses.replace(
    small_detr3d(), queries=32, layers=2, proposals=ProposalConfig(count=16, nearby=True)
)
SPLIT = {"version": "v1.0-trainval", "split": "val"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny scenes, a tracker that reports something, and its detector alone."""
    root = tmp_path_factory.mktemp("track")
    generate(
        root / "world",
        train_scenes=0,
        val_scenes=SCENES,
        keyframes=KEYFRAMES,
        width=96,
        height=64,
        seed=6,
        workers=1,
    )
    torch.manual_seed(0)
    # Untrained scores lie near the prior of 0.01.
    eager = dataclasses.replace(small_mutr3d(), birth_score=0.0102, keep_score=0.01, output_score=0.01)
    config = ModelConfig(InputConfig((64, 96), exact_resize=False), DETECTOR, eager)
    weights = config.build().state_dict()
    save_model(root / "tracker.safetensors", weights, config)
    alone = dataclasses.replace(config, tracker=SingleFrameConfig())
    detector = {name: tensor for name, tensor in weights.items() if name.startswith("detector.")}
    # So that some detections pass the score that greedy tracking starts from.
    bias = f"detector.class_branches.{DETECTOR.layers - 1}.6.bias"
    detector[bias] = detector[bias] + 3.6
    save_model(root / "detector.safetensors", detector, alone)
    return root


NAMES = {
    "CAM_FRONT": "FRONT_CENTER",
    "CAM_FRONT_RIGHT": "FRONT_RIGHT",
    "CAM_FRONT_LEFT": "FRONT_LEFT",
    "CAM_BACK": "REAR_CENTER",
    "CAM_BACK_LEFT": "REAR_LEFT",
    "CAM_BACK_RIGHT": "REAR_RIGHT",
}


def test_cameras_of_other_names_get_the_weights_of_their_direction(folder: Path, tmp_path: Path) -> None:
    """By name, left and right would change places; DETR3D has weights for each camera."""
    version = SPLIT["version"]
    shutil.copytree(folder / "world", tmp_path / "world")
    tables = tmp_path / "world" / version
    sensors = json.loads((tables / "sensor.json").read_text())
    for sensor in sensors:
        sensor["channel"] = NAMES.get(sensor["channel"], sensor["channel"])
    (tables / "sensor.json").write_text(json.dumps(sensors))
    model = load_model(folder / "tracker.safetensors")
    written = []
    for place, data in enumerate((folder / "world", tmp_path / "world")):
        index = open_nuscenes(data, version, cache=False)
        target = tmp_path / f"{place}.json"
        track_to_file(model, index, index.scene_names[:1], Reports(target, quiet=True), device="cpu")
        written.append(target.read_bytes())
    assert written[0] == written[1]
    with pytest.warns(UserWarning, match="by where they look: FRONT_CENTER, FRONT_RIGHT, FRONT_LEFT, REAR_C"):
        seen = cameras_seen(model.config.input, model.tracker.detector, index, index.scene_names)
    assert seen.cameras == tuple(NAMES.values())


def test_every_scene_is_dealt_to_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = ("a", "b", "c", "d", "e")
    shares = [Processes(rank, 3).deal(scenes) for rank in range(3)]
    assert shares == [("a", "d"), ("b", "e"), ("c",)]
    assert Processes(4, 8).deal(scenes[:2]) == ()
    monkeypatch.setenv("WORLD_SIZE", "1")
    alone = Processes.current()
    assert alone == Processes() and alone.is_main and alone.gather([1, 2]) == [1, 2]


def asked(folder: Path, output: Path) -> list[str]:
    command = ["track", str(folder / "tracker.safetensors"), "--data", str(folder / "world")]
    command += ["--output", str(output), "--threads", "1"]
    return command + [part for name, value in SPLIT.items() for part in (f"--{name}", value)]


LAUNCHERS = {
    "torchrun": "torch.distributed.run --nproc-per-node 2 --master-port 29523",
    # On CPUs, too, this is what makes it start more than one process.
    "accelerate": "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 "
    "--mixed_precision no --dynamo_backend no --main_process_port 29524",
}


def launch(
    folder: Path, output: Path, script: Path, *arguments: Path, launcher: str = "torchrun"
) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", *LAUNCHERS[launcher].split(), script, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*start, *asked(folder, output)], env=environment, capture_output=True, text=True, timeout=300
    )


# Says at the very end of a process when it was connected.
PARTING = """
import atexit, os, sys
from pathlib import Path
from torch import distributed
told, connected = Path(sys.argv.pop(1)) / os.environ["RANK"], distributed.is_initialized
during = []
atexit.register(lambda: told.write_text(
    f"connected: {all(during)} while shares are gathered, {connected()} at the end"
))
from syncl.runs.processes import Processes
gather = Processes.gather
Processes.gather = lambda self, share: during.append(connected()) or gather(self, share)
from syncl.__main__ import main
main()
"""


def parting(folder: Path, output: Path, told: Path) -> None:
    sys.argv = ["syncl", str(told), *asked(folder, output)]
    exec(PARTING, {})


@pytest.mark.parametrize(
    "launcher", ["forked", *(pytest.param(name, marks=pytest.mark.slow) for name in LAUNCHERS)]
)
def test_two_processes_write_the_file_that_one_writes(
    folder: Path, tmp_path: Path, launcher: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """They also disconnect before they end.

    Threads of a connection that is still open end the interpreter with SIGABRT, now and then.
    """
    # The same number of threads, or sums may round differently.
    alone, output = folder / f"alone_{launcher}.json", folder / f"two_{launcher}.json"
    track(folder / "tracker.safetensors", data=folder / "world", output=alone, threads=1, **SPLIT)
    capfd.readouterr()
    if launcher == "forked":
        in_two(parting, folder, output, tmp_path)
        printed = capfd.readouterr().out
    else:
        (tmp_path / "parting.py").write_text(PARTING)
        finished = launch(folder, output, tmp_path / "parting.py", tmp_path, launcher=launcher)
        assert finished.returncode == 0, finished.stderr[-2000:]
        printed = finished.stdout
    assert printed.count("wrote") == 1
    content = output.read_bytes()
    assert content == alone.read_bytes()
    results = json.loads(content)["results"]
    assert len(results) == SCENES * KEYFRAMES and any(results.values())
    told = "connected: True while shares are gathered, False at the end"
    assert [(tmp_path / rank).read_text() for rank in "01"] == [told, told]


KILLED = """
import os, signal
import sys, time
from syncl.runs.track import run
from syncl.__main__ import main
steps = run.track_scene
def dying(*arguments):
    for number, sample in enumerate(steps(*arguments)):
        if os.environ["RANK"] == "1" and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ["RANK"] == "0" and number == 3:
            yield sample
            time.sleep(600)  # it has much to do yet
        yield sample
run.track_scene = dying
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("launched", [True, False], ids=["torchrun", "by hand"])
def test_a_killed_process_takes_the_others_with_it_within_a_minute(
    folder: Path, tmp_path: Path, launched: bool
) -> None:
    script, output = tmp_path / "killed.py", tmp_path / "out" / "x.json"
    script.write_text(KILLED)
    if launched:
        begin = time.monotonic()
        finished = launch(folder, output, script)
        assert finished.returncode != 0 and time.monotonic() - begin < 120
        return
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, *asked(folder, output)],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ranks[1].wait(timeout=300)
    begin = time.monotonic()
    _, said = ranks[0].communicate(timeout=60)
    print(f"ended {time.monotonic() - begin:.1f} s after the other: {said}")
    assert ranks[0].returncode != 0 and "another of the 2 processes has stopped" in said
    assert "Traceback" not in said and not output.exists()


GREEDY = (
    ("detector", "greedy"),
    ("detector", "greedy-observed"),
    ("tracker", "greedy"),
    pytest.param("tracker", "greedy-observed", marks=pytest.mark.slow),
)


@pytest.mark.parametrize(("model", "choice"), GREEDY)
def test_detections_are_tied_together_greedily(folder: Path, choice: str, model: str) -> None:
    output = folder / f"{model}_{choice}.json"
    track(folder / f"{model}.safetensors", data=folder / "world", output=output, tracker=choice, **SPLIT)
    results = json.loads(output.read_text())["results"]
    assert len(results) == SCENES * KEYFRAMES
    if model == "tracker":
        return  # Nothing scores high enough there; the file is complete all the same.
    boxes = [box for sample in results.values() for box in sample]
    assert len(boxes) > KEYFRAMES
    for sample in results.values():
        identities = [box["tracking_id"] for box in sample]
        assert len(identities) == len(set(identities))
        assert all(box["tracking_score"] >= 0.25 for box in sample)


def test_contradicting_options_are_refused(folder: Path) -> None:
    options = {"data": folder / "world", "output": folder / "never.json", **SPLIT}
    with pytest.raises(SynclError, match=r"--task detection has no tracks for --tracker greedy"):
        track(folder / "tracker.safetensors", task="detection", tracker="greedy", **options)
    with pytest.raises(SynclError, match=r"cannot track.*--tracker greedy"):
        track(folder / "detector.safetensors", **options)
    assert not (folder / "never.json").exists()


@pytest.fixture(scope="module")
def forecaster(folder: Path) -> Path:
    """PF-Track with fresh weights that reports what it sees."""
    torch.manual_seed(0)
    small = PfTrackConfig(hidden=32, layers=1, birth_score=0.0, record_score=0.0, output_score=0.0, future=3)
    config = ModelConfig(InputConfig((64, 96), exact_resize=False), DETECTOR, small)
    save_model(folder / "forecaster.safetensors", config.build().state_dict(), config)
    return folder / "forecaster.safetensors"


def test_forecasts_are_written_when_asked(folder: Path, forecaster: Path) -> None:
    options = {"data": folder / "world", "threads": 1, **SPLIT}
    track(forecaster, output=folder / "plain.json", **options)
    track(forecaster, output=folder / "foreseen.json", forecasts=True, **options)
    plain, foreseen = (json.loads((folder / f"{name}.json").read_text()) for name in ("plain", "foreseen"))
    assert "forecast_step_s" not in plain["meta"] and foreseen["meta"]["forecast_step_s"] == 0.5
    tracked = load_model(forecaster)
    index = open_nuscenes(folder / "world", SPLIT["version"])
    samples = list(
        track_scene(
            tracked.tracker.eval(), tracked.config.input, index, index.split_scenes(SPLIT["split"])[0], "cpu"
        )
    )
    boxes = [box for sample in foreseen["results"].values() for box in sample]
    assert boxes and all(len(box["forecast"]) == 3 for box in boxes)
    found = {(box["sample_token"], box["tracking_id"]): box["forecast"] for box in boxes}
    compared = 0
    for sample, objects in samples:
        for identity, box, ahead in zip(objects.identities, objects.boxes, objects.forecasts):
            if (key := (sample.token, identity)) in found:
                points = np.concatenate([ahead, np.full((3, 1), box[2])], axis=1)
                pose = sample.global_from_vehicle
                expected = points @ pose[:2, :3].T + pose[:2, 3]
                np.testing.assert_allclose(found[key], expected, atol=1e-6)
                compared += 1
    assert compared > KEYFRAMES
    for box in boxes:
        del box["forecast"]
    assert foreseen["results"] == plain["results"]


def test_forecasts_of_trackers_that_have_none_are_refused(folder: Path) -> None:
    options = {"data": folder / "world", "output": folder / "never.json", **SPLIT}
    with pytest.raises(SynclError, match="--forecasts: this tracker does not forecast"):
        track(folder / "tracker.safetensors", forecasts=True, **options)
    assert not (folder / "never.json").exists()


def test_some_scenes_alone(folder: Path) -> None:
    options = {"data": folder / "world", "tracker": "greedy", **SPLIT}
    detector = folder / "detector.safetensors"
    every = open_nuscenes(folder / "world", SPLIT["version"]).split_scenes(SPLIT["split"])
    track(detector, output=folder / "all.json", **options)
    # A scene named twice is tracked once.
    track(detector, output=folder / "one.json", scenes=every[1:2] * 2, **options)
    whole, part = (json.loads((folder / name).read_text())["results"] for name in ("all.json", "one.json"))
    assert len(part) == KEYFRAMES and all(whole[sample] == boxes for sample, boxes in part.items())
    track(detector, output=folder / "few.json", min_score=0.2, classes=("car", "bus"), **options)
    chosen = json.loads((folder / "few.json").read_text())["results"]
    assert chosen == {
        sample: [
            box for box in boxes
            if box["tracking_name"] in ("car", "bus") and box["tracking_score"] >= 0.2
        ]
        for sample, boxes in whole.items()
    }  # fmt: skip
    with pytest.raises(SynclError, match="no class 'cra'; did you mean 'car'"):
        track(detector, output=folder / "never.json", classes=("cra",), **options)
    with pytest.raises(SynclError, match="no class 'barrier'; there are car, truck, bus, trailer,"):
        track(detector, output=folder / "never.json", classes=("barrier",), **options)
    with pytest.raises(SynclError, match="scene 'scene-x' is not in split 'val' of "):
        track(detector, output=folder / "never.json", scenes=("scene-x",), **options)


def test_finished_scenes_are_kept_and_going_on_gives_the_same_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncl.runs.track import run

    model, output, tracked = folder / "tracker.safetensors", tmp_path / "results.json", []
    options = {"data": folder / "world", "output": output, "threads": 1, **SPLIT}

    def stopping(*arguments, most: int):
        if len(tracked) == most:
            raise KeyboardInterrupt
        tracked.append(arguments[3])
        return track_scene(*arguments)

    monkeypatch.setattr(run, "track_scene", lambda *arguments: stopping(*arguments, most=0))
    with pytest.raises(KeyboardInterrupt):
        track(model, **options)
    assert not list(tmp_path.iterdir()), "nothing was finished"
    monkeypatch.setattr(run, "track_scene", lambda *arguments: stopping(*arguments, most=2))
    with pytest.raises(KeyboardInterrupt):
        track(model, **options)
    parts = tmp_path / "results.json.scenes"
    assert not output.exists() and len(list(parts.glob("scene-*.json"))) == 2
    with pytest.raises(SynclError, match=r"scenes: holds 2 scenes .* go on with --resume, or start anew"):
        track(model, **options)
    with pytest.raises(SynclError, match=r"of another tracking: task was 'tracking', is 'detection'"):
        track(model, task="detection", resume=True, **options)
    monkeypatch.setattr(run, "track_scene", lambda *arguments: stopping(*arguments, most=99))
    done = track(model, resume=True, **options)
    assert len(tracked) == len(set(tracked)) == SCENES and not parts.exists()
    assert (done.frames, done.earlier_frames) == (SCENES * KEYFRAMES, 2 * KEYFRAMES)
    track(model, **options | {"output": tmp_path / "straight.json"})
    assert output.read_bytes() == (tmp_path / "straight.json").read_bytes()


def test_finished_scenes_of_options_that_are_left_out_now_are_of_another_tracking(tmp_path: Path) -> None:
    output, made = tmp_path / "results.json", {"device": "cpu", "threads": 1, "torch": "2"}

    def finish(scene: str, **asked: object) -> None:
        with scene_parts(output, made | asked, scene != "a", False, ALONE) as parts:
            parts.write(scene, {"sample": b"[]"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish("a", classes=["car"])
    with pytest.raises(SynclError, match=r"another tracking: classes was \['car'\], is None"):
        finish("b")
    with pytest.raises(KeyboardInterrupt):
        finish("b", classes=["car"])


def test_scenes_of_other_classes_or_ranges_are_of_another_tracking(folder: Path) -> None:
    def made(**changes: object) -> dict[str, object]:
        described = dataclasses.replace(NUSCENES, **changes)
        index = open_nuscenes(folder / "world", SPLIT["version"], dataset=described)
        return tracking_origin({}, index, "cpu", ALONE)

    nearer = made(ranges_m=dict.fromkeys(NUSCENES.classes, 20.0))
    assert "dataset" not in made() and len({nearer["dataset"], made(tracked=("car",))["dataset"]}) == 2


def test_a_damaged_scene_is_named_and_another_process_at_the_same_output_is_told(
    folder: Path, tmp_path: Path
) -> None:
    from syncl.locks import only_one

    with only_one(tmp_path / "results.json.scenes"), pytest.raises(SynclError, match="is at work in it"):
        track(
            folder / "tracker.safetensors", data=folder / "world", output=tmp_path / "results.json", **SPLIT
        )
    parts = SceneParts(tmp_path)
    parts.write("scene/1", {"a": b"[]", "b": b'[{"x":1.5}]'})
    assert parts.read("scene/1", ["a", "b"]) == {"a": b"[]", "b": b'[{"x":1.5}]'}
    with pytest.raises(SynclError, match=r"scene-scene%2F1\.json: damaged"):
        parts.read("scene/1", ["a", "c"])
