"""What is left to whoever runs a program: telling it of a frame, choosing, and tying detections together."""

import dataclasses
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import rig
from exporting import CANDIDATES, DRIVE, LEARNED, QUERIES, alike, build, config, exported, far_frame
from rig import make_frame
from syncl.deployment.exported import (
    ExportedLooks,
    load_association,
    load_export,
)
from syncl.deployment.manifest import ASSOCIATION, read_manifest
from syncl.deployment.writing import write_association, write_export
from syncl.detectors.bevformer.bev_memory import BevMemory
from syncl.errors import SynclError
from syncl.geometry.transforms import quaternion_from_rotation
from syncl.structures import Odometry
from syncl.trackers import (
    Cc3dtConfig,
    DqTrackConfig,
    GreedyConfig,
)
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.cc_3dt.association import AssociationConfig

HOST = Path(__file__).parents[2] / "examples" / "onnx_host.py"


@pytest.mark.parametrize("mounted", [False, True], ids=["own", "lidar"])
def test_a_host_of_numpy_tells_bevformer_of_the_motion_as_the_library_does(mounted: bool) -> None:
    motion = runpy.run_path(str(HOST))["motion"]
    lidar = torch.tensor([[0.0, 1, 0, 1], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]], dtype=torch.float64)
    readings = torch.arange(9.0, dtype=torch.float64)
    memory, before = None, None
    for x_m, yaw in ((1210, 6.2), (1213, -3.1), (1211, 0.02)):
        ego = rig.pose(x_m, -3, yaw)
        pose = ego @ lidar if mounted else ego
        odometry = Odometry(lidar[None], quaternion_from_rotation(ego[None, :3, :3]), readings[None])
        frame = dataclasses.replace(
            DRIVE[0], global_from_vehicle=pose[None], odometry=odometry if mounted else None
        )
        told = rig.DETECTORS["bevformer"].precomputed(frame, memory)
        further = (lidar.numpy(), readings.numpy()) if mounted else ()
        numbers, shift = motion(pose.numpy(), before, *further)
        np.testing.assert_allclose(numbers, told["motion"][0].float().numpy(), atol=2e-6, rtol=1e-6)
        np.testing.assert_allclose(shift, told["shift_m"][0].float().numpy(), atol=2e-5)
        memory = BevMemory(torch.zeros(1), torch.zeros(1, 4), torch.tensor([True])).left_at(frame)
        before = pose.numpy()


@pytest.mark.parametrize(
    ("rows", "column", "change", "apart"),
    [
        ([1, 0], 6, 2 * np.pi, 0.0),
        ([0, 1], 0, 2 * np.pi, 2 * np.pi),
        ([0, 1], 0, np.nan, np.inf),
        ([0, 0], 0, 0.0, None),
    ],
    ids=["another order, a whole turn", "elsewhere", "no number", "another identity"],
)
def test_a_host_checks_golden_frames_in_whatever_order_and_no_place_is_a_heading(
    rows: list[int], column: int, change: float, apart: float | None, tmp_path: Path
) -> None:
    boxes = np.arange(18.0).reshape(1, 2, 9)
    told = {
        "objects_valid": np.array([[True, True]]),
        "objects_identities": np.array([[3, 5]]),
        "objects_labels": np.array([[0, 0]]),
        "objects_boxes": boxes,
        "next_next_identity": np.array([6]),
    }
    np.savez(tmp_path / "golden.npz", **{f"0/out/{name}": array for name, array in told.items()})
    moved = boxes.copy()
    moved[0, 1, column] += change
    said = {name: array[:, rows] if array.ndim > 1 else array for name, array in told.items()}
    said["objects_boxes"] = moved[:, rows]

    class Program:
        manifest: ClassVar = {"golden_frames": 1}
        names: ClassVar[list[str]] = []

        def __init__(self, folder: Path) -> None:
            self.told = [*told]

        def run(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return said

    check = runpy.run_path(str(HOST))["check"]
    check.__globals__["Host"] = Program
    if apart is None:
        with pytest.raises(ValueError, match="golden frame 0: identities or classes differ"):
            check(tmp_path)
    else:
        assert check(tmp_path) == pytest.approx(apart)


@pytest.mark.slow
def test_a_host_of_numpy_and_onnxruntime_does_the_same_without_this_library(
    onnx_folder: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, runpy, numpy as np; sys.modules['syncl'] = None; sys.modules['torch'] = None\n"
        f"from pathlib import Path; host = runpy.run_path({str(HOST)!r})\n"
        f"folder = Path({str(onnx_folder)!r}); assert host['check'](folder) < 1e-3\n"
        f"drive, one = np.load({str(tmp_path / 'drive.npz')!r}), host['Host'](folder)\n"
        "for k in range(4):\n"
        "    names = ('images', 'intrinsics', 'cameras', 'valid', 'pose', 'time')\n"
        "    found = one.step(*(drive[f'{k}/{name}'] for name in names))\n"
        "    print(sorted((o['identity'], *np.round(o['box'][:3], 3).tolist()) for o in found))\n"
    )
    arrays = {}
    tracker = load_export(onnx_folder).tracker
    state, expected = tracker.initial_state(), []
    for number, frame in enumerate(DRIVE[:4]):
        given = {
            "images": frame.images[0],
            "intrinsics": frame.rig.image_from_camera[0],
            "cameras": frame.rig.camera_from_vehicle[0],
            "valid": frame.camera_valid[0],
            "pose": frame.global_from_vehicle[0],
            "time": frame.timestamp_s[0],
        }
        arrays |= {f"{number}/{name}": tensor.numpy() for name, tensor in given.items()}
        objects, state = tracker.step(frame, state)
        expected.append(sorted(objects.identities[0][objects.valid[0]].tolist()))
    np.savez(tmp_path / "drive.npz", **arrays)
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line.replace("(", "[").replace(")", "]")) for line in finished.stdout.splitlines()]
    assert [[row[0] for row in frame] for frame in rows] == expected


