"""Exported steps, run by torch where what is tested is not the runtime, and by onnxruntime where it is."""

import dataclasses
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import rig
from looks import same
from rig import make_frame
from syncl.checkpoints.model_file import save_model
from syncl.checkpoints.state_file import load_state, save_state
from syncl.deployment.exported import (
    ExportedDetections,
    ExportedTracker,
    described_state,
    load_association,
    load_export,
    open_model,
)
from syncl.deployment.golden_frames import (
    COUNT,
    EVENTS,
    FRAMES_NEEDED,
    GoldenFrame,
    agreement,
    golden_frames,
    write_golden,
)
from syncl.deployment.manifest import ASSOCIATION, Manifest, read_manifest, write_manifest
from syncl.deployment.programs import OnnxProgram
from syncl.deployment.step import INPUTS, template_of
from syncl.deployment.writing import flat_step, stepping_part, write_association, write_export
from syncl.detectors.bevformer.bev_memory import BevMemory
from syncl.errors import SynclError
from syncl.geometry.transforms import quaternion_from_rotation
from syncl.runs.export import synthetic_drive
from syncl.structures import Frame, Objects, Odometry
from syncl.trackers import (
    AdaTrackConfig,
    Cc3dtConfig,
    DqTrackConfig,
    GreedyConfig,
    Mutr3dConfig,
    PfTrackConfig,
    StarTrackConfig,
    Tracker,
)
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.cc_3dt.appearance import AppearanceConfig
from syncl.trackers.cc_3dt.association import AssociationConfig
from syncl.trackers.inputs import InputConfig
from syncl.trackers.live import LiveTracker
from syncl.trackers.model import ModelConfig
from syncl.trackers.one_track import OneTrackConfig
from syncl.trackers.serialisation import take_apart

HOST = Path(__file__).parents[2] / "examples" / "onnx_host.py"
ALWAYS = {"birth_score": 0.0, "output_score": 0.0, "max_tracks": 20, "longest_gap_s": 10.0}
TRACKERS = {
    "mutr3d": Mutr3dConfig(heads=4, hidden=32, keep_score=0.0, **ALWAYS),
    "pf_track": PfTrackConfig(heads=4, hidden=32, layers=1, record_score=0.0, dropout=0.0, **ALWAYS),
    "star_track": StarTrackConfig(keep_score=0.0, blocks=4, hidden=32, **ALWAYS),
    "one_track": OneTrackConfig(heads=4, hidden=32, keep_score=0.0, **ALWAYS),
}

LEARNED = Cc3dtConfig(
    AssociationConfig(0.0, 0.0),
    min_score=0.0,
    motion="velo_lstm",
    appearance=AppearanceConfig(rig.tiny_encoder(dim=16), dim=8, hidden=16, convolutions=1, groups=4),
)
QUERIES = DqTrackConfig(0.0, 0.0, 0.0, (99.0,) * len(rig.CLASSES), classes=rig.CLASSES, heads=4)


def config(tracker: str = "mutr3d", detector: str = "petr", **changes: object) -> ModelConfig:
    size = InputConfig((rig.HEIGHT, rig.WIDTH))
    return ModelConfig(size, rig.DETECTORS[detector], dataclasses.replace(TRACKERS[tracker], **changes))


def build(made: ModelConfig) -> Tracker:
    torch.manual_seed(0)
    return made.build().eval()


def far_frame(number: int, **changes: object) -> Frame:
    """Kilometres from the map's origin, at a time of our days."""
    frame = make_frame(0.5 * number, speed_m_s=4.0, **changes)
    pose = frame.global_from_vehicle.clone()
    pose[:, 0, 3] += 3210.0
    return dataclasses.replace(frame, global_from_vehicle=pose, timestamp_s=frame.timestamp_s + 1.8e9)


DRIVE = [far_frame(number) for number in range(FRAMES_NEEDED)]


def exported(made: ModelConfig, folder: Path) -> ExportedTracker:
    """An exported tracker whose program torch runs, with all of a manifest that it reads."""
    fixed = stepping_part(build(made)).with_fixed_slots()
    template = template_of(fixed, DRIVE[0])
    content = {
        "classes": list(fixed.classes),
        "longest_gap_s": fixed.longest_gap_s,
        "forecast_step_s": fixed.forecast_step_s,
        "slots": fixed.slots,
        "cameras": list(DRIVE[0].rig.names),
        "state": {"structure": take_apart(template)[0], "tensors": described_state(template)},
    }
    return ExportedTracker(flat_step(fixed, template, DRIVE[0].rig.names), Manifest(folder, content), made)


