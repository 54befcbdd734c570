"""Steps that wait for nothing: no shape depends on what is seen, and no value is read on the host."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import rig
from rig import make_frame
from syncl.deployment.step import padded_state, template_of
from syncl.errors import SynclError
from syncl.structures import Objects
from syncl.trackers import (
    AdaTrackConfig,
    Cc3dtConfig,
    DqTrackConfig,
    GreedyConfig,
    Mutr3dConfig,
    PfTrackConfig,
    SingleFrameConfig,
    StarTrackConfig,
    Tracker,
)
from syncl.trackers.one_track import OneTrackConfig

SLOTS = 20
# Fresh weights are seldom sure of anything, and tracks are to be born.
ALWAYS = {"birth_score": 0.0, "output_score": 0.0, "max_tracks": SLOTS}
TRACKERS = {
    "mutr3d": Mutr3dConfig(heads=4, hidden=32, keep_score=0.0, **ALWAYS),
    "mutr3d, two heads": Mutr3dConfig(heads=4, hidden=32, keep_score=0.0, tracking_head=True, **ALWAYS),
    "pf_track": PfTrackConfig(heads=4, hidden=32, layers=1, record_score=0.0, dropout=0.0, **ALWAYS),
    "star_track": StarTrackConfig(keep_score=0.0, blocks=4, hidden=32, **ALWAYS),
    "one_track": OneTrackConfig(heads=4, hidden=32, keep_score=0.0, **ALWAYS),
    "single_frame": SingleFrameConfig(),
}
PAIRING = {
    "greedy": GreedyConfig(classes=("car",)),
    "cc_3dt": Cc3dtConfig(),
    "ada_track": AdaTrackConfig(heads=4, hidden=32, affinity=0.0, **ALWAYS),
    "dqtrack": DqTrackConfig(gates_m=(9.0,) * 2, classes=("car", "truck"), heads=4),
}
DETECTORS = [*rig.DETECTORS, "dort"]
# Operators that read a value on the host, ask a device how large something is, or copy a list to it.
WAITS = ("local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "lift_fresh")
# Methods that read values without an operator.
READS = ("tolist", "numpy", "item", "__bool__", "__int__", "__float__", "__index__", "__array__", "cpu")


class CountWaits(TorchDispatchMode):
    """Counts what a device would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.reads = CountReads(self.counts)

    def __enter__(self) -> "CountWaits":
        self.reads.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.reads.__exit__(*error)

    def __torch_dispatch__(
        self, operator: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = operator._schema.name.removeprefix("aten::").lstrip("_")
        if name.startswith(WAITS):
            self.counts[name] += 1
        return operator(*args, **(kwargs or {}))


class CountReads(TorchFunctionMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = getattr(function, "__name__", "")
        if name in READS:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def build(tracker: str, detector: str) -> Tracker:
    torch.manual_seed(0)
    rules = (TRACKERS | PAIRING)[tracker]
    if detector != "dort":
        return rules.build(rig.DETECTORS[detector].build()).eval()
    return rules.build(rig.unsettled(rig.dort_on(rig.DETECTORS["detr3d"]).build())).eval()


def reported(objects: Objects) -> tuple[Tensor, Tensor]:
    """Identities in order, and boxes in that order, of a stream's valid objects."""
    identities, boxes = objects.identities[0][objects.valid[0]], objects.boxes[0][objects.valid[0]]
    order = identities.argsort(stable=True)
    return identities[order], boxes[order]


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("kind", TRACKERS)
def test_a_step_of_fixed_slots_waits_for_nothing_and_sees_the_same(kind: str, detector: str) -> None:
    tracker = build(kind, detector)
    fixed = tracker.with_fixed_slots()
    state, held = tracker.initial_state(), fixed.initial_state()
    for number in range(2):
        frame = make_frame(0.5 * number, speed_m_s=2.0)
        objects, state = tracker.step(frame, state)
        move = fixed.admit(frame, held)
        with CountWaits() as waits:
            found, held = fixed.advance(frame, held, move)
        assert not waits.counts
        assert fixed.detector.precomputed(frame, None).keys() == fixed.detector.told_inputs.keys()
        assert held.count == (SLOTS if kind != "single_frame" else 0)
        (ours, boxes), (theirs, others) = reported(objects), reported(found)
        assert len(ours) > 0 and torch.equal(ours, theirs)
        torch.testing.assert_close(boxes, others, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bevdepth", "dort"])
def test_candidates_are_told_without_waiting(kind: str) -> None:
    torch.manual_seed(0)
    base = rig.tiny_bevdepth(cell_offsets=True, head=rig.SUPPRESSING_HEAD)
    detector = (base if kind == "bevdepth" else rig.dort_on(base)).build().eval()
    if kind == "dort":
        rig.unsettled(detector)
    tracker = SingleFrameConfig(output_range_m=100.0).build(detector).eval()
    fixed = tracker.with_fixed_slots()
    state, held = tracker.initial_state(), fixed.initial_state()
    for number in range(4):
        frame = make_frame(0.5 * number, "a" if number < 3 else "b", speed_m_s=2.0)
        objects, state = tracker.step(frame, state)
        move = fixed.admit(frame, held)
        with torch.no_grad(), CountWaits() as waits:
            found, held = fixed.advance(frame, held, move)
        assert not waits.counts
        assert fixed.detector.precomputed(frame, None).keys() == fixed.detector.told_inputs.keys()
        chosen = detector.config.settled(found, 300)
        boxes, others = objects.boxes[0][objects.valid[0]], chosen.boxes[0][chosen.valid[0]]
        assert 0 < len(boxes) < found.valid.sum(), "some are suppressed"
        torch.testing.assert_close(boxes, others, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("detector", DETECTORS)
@torch.no_grad()
def test_a_look_with_tracks_that_the_host_pairs_waits_for_nothing(detector: str) -> None:
    tracker = build("ada_track", detector)
    look = tracker.stepping_part().with_fixed_slots()
    state, template = tracker.initial_state(), template_of(look, make_frame())
    held = template
    for number in range(3):
        frame = make_frame(0.5 * number, speed_m_s=2.0)
        objects, state = tracker.step(frame, state)
        held = padded_state(held, template)
        move = look.admit(frame, held)
        with CountWaits() as waits:
            told, entered = look.advance(frame, held, move)
        assert not waits.counts
        assert entered.count == SLOTS and bool(entered.alive.any()) == (number > 0)
        found, held = tracker.associate(frame, entered, told)
        (ours, boxes), (theirs, others) = reported(objects), reported(found)
        assert len(ours) > 0 and torch.equal(ours, theirs)
        torch.testing.assert_close(boxes, others, rtol=1e-4, atol=1e-4)


def test_the_count_counts_what_waits() -> None:
    tracker = build("pf_track", "petr")
    frame, state = make_frame(), tracker.initial_state()
    with CountWaits() as waits:
        move = tracker.admit(frame, state)
    assert waits.counts["__bool__"] >= 1 and waits.counts["tolist"] == 1
    with CountWaits() as waits:
        tracker.advance(frame, state, move)
    # How many rows are foreseen, and how many go on.
    assert waits.counts["tolist"] == 1


def test_a_twin_shares_weights_and_leaves_its_tracker_as_it_was() -> None:
    tracker = build("mutr3d", "petr")
    fixed = tracker.with_fixed_slots()
    pairs = zip(tracker.parameters(), fixed.parameters(), strict=True)
    assert all(one is other for one, other in pairs)
    assert tracker.slots is None and not tracker.detector.fixed_shapes
    assert fixed.initial_state().identities.tolist() == [[-1] * SLOTS]


@pytest.mark.parametrize("kind", PAIRING)
def test_trackers_that_pair_on_the_host_say_so(kind: str) -> None:
    tracker = build(kind, "petr")
    with pytest.raises(SynclError, match=f"{type(tracker).__name__} ties detections to tracks on the host"):
        tracker.with_fixed_slots()
