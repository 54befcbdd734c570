"""ADA-Track as exported: the program looks with the tracks, the host pairs, and the two are the model."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from exporting import (
    ASSOCIATING,
    CANDIDATES,
    DETECTORS,
    DRIVE,
    alike,
    associating,
    build,
    config,
    exported,
    far_frame,
    runs_live_and_refuses,
)
from grids import thinned
from looks import same
from syncl.checkpoints.state_file import load_state, save_state
from syncl.deployment.exported import ExportedLooks, load_association, load_export
from syncl.deployment.golden_frames import agreement, golden_frames, happened, without_cameras
from syncl.deployment.manifest import ASSOCIATION, read_manifest
from syncl.deployment.step import template_of
from syncl.deployment.writing import flat_step, write_association, write_export
from syncl.errors import SynclError
from syncl.structures import Frame, Objects
from syncl.trackers import Mutr3dConfig
from syncl.trackers.model import ModelConfig

HOST = Path(__file__).parents[2] / "examples" / "onnx_host.py"
RULES: dict[str, dict[str, object]] = {
    "greedy": {},
    "hungarian": {
        "pairing": "hungarian",
        "auxiliary_token": True,
        "associate_first": True,
        "own_share": None,
        "gated": True,
    },
    "share": {"own_share": 0.25, "newborn_outputs": True, "reset_misses": True, "wrap_headings": True},
}
# Births and misses, a missing camera, frames in which nothing is seen, a gap, and another scene.
FRAMES: tuple[Frame, ...] = (
    *DRIVE[:3],
    without_cameras(DRIVE[3], slice(1, 2)),
    *(without_cameras(frame, slice(None)) for frame in DRIVE[4:6]),
    *DRIVE[8:10],
    far_frame(41, scenes="b"),
    far_frame(42, scenes="b"),
)


def agree(ours: Objects, theirs: Objects) -> None:
    """As `alike`, also where nobody is left."""
    if len(ours) or len(theirs):
        alike(ours, theirs)


def hosted(made: ModelConfig, folder: Path) -> ExportedLooks:
    """The exported look run by torch, and the host's part, as they are loaded from a folder."""
    program = exported(made, folder)
    tracker = made.tracker.build(program.detector).eval()
    write_association(folder / ASSOCIATION, build(made))
    load_association(folder, tracker)
    return ExportedLooks(program, tracker)


@pytest.mark.parametrize(("rules", "detector"), thinned(RULES, DETECTORS))
def test_a_look_that_is_paired_by_the_host_is_the_model(rules: str, detector: str, tmp_path: Path) -> None:
    made = associating(detector, **RULES[rules])
    tracker, told = build(made), hosted(made, tmp_path)
    assert not (tmp_path / ASSOCIATION).exists(), "it pairs without weights"
    state, held, events = tracker.initial_state(), told.initial_state(), set()
    for frame in FRAMES:
        before, (objects, state) = state, tracker.step(frame, state)
        found, held = told.step(frame, held)
        agree(objects, found)
        for name in ("identities", "misses", "alive", "next_identity"):
            assert torch.equal(getattr(state, name), getattr(held, name))
        if frame.scenes == before.scenes or not before.count:
            events |= {*happened(before, state)}
    assert events == {"birth", "miss", "end"}
    # States go on in either, through files as well.
    save_state(tmp_path / "state.safetensors", held)
    assert same(load_state(tmp_path / "state.safetensors"), held)
    agree(
        tracker.step(far_frame(43, scenes="b"), load_state(tmp_path / "state.safetensors"))[0],
        told.step(far_frame(43, scenes="b"), state)[0],
    )