def alike(ours: Objects, theirs: Objects, tolerance: float = 1e-3) -> None:
    (first, boxes), (second, others) = (
        (objects.identities[0][objects.valid[0]], objects.boxes[0][objects.valid[0]])
        for objects in (ours, theirs)
    )
    assert len(first) > 0 and torch.equal(first.sort().values, second.sort().values)
    ordered = boxes[first.argsort(stable=True)], others[second.argsort(stable=True)]
    torch.testing.assert_close(*ordered, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("kind", "detector"),
    [
        ("mutr3d", "petr"),
        ("pf_track", "detr3d"),
        ("star_track", "petrv2"),
        ("one_track", "streampetr"),
        ("mutr3d", "bevformer"),
    ],
)
def test_a_told_step_does_what_the_tracker_does(kind: str, detector: str, tmp_path: Path) -> None:
    made = config(kind, detector)
    tracker, told = build(made), exported(made, tmp_path)
    state, held = tracker.initial_state(), told.initial_state()
    # A step, another after a gap, one after too long a silence, and another scene.
    later = dataclasses.replace(far_frame(40), timestamp_s=far_frame(40).timestamp_s + 5)
    for frame in (DRIVE[0], DRIVE[1], DRIVE[4], later, far_frame(41, scenes="b")):
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        alike(objects, found)
        assert held.scenes == state.scenes and torch.equal(held.timestamp_s, state.timestamp_s)
        assert torch.equal(held.next_identity, state.next_identity)
    assert found.classes == objects.classes


def test_states_go_from_a_model_to_its_export_and_back(tmp_path: Path) -> None:
    made = config("pf_track", "streampetr")
    tracker, told = build(made), exported(made, tmp_path)
    state = tracker.initial_state()
    for frame in DRIVE[:2]:
        _, state = tracker.step(frame, state)
    save_state(tmp_path / "state.safetensors", state)
    objects, after = told.step(DRIVE[2], load_state(tmp_path / "state.safetensors"))
    alike(tracker.step(DRIVE[2], state)[0], objects)
    save_state(tmp_path / "after.safetensors", after)
    assert same(load_state(tmp_path / "after.safetensors"), after)
    alike(tracker.step(DRIVE[3], after)[0], told.step(DRIVE[3], after)[0])


def test_an_exported_tracker_runs_live_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    told = exported(config(), tmp_path)
    with LiveTracker(told) as live:
        live.push(DRIVE[0])
        live.drain()
        result = live.poll()
    assert result is not None and result.objects.valid.any()
    state = told.initial_state()
    with pytest.raises(SynclError, match="one stream, not for 2"):
        told.initial_state(2)
    with pytest.raises(SynclError, match="steps and nothing else"):
        told.conclude(None)
    with pytest.raises(SynclError, match="not later than"):
        told.step(DRIVE[0], told.step(DRIVE[1], state)[1])
    with pytest.raises(SynclError, match=r"cameras CAM_0, CAM_1, CAM_2, and .* exported for 2: CAM_0, CAM_1"):
        told.step(make_frame(cameras=3), state)
    names = dataclasses.replace(DRIVE[0].rig, names=DRIVE[0].rig.names[::-1])
    with pytest.raises(SynclError, match=r"cameras CAM_1, CAM_0, and .* in this order"):
        told.step(dataclasses.replace(DRIVE[0], rig=names), state)
    other = build(config(max_tracks=40)).with_fixed_slots()
    wide = other.step(DRIVE[0], other.initial_state())[1]
    with pytest.raises(SynclError, match=r"identities is \(1, 40\), not \(1, 20\)"):
        told.step(DRIVE[1], wide)


def test_golden_frames_have_all_that_a_host_has_to_get_right(tmp_path: Path) -> None:
    fixed = build(config(birth_score=0.01, keep_score=0.01, miss_tolerance=3)).with_fixed_slots()
    template = template_of(fixed, DRIVE[0])
    step = flat_step(fixed, template, DRIVE[0].rig.names)
    # Fresh weights see objects in black images too: only what is missed can end.
    frames = golden_frames(fixed, step, template, DRIVE)
    assert len(frames) == COUNT
    assert {"missing camera", "gap"} <= {event for frame in frames for event in frame.events} <= {*EVENTS}
    assert [frame.events.count("gap") for frame in frames] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert "birth" in frames[0].events
    write_golden(tmp_path / "golden.npz", frames)
    sides = [
        (f"{n}/{side}/", getattr(frame, side_of))
        for n, frame in enumerate(frames)
        for side, side_of in (("in", "given"), ("out", "told"))
    ]
    with np.load(tmp_path / "golden.npz") as archive:
        assert len(archive.files) == sum(len(tensors) for _, tensors in sides)
        for prefix, tensors in sides:
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(archive[prefix + name], tensor.numpy())
    assert all({*INPUTS} < frame.given.keys() for frame in frames)


