"""Exported steps, run by torch where what is tested is not the runtime, and by onnxruntime where it is."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

import rig
from exporting import (
    CANDIDATES,
    DRIVE,
    QUERIES,
    alike,
    build,
    config,
    exported,
    far_frame,
    runs_live_and_refuses,
)
from looks import same
from syncl.checkpoints.model_file import LoadedModel, save_model
from syncl.checkpoints.state_file import load_state, save_state
from syncl.deployment.exported import ExportedLooks, load_export, open_model
from syncl.deployment.manifest import read_manifest, write_manifest
from syncl.deployment.programs import OnnxProgram, write_onnx
from syncl.deployment.writing import write_export
from syncl.errors import SynclError
from syncl.runs.export import synthetic_drive
from syncl.runs.track.run import BY_DETECTION, choose_tracker
from syncl.trackers import Cc3dtConfig, GreedyConfig, SingleFrameConfig, Tracker
from syncl.trackers.cc_3dt.association import AssociationConfig
from syncl.trackers.life_cycle import LivingByScore


@pytest.mark.parametrize(
    ("kind", "detector"),
    [
        ("mutr3d", "petr"),
        ("pf_track", "detr3d"),
        ("star_track", "petrv2"),
        ("one_track", "streampetr"),
        ("mutr3d", "bevformer"),
        ("pf_track", "dort"),
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
    runs_live_and_refuses(told)
    state = told.initial_state()
    names = dataclasses.replace(DRIVE[0].rig, names=DRIVE[0].rig.names[::-1])
    with pytest.raises(SynclError, match=r"cameras CAM_1, CAM_0, and .* in this order"):
        told.step(dataclasses.replace(DRIVE[0], rig=names), state)
    other = build(config(max_tracks=40)).with_fixed_slots()
    wide = other.step(DRIVE[0], other.initial_state())[1]
    with pytest.raises(SynclError, match=r"identities is \(1, 40\), not \(1, 20\)"):
        told.step(DRIVE[1], wide)


@pytest.mark.parametrize("choice", ["greedy", "cc-3dt"])
def test_detections_of_an_exported_detector_are_tied_together_as_the_models(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fresh weights are sure of nothing.
    rules = {
        "greedy": GreedyConfig(min_score=0.0, classes=rig.CLASSES),
        "cc-3dt": Cc3dtConfig(AssociationConfig(0.0, 0.0), min_score=0.0),
    }
    monkeypatch.setitem(BY_DETECTION, choice, lambda _: rules[choice])
    made = dataclasses.replace(config(), tracker=SingleFrameConfig())
    alone, program = build(made), exported(made, tmp_path)
    greedy = ExportedLooks(program, rules["greedy"].build(program.detector))
    for source in (program, greedy):
        loaded = [LoadedModel(tracker, made, None, {}) for tracker in (alone, source)]
        ours, theirs = (choose_tracker(model, "tracking", choice, rig.CLASSES).eval() for model in loaded)
        state, told = ours.initial_state(), theirs.initial_state()
        for frame in DRIVE[:4]:
            (objects, state), (others, told) = ours.step(frame, state), theirs.step(frame, told)
            alike(objects, others)
        assert choose_tracker(loaded[1], "detection", "model", rig.CLASSES) is program


def test_a_program_that_tells_more_than_detections_is_not_asked_for_them(tmp_path: Path) -> None:
    made = dataclasses.replace(config(), tracker=QUERIES)
    program = exported(made, tmp_path)
    looks = ExportedLooks(program, QUERIES.build(program.detector))
    for tracker in (exported(config(), tmp_path), looks):
        for task, choice in (("tracking", "greedy"), ("detection", "model")):
            with pytest.raises(SynclError, match="is one exported step, whose detector nobody can ask alone"):
                choose_tracker(LoadedModel(tracker, made, None, {}), task, choice, rig.CLASSES)


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


def test_a_provider_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(SynclError, match=r"--providers: Mine is not in this onnxruntime, which has .*CPUEx"):
        OnnxProgram(tmp_path / "track.onnx", ("Mine",))
    with pytest.raises(SynclError, match="--providers: none is not in this onnxruntime"):
        OnnxProgram(tmp_path / "track.onnx", ())


def test_an_opset_that_is_invalid_or_unknown_is_refused(tmp_path: Path) -> None:
    made = config()
    known = pytest.importorskip("onnx").defs.onnx_opset_version()
    for opset, said in (
        (17, "below 18 files are invalid"),
        (known + 1, f"this onnx knows those up to {known}"),
    ):
        with pytest.raises(SynclError, match=f"--opset {opset}: {said}"):
            write_export(tmp_path, build(made), made, DRIVE, source={}, opset=opset)
    assert not [*tmp_path.iterdir()]


def test_a_file_is_of_the_opset_that_was_asked_for_or_refused(tmp_path: Path) -> None:
    """Where torch cannot convert, it says so in its log and writes what it has."""
    onnx = pytest.importorskip("onnx")
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(3),))
    path = tmp_path / "program.onnx"
    write_onnx(program, ["given"], ["told"], 20, path)
    assert [entry.version for entry in onnx.load(path).opset_import] == [20]
    with pytest.raises(SynclError, match="--opset 99: torch does not convert to it; 18 is what it wrote"):
        write_onnx(program, ["given"], ["told"], 99, path)


# With onnxruntime


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
@pytest.mark.parametrize("tracker", ["mutr3d", "star_track", "one_track"])
def test_slots_without_a_track_are_numbers_in_onnx_too(tracker: str, tmp_path: Path) -> None:
    made = config(tracker)
    done = write_export(tmp_path, build(made), made, DRIVE, source={})
    assert done.agreement.identities_equal and done.agreement.box_m < 1e-3


@pytest.mark.slow
def test_a_model_that_overflows_in_half_precision_is_not_written(tmp_path: Path) -> None:
    made = config()
    tracker = build(made)
    with torch.no_grad():
        next(tracker.detector.image_encoder.backbone.parameters()).mul_(1e6)
    write_export(tmp_path, tracker, made, DRIVE, source={}, program_format="torch-export")
    with pytest.raises(SynclError, match=r"of a box inf m, .*; float16 is too coarse for it"):
        write_export(
            tmp_path, tracker, made, DRIVE, source={}, program_format="torch-export", precision="float16"
        )


@pytest.mark.slow
def test_an_onnx_file_that_lost_a_byte_is_refused(onnx_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(onnx_folder, tmp_path / "copy")
    program = tmp_path / "copy" / "track.onnx"
    program.write_bytes(program.read_bytes()[:-1])
    with pytest.raises(SynclError, match=r"track\.onnx: is not the file that was exported"):
        open_model(tmp_path / "copy")


def test_models_without_such_a_step_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncl.commands.export import export

    made = config()
    model = tmp_path / "model.safetensors"
    save_model(model, made.build().state_dict(), made)
    monkeypatch.setattr(LivingByScore, "fixed_slots", Tracker.fixed_slots)
    with pytest.raises(SynclError, match="Mutr3d has no step of a fixed number of tracks"):
        export(model, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["bevformer", "bevdepth", "dort", "dort on detr3d"])
def test_programs_that_are_told_or_remember_more_are_exported_and_loaded(
    detector: str, tmp_path: Path
) -> None:
    made = config("mutr3d", "dort" if "detr3d" in detector else "bevformer")
    if detector in CANDIDATES:
        rules = GreedyConfig(min_score=0.0)
        made = dataclasses.replace(made, detector=CANDIDATES[detector], tracker=rules)
    write_export(tmp_path, build(made), made, DRIVE, source={})
    tracker, told = build(made), load_export(tmp_path).tracker
    state, held = tracker.initial_state(), told.initial_state()
    for frame in DRIVE[:5]:
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        alike(objects, found)
