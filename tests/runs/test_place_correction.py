"""Tracks put beside their objects: what `syncl diagnose` says of decoders that believe their queries."""

from dataclasses import replace

import pytest
import torch

from stub_detector import StubDetector, stub_frame
from syncl.recipes import find_recipe
from syncl.runs.diagnose.passes import Subject
from syncl.runs.diagnose.place_correction import corrections_table, place_corrections
from syncl.structures import Annotations, Predictions
from syncl.trackers import GreedyConfig, Mutr3dConfig

PLACES = torch.tensor([[10.0, 0.0, 0.0], [-8.0, 5.0, 0.0], [3.0, -20.0, 0.0]])


class Correcting(StubDetector):
    """Ends a share of the way from where a query stands to the nearest object."""

    share = 0.0

    def decode(self, *arguments: object, **options: object) -> tuple[Predictions, ...]:
        (told,) = super().decode(*arguments, **options)
        centres = told.codes[..., :3]
        nearest = PLACES[torch.cdist(centres[0, 0], PLACES).argmin(-1)]
        codes = torch.cat([centres + self.share * (nearest - centres), told.codes[..., 3:]], dim=-1)
        return (replace(told, codes=codes),)


def annotated() -> Annotations:
    boxes = torch.cat([PLACES, torch.tensor([4.0, 2.0, 1.5, 0.0, 0.0, 0.0]).expand(3, -1)], dim=-1)
    whole = torch.arange(3)[None]
    return Annotations(boxes[None], whole * 0, whole, torch.ones(1, 3, dtype=torch.bool))


def subject(share: float) -> Subject:
    torch.manual_seed(0)
    detector = StubDetector() if share == 0 else Correcting()
    detector.share = share
    tracker = Mutr3dConfig(heads=2, hidden=8).build(detector).eval()
    return Subject(tracker, find_recipe("mutr3d_detr3d_synthetic"))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_tracks_end_as_far_off_as_the_decoder_leaves_them(share):
    frames = tuple((stub_frame(0.5 * step, [0.9] * 8, tracks=0.9), annotated()) for step in range(4))
    found = place_corrections(subject(share), frames, "stub")
    assert [one.aside_m for one in found] == [0, 1, 2, 4]
    # Objects get tracks in the first frame, and keep them.
    assert [one.tracks for one in found] == [9] * 4
    for one in found:
        assert one.off_m == pytest.approx((1 - share) * one.aside_m, abs=1e-4)
    table = corrections_table(found)
    assert table[0].split()[-4:] == ["0.0", "1.0", "2.0", "4.0"]
    assert table[1].split()[-1] == f"{4 * (1 - share):.2f}"


def test_nothing_is_said_of_tracks_that_are_no_queries_or_do_not_exist():
    frames = ((stub_frame(0.0, [0.9] * 8), annotated()),)
    assert place_corrections(subject(0.0), frames, "one frame") == ()
    greedy = Subject(GreedyConfig().build(StubDetector()).eval(), find_recipe("mutr3d_detr3d_synthetic"))
    assert place_corrections(greedy, frames, "greedy") == ()
    assert corrections_table(()) == []