# What is wrong with a folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "export"
    made.mkdir()
    (made / "track.onnx").write_bytes(b"a program")
    (made / "golden.npz").write_bytes(b"frames")
    write_manifest(made, {"program": {"format": "onnx", "file": "track.onnx"}})
    return made


def test_a_folder_as_it_was_written_is_read(folder: Path) -> None:
    assert read_manifest(folder).text("program", "file") == "track.onnx"


@pytest.mark.parametrize("name", ["track.onnx", "golden.npz"])
def test_a_changed_or_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"another")
    with pytest.raises(SynclError, match=rf"{name}: is not the file that was exported \(SHA-256\)"):
        read_manifest(folder)
    (folder / name).unlink()
    with pytest.raises(SynclError, match=rf"{name}: is missing"):
        open_model(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "syncl-export-9"}, "its format is 'syncl-export-9', and this syncl knows syncl-export-1"),
        ({"files": {}}, "names no golden.npz"),
        ({"files": {"golden.npz": {}, "../x": {}}}, "leads out|SHA|lacks"),
        ({"program": None}, "lacks the entry program.format"),
        ({"program": {"format": "onnx", "file": "../track.onnx"}}, "'../track.onnx' is none of its files"),
        ({"program": {"format": "torch-export"}}, "holds a torch-export program, which syncl does not run"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(folder: Path, change: dict, said: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SynclError, match=said):
        load_export(folder)


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match=r"no exported model, it has no manifest\.json"):
        open_model(tmp_path)


def test_providers_are_of_exported_folders_alone(tmp_path: Path) -> None:
    with pytest.raises(SynclError, match="--providers: are of exported folders"):
        open_model(tmp_path / "model.safetensors", providers=("CPUExecutionProvider",))


def test_weights_of_the_hosts_association_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    association = LEARNED.build(NoDetector(("car",)))
    with pytest.raises(SynclError, match=r"association\.safetensors: there is no such weights"):
        load_association(tmp_path, association)
    write_association(tmp_path / ASSOCIATION, Cc3dtConfig(motion="velo_lstm").build(NoDetector(("car",))))
    with pytest.raises(SynclError, match=r"does not fit Cc3dt \(appearance\..*\); export again"):
        load_association(tmp_path, association)


def test_a_provider_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(SynclError, match=r"--providers: Mine is not in this onnxruntime, which has .*CPUEx"):
        OnnxProgram(tmp_path / "track.onnx", ("Mine",))
    with pytest.raises(SynclError, match="--providers: none is not in this onnxruntime"):
        OnnxProgram(tmp_path / "track.onnx", ())


def test_an_opset_below_18_is_refused(tmp_path: Path) -> None:
    made = config()
    with pytest.raises(SynclError, match="--opset 17: below 18 files are invalid"):
        write_export(tmp_path, build(made), made, DRIVE, source={}, opset=17)


# With onnxruntime


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    made, folder = config("pf_track", "petr"), tmp_path_factory.mktemp("onnx")
    done = write_export(folder, build(made), made, DRIVE, source={"model": "fresh"})
    assert done.agreement.identities_equal and done.agreement.box_m < 1e-3
    return folder


@pytest.mark.slow
def test_an_onnx_file_does_what_the_model_does_frame_after_frame(onnx_folder: Path) -> None:
    model = load_export(onnx_folder)
    tracker, told = build(model.config), model.tracker
    state, held = tracker.initial_state(), told.initial_state()
    for frame in DRIVE:
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        alike(objects, found)
    with pytest.raises(SynclError, match=r"--providers: Mine is not in this onnxruntime, which has .*CPU"):
        load_export(onnx_folder, ("Mine",))


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


@pytest.mark.slow
def test_the_shipped_model_tracks_as_exported_in_half_precision_and_for_torch(tmp_path: Path) -> None:
    from syncl.commands.export import export

    half = export(Path("demo"), output=tmp_path / "half", precision="float16")
    assert half.agreement.identities_equal and 0 < half.agreement.box_m < 0.1
    tracker = open_model(tmp_path / "half").tracker
    objects, _ = tracker.step(synthetic_drive(tracker.input, tracker)[0], tracker.initial_state())
    assert len(objects)
    program = export(Path("demo"), output=tmp_path / "torch", format="torch-export")
    assert program.agreement.identities_equal and program.agreement.box_m < 1e-3
    with pytest.raises(SynclError, match="torch-export"):
        open_model(tmp_path / "torch")