def test_what_does_not_fit_is_refused_as_of_any_folder(tmp_path: Path) -> None:
    made = associating("petr")
    told = hosted(made, tmp_path)
    runs_live_and_refuses(told)
    stranger = build(dataclasses.replace(made, tracker=Mutr3dConfig(heads=4))).initial_state()
    with pytest.raises(SynclError, match="holds RememberedEmbeddings, ExportedLooks keeps Begun"):
        told.step(DRIVE[0], stranger)
    wide = dataclasses.replace(made, tracker=dataclasses.replace(made.tracker, max_tracks=40))
    slots = build(wide).stepping_part().with_fixed_slots().initial_state()
    with pytest.raises(SynclError, match=r"identities is \(1, 40\), not \(1, 20\)"):
        told.step(DRIVE[0], slots)


@pytest.mark.parametrize("detector", CANDIDATES)
def test_a_detector_without_queries_is_refused_by_name(detector: str, tmp_path: Path) -> None:
    made = dataclasses.replace(config(), detector=CANDIDATES[detector], tracker=ASSOCIATING)
    with pytest.raises(SynclError, match=r"(BevDepth|Dort) has no queries that tracks could be among"):
        write_export(tmp_path, made.build().eval(), made, DRIVE, source={})
    assert not [*tmp_path.iterdir()]


def test_golden_frames_are_of_what_the_host_pairs(tmp_path: Path) -> None:
    tracker = build(associating("petr"))
    fixed = tracker.stepping_part().with_fixed_slots()
    template = template_of(fixed, DRIVE[0])
    step = flat_step(fixed, template, DRIVE[0].rig.names)
    frames = golden_frames(fixed, step, template, DRIVE, tracker)
    assert {"birth", "miss", "end"} <= {event for frame in frames for event in frame.events}
    assert [bool(frame.given["alive"].any()) for frame in frames] == [False] + [True] * 7
    agreed = agreement(step, frames)
    assert agreed.identities_equal and agreed.box_m == 0.0

    assert {*tracker.meanings} == {field.name for field in dataclasses.fields(tracker.pairs)} - {
        field.name for field in dataclasses.fields(Objects)
    }

    def unsure(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        told = step(given)
        return told | {"objects_affinities": told["objects_affinities"].flip(1)}

    assert not agreement(unsure, frames).identities_equal


@pytest.mark.slow
@pytest.mark.parametrize(("rules", "detector"), [("hungarian", "streampetr"), ("greedy", "detr3d")])
def test_an_exported_folder_tracks_as_the_model_file(rules: str, detector: str, tmp_path: Path) -> None:
    made = associating(detector, **RULES[rules])
    tracker = build(made)
    done = write_export(tmp_path, tracker, made, DRIVE, source={})
    assert done.agreement is not None and done.agreement.identities_equal and done.agreement.box_m < 1e-3
    assert {"birth", "miss", "end", "missing camera", "gap"} == {*done.events}
    manifest = read_manifest(tmp_path)
    assert manifest.text("associated_by") == "the host"
    assert manifest.text("association", "tracker") == "AdaTrack"
    assert manifest.entry("association", "rules", "affinity") == made.tracker.affinity
    meanings = {str(row["name"]): row["meaning"] for row in manifest.table("outputs")}
    assert meanings["objects_affinities"] == tracker.meanings["affinities"]
    # A host of numpy alone checks the look, and says that it does not pair.
    host = runpy.run_path(str(HOST))
    assert host["check"](tmp_path) < 1e-3
    with pytest.raises(ValueError, match="pairs are left to the host"):
        host["Host"](tmp_path).step(*[None] * 6)
    with np.load(tmp_path / "golden.npz") as golden:
        assert (golden["1/paired/objects_identities"][0] >= 0).any()
    told = load_export(tmp_path).tracker
    state, held = tracker.initial_state(), told.initial_state()
    for frame in FRAMES:
        objects, state = tracker.step(frame, state)
        found, held = told.step(frame, held)
        agree(objects, found)
    agree(tracker.step(far_frame(43, scenes="b"), held)[0], told.step(far_frame(43, scenes="b"), state)[0])
