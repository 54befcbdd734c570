"""Small trackers, a drive kilometres from the map's origin, and their exported steps, run by torch."""

import dataclasses
from pathlib import Path

import pytest
import torch

import rig
from rig import make_frame
from syncl.deployment.exported import ExportedTracker, described_state
from syncl.deployment.golden_frames import FRAMES_NEEDED
from syncl.deployment.manifest import Manifest
from syncl.deployment.step import template_of
from syncl.deployment.writing import flat_step
from syncl.detectors import DortConfig, DortDetr3dConfig
from syncl.errors import SynclError
from syncl.structures import Frame, Objects
from syncl.trackers import (
    AdaTrackConfig,
    Cc3dtConfig,
    DqTrackConfig,
    Mutr3dConfig,
    PfTrackConfig,
    StarTrackConfig,
    Tracker,
)
from syncl.trackers.ada_track import AdaTrack
from syncl.trackers.cc_3dt.appearance import AppearanceConfig
from syncl.trackers.cc_3dt.association import AssociationConfig
from syncl.trackers.inputs import InputConfig
from syncl.trackers.live import LiveTracker
from syncl.trackers.model import ModelConfig
from syncl.trackers.one_track import OneTrackConfig
from syncl.trackers.serialisation import take_apart

ALWAYS = {"birth_score": 0.0, "output_score": 0.0, "max_tracks": 20, "longest_gap_s": 10.0}


TRACKERS = {
    "mutr3d": Mutr3dConfig(heads=4, hidden=32, keep_score=0.0, **ALWAYS),
    "pf_track": PfTrackConfig(heads=4, hidden=32, layers=1, record_score=0.0, dropout=0.0, **ALWAYS),
    "star_track": StarTrackConfig(keep_score=0.0, blocks=4, hidden=32, **ALWAYS),
    "one_track": OneTrackConfig(heads=4, hidden=32, keep_score=0.0, **ALWAYS),
}


DETECTORS = {**rig.DETECTORS, "dort": rig.dort_on(rig.DETECTORS["detr3d"])}
SUPPRESSING = rig.tiny_bevdepth(cell_offsets=True, head=rig.SUPPRESSING_HEAD)
CANDIDATES = {
    "bevdepth": SUPPRESSING,
    "bevdepth, whole cells": dataclasses.replace(SUPPRESSING, cell_offsets=False),
    "dort": rig.dort_on(SUPPRESSING),
}
LEARNED = Cc3dtConfig(
    AssociationConfig(0.0, 0.0),
    min_score=0.0,
    motion="velo_lstm",
    appearance=AppearanceConfig(rig.tiny_encoder(dim=16), dim=8, hidden=16, convolutions=1, groups=4),
)


QUERIES = DqTrackConfig(0.0, 0.0, 0.0, (99.0,) * len(rig.CLASSES), classes=rig.CLASSES, heads=4)


ASSOCIATING = AdaTrackConfig(heads=4, hidden=32, dropout=0.0, miss_tolerance=2, **ALWAYS)


def config(tracker: str = "mutr3d", detector: str = "petr", **changes: object) -> ModelConfig:
    size = InputConfig((rig.HEIGHT, rig.WIDTH))
    return ModelConfig(size, DETECTORS[detector], dataclasses.replace(TRACKERS[tracker], **changes))


def build(made: ModelConfig) -> Tracker:
    torch.manual_seed(0)
    tracker = made.build().eval()
    if isinstance(made.detector, DortConfig | DortDetr3dConfig):
        rig.unsettled(tracker.detector)
    if isinstance(tracker, AdaTrack):
        # Fresh heads say nearly the same of all queries, and of all pairs.
        for branches in (tracker.detector.class_branches, tracker.association.affinity_branches):
            for parameter in branches.parameters():
                torch.nn.init.normal_(parameter)
    return tracker


@torch.no_grad()
def associating(detector: str, **changes: object) -> ModelConfig:
    """ADA-Track with thresholds in the middle of what it says, where no rounding decides."""
    made = dataclasses.replace(
        config(detector=detector), tracker=dataclasses.replace(ASSOCIATING, affinity=0.0, **changes)
    )
    tracker = build(made)
    first = tracker.look(DRIVE[0], tracker.initial_state())
    second = tracker.look(DRIVE[1], tracker.conclude(first)[1])
    sure = _amid(first.scores)
    rules = dataclasses.replace(
        made.tracker,
        affinity=_amid(second.reasoned.logits[-1].sigmoid()),
        birth_score=sure,
        # Who pairs optimally would leave nobody without a partner.
        pair_score=sure if made.tracker.pairing == "hungarian" else 0.0,
    )
    return dataclasses.replace(made, tracker=rules)


def _amid(values: torch.Tensor) -> float:
    """The middle of the widest gap between those in the middle."""
    ordered = values.flatten().sort().values
    middle = ordered[len(ordered) // 3 : -len(ordered) // 3]
    gap = int(middle.diff().argmax())
    return float(middle[gap : gap + 2].mean())


def far_frame(number: int, **changes: object) -> Frame:
    """Kilometres from the map's origin, at a time of our days."""
    frame = make_frame(0.5 * number, speed_m_s=4.0, **changes)
    pose = frame.global_from_vehicle.clone()
    pose[:, 0, 3] += 3210.0
    return dataclasses.replace(frame, global_from_vehicle=pose, timestamp_s=frame.timestamp_s + 1.8e9)


DRIVE = [far_frame(number) for number in range(FRAMES_NEEDED)]


def exported(made: ModelConfig, folder: Path) -> ExportedTracker:
    """An exported tracker whose program torch runs, with all of a manifest that it reads."""
    fixed = build(made).stepping_part().with_fixed_slots()
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


def runs_live_and_refuses(told: Tracker) -> None:
    """What holds of every exported folder: it runs live, and says by name what it cannot do."""
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