@pytest.mark.slow
def test_an_onnx_file_that_lost_a_byte_is_refused(onnx_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(onnx_folder, tmp_path / "copy")
    program = tmp_path / "copy" / "track.onnx"
    program.write_bytes(program.read_bytes()[:-1])
    with pytest.raises(SynclError, match=r"track\.onnx: is not the file that was exported"):
        open_model(tmp_path / "copy")


def test_models_without_such_a_step_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    from syncl.commands.export import export

    made = dataclasses.replace(config(), tracker=AdaTrackConfig())
    model = tmp_path / "ada_track.safetensors"
    save_model(model, made.build().state_dict(), made)
    with pytest.raises(SynclError, match="AdaTrack ties detections to tracks on the host"):
        export(model, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
    told = ExportedDetections(program, association)
    state, held = tracker.initial_state(), told.initial_state()
    for frame in (*DRIVE[:3], DRIVE[5], far_frame(41, scenes="b")):
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        alike(objects, found)
    alike(tracker.step(far_frame(42, scenes="b"), held)[0], told.step(far_frame(42, scenes="b"), state)[0])
    with pytest.raises(SynclError, match=r"cameras CAM_0, CAM_1, CAM_2, and .* exported for 2"):
        told.step(make_frame(cameras=3), told.initial_state())


@pytest.mark.parametrize("offsets", [False, True], ids=["cells", "offsets"])
def test_bevdepth_tells_candidates_and_the_host_suppresses_them_as_ever(
    offsets: bool, tmp_path: Path
) -> None:
    detector = rig.tiny_bevdepth(cell_offsets=offsets, head=rig.SUPPRESSING_HEAD)
    made = dataclasses.replace(config(), detector=detector, tracker=GreedyConfig(min_score=0.0))
    tracker = build(made)
    told = ExportedDetections(exported(made, tmp_path), made.tracker.build(NoDetector(tracker.classes)))
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


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["bevformer", "bevdepth"])
def test_programs_that_are_told_more_of_a_frame_are_exported_and_loaded(
    detector: str, tmp_path: Path
) -> None:
    made = config("mutr3d", "bevformer")
    if detector == "bevdepth":
        candidates = rig.tiny_bevdepth(cell_offsets=True, head=rig.SUPPRESSING_HEAD)
        made = dataclasses.replace(made, detector=candidates, tracker=GreedyConfig(min_score=0.0))
    write_export(tmp_path, build(made), made, DRIVE, source={})
    tracker, told = build(made), load_export(tmp_path).tracker
    state, held = tracker.initial_state(), told.initial_state()
    for frame in DRIVE[:5]:
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        alike(objects, found)


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


def told(scores: list[float], places_m: list[float]) -> dict[str, torch.Tensor]:
    boxes = torch.zeros(1, len(scores), 9)
    boxes[0, :, 0] = torch.tensor(places_m)
    count = torch.zeros(1, len(scores), dtype=torch.int64)
    return {
        "objects_boxes": boxes,
        "objects_labels": count,
        "objects_scores": torch.tensor([scores]),
        "objects_identities": count - 1,
        "objects_valid": torch.ones(1, len(scores), dtype=torch.bool),
    }


def test_detections_of_nearly_one_score_are_compared_with_the_nearest_and_no_number_agrees_with_nan():
    frame = GoldenFrame({}, told([0.5, 0.4999999], [3.0, 40.0]), ())
    swapped = agreement(lambda given: told([0.5, 0.4999999], [40.0, 3.0]), [frame])
    assert swapped.identities_equal and swapped.box_m == 0.0 and swapped.score < 1e-6
    moved = agreement(lambda given: told([0.5, 0.4999999], [3.0, 41.0]), [frame])
    assert moved.box_m == 1.0
    broken = agreement(lambda given: told([0.5, float("nan")], [3.0, float("nan")]), [frame])
    assert broken.box_m == float("inf") and broken.score == float("inf")


@pytest.mark.parametrize(
    ("others", "score_apart", "agrees"),
    [(1, 1e-6, True), (2, 1e-6, True), (1, 1e-3, False), (3, 1e-6, False)],
)
def test_the_last_of_a_full_list_may_be_another_of_the_same_score(
    others: int, score_apart: float, agrees: bool
) -> None:
    scores, places_m = [0.9 - 0.001 * row for row in range(200)], [float(row) for row in range(200)]
    frame = GoldenFrame({}, told(scores, places_m), ())
    first = 200 - others
    changed = [score - score_apart for score in scores[first:]]
    elsewhere = [place + 500.0 for place in places_m[first:]]
    found = agreement(lambda given: told(scores[:first] + changed, places_m[:first] + elsewhere), [frame])
    assert (found.box_m < 1e-3) == agrees
    short = told(scores, places_m)
    short["objects_valid"][0, 0] = False
    fewer = told(scores[:first] + changed, places_m[:first] + elsewhere)
    fewer["objects_valid"][0, 0] = False
    assert agreement(lambda given: fewer, [GoldenFrame({}, short, ())]).box_m > 1.0, "it is not full"
