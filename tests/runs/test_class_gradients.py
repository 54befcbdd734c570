"""Class gradients of detecting and tracking, compared on small trackers."""

import numpy as np
import pytest
import torch

import rig
from rig import make_clip
from syncl.recipes import find_recipe
from syncl.runs.diagnose.class_gradients import GROUPS, class_gradient_pass, gradients_table
from syncl.runs.diagnose.passes import Subject
from syncl.trackers import ClipNoise, OneTrackConfig, StarTrackConfig

# Objects come, stay and go.
CLIP = make_clip([0, 1, 2], [0, 1, 2, 3], [1, 2, 3])
FRAMES = tuple(zip(CLIP.frames, CLIP.annotations, strict=True))
TRACKERS = rig.TRACKERS | {
    "star_track": StarTrackConfig(blocks=4, hidden=16, noise=ClipNoise()),
    "one_track": OneTrackConfig(heads=4, hidden=16, noise=ClipNoise()),
}


def build(kind: str):
    torch.manual_seed(1)
    tracker = TRACKERS[kind].build(rig.DETECTORS["petr"].build()).eval()
    # Surer than a fresh head is, so that background has a gradient to speak of.
    for head in (tracker.detector, getattr(tracker, "tracking_head", None)):
        for branch in getattr(head, "class_branches", getattr(head, "branches", ())):
            torch.nn.init.constant_(branch[-1].bias, -0.5)
    return Subject(tracker, find_recipe("mutr3d_petr_synthetic"))


def test_one_head_is_told_the_same_of_agreed_queries_and_other_things_of_contradicted_ones():
    subject = build("mutr3d")
    found = class_gradient_pass(subject, FRAMES, "mutr3d")
    every, _, neither, detected, tracked = found.cosines[-1]
    assert neither == pytest.approx(1, abs=1e-4)
    # They agree about the three classes that an object is not of, and are opposed about its own.
    assert detected < 0.9 and tracked < 0.9 and every < 0.99
    # Three frames: all queries are counted, fifteen objects and tracks among them.
    assert found.queries[-1][0] == pytest.approx(found.queries[-1][1:].sum())
    assert found.queries[-1][0] == pytest.approx((3 * rig.OBJECT_QUERIES + 0 + 3 + 4) / 3)
    assert found.shares[-1][1:].sum() == pytest.approx(1)
    assert all(parameter.grad is None for parameter in subject.tracker.parameters())


@pytest.mark.parametrize("kind", ["pf_track", "star_track", "one_track"])
def test_every_tracker_can_be_asked_and_the_answer_printed(kind):
    found = class_gradient_pass(build(kind), FRAMES, kind)
    assert found.cosines.shape == (2, len(GROUPS)) and np.isfinite(found.cosines[:, 0]).all()
    lines = gradients_table(found)
    assert [line.split("   ")[0].strip() for line in lines[1:]] == list(GROUPS)
    assert set(found.figures) == {*GROUPS, "disputed"}