@pytest.mark.parametrize(
    ("rules", "detector"),
    [
        (GreedyConfig(min_score=0.0), "petr"),
        (Cc3dtConfig(AssociationConfig(0.0, 0.0), min_score=0.0), "streampetr"),
        (LEARNED, "petr"),
        (QUERIES, "streampetr"),
    ],
    ids=["greedy", "cc_3dt", "cc_3dt, learned", "dqtrack"],
)
def test_a_program_that_detects_is_tied_together_by_the_host_as_ever(
    detector: str, rules: GreedyConfig | Cc3dtConfig | DqTrackConfig, tmp_path: Path
) -> None:
    made = dataclasses.replace(config(detector=detector), tracker=rules)
    tracker = build(made)
    program = exported(made, tmp_path)
    association = rules.build(program.detector).eval()
    write_association(tmp_path / ASSOCIATION, tracker)
    load_association(tmp_path, association)
    told = ExportedLooks(program, association)
    state, held = tracker.initial_state(), told.initial_state()
    for frame in (*DRIVE[:3], DRIVE[5], far_frame(41, scenes="b")):
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        alike(objects, found)
    alike(tracker.step(far_frame(42, scenes="b"), held)[0], told.step(far_frame(42, scenes="b"), state)[0])
    with pytest.raises(SynclError, match=r"cameras CAM_0, CAM_1, CAM_2, and .* exported for 2"):
        told.step(make_frame(cameras=3), told.initial_state())


@pytest.mark.parametrize("detector", CANDIDATES)
def test_candidates_are_told_and_the_host_suppresses_them_as_ever(detector: str, tmp_path: Path) -> None:
    made = dataclasses.replace(config(), detector=CANDIDATES[detector], tracker=GreedyConfig(min_score=0.0))
    tracker = build(made)
    told = ExportedLooks(exported(made, tmp_path), made.tracker.build(NoDetector(tracker.classes)))
    state, held = tracker.initial_state(), told.initial_state()
    for frame in (*DRIVE[:4], DRIVE[6], far_frame(41, scenes="b")):
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        assert 0 < int(objects.valid.sum()) < rig.CENTRE_HEAD.candidates, "some are suppressed"
        alike(objects, found)
    # States go on in either, however many frames they remember.
    _, short = tracker.step(DRIVE[0], tracker.initial_state())
    alike(tracker.step(DRIVE[1], short)[0], told.step(DRIVE[1], short)[0])
    alike(tracker.step(far_frame(42, scenes="b"), held)[0], told.step(far_frame(42, scenes="b"), state)[0])


def test_weights_of_the_hosts_association_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    association = LEARNED.build(NoDetector(("car",)))
    with pytest.raises(SynclError, match=r"association\.safetensors: there is no such weights"):
        load_association(tmp_path, association)
    write_association(tmp_path / ASSOCIATION, Cc3dtConfig(motion="velo_lstm").build(NoDetector(("car",))))
    with pytest.raises(SynclError, match=r"does not fit Cc3dt \(appearance\..*\); export again"):
        load_association(tmp_path, association)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rules", [GreedyConfig(min_score=0.0), LEARNED, QUERIES], ids=["greedy", "learned", "dqtrack"]
)
def test_what_the_host_ties_together_is_exported_and_loaded(
    rules: GreedyConfig | Cc3dtConfig | DqTrackConfig, tmp_path: Path
) -> None:
    made = dataclasses.replace(config(), tracker=rules)
    tracker = build(made)
    write_export(tmp_path, tracker, made, DRIVE, source={})
    manifest = read_manifest(tmp_path)
    assert manifest.text("associated_by") == "the host"
    assert manifest.text("association", "tracker") == type(tracker).__name__
    told = load_export(tmp_path).tracker
    alike(tracker.step(DRIVE[0], tracker.initial_state())[0], told.step(DRIVE[0], told.initial_state())[0])
