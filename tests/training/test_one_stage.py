"""Two class heads (table 8): who is told what, who learns from whom, and what tracking goes by."""

import dataclasses
from functools import partial

import pytest
import torch

import rig
from grids import thinned
from rig import DETECTORS, DIM, HEIGHT, WIDTH
from syncl.checkpoints.model_file import load_model, save_model
from syncl.layers.decoder import PARALLEL
from syncl.structures import Annotations, Clip, Predictions
from syncl.trackers import ClipNoise, Mutr3dConfig, PfTrackConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.objectives.reasoning import ReasoningLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

from ..decoded import decoded_of

make_frame = partial(rig.make_frame, streams=2)
# Two streams; tracks of the first hold objects 0 and 1, that of the second holds 2, and one lost its object.
IDENTITIES = torch.tensor([[0, 1], [2, 99]])


MUTR3D = Mutr3dConfig(heads=4, hidden=48, noise=ClipNoise(), tracking_head=True)
PF_TRACK = PfTrackConfig(heads=4, hidden=48, dropout=0.0, future_reasoning=False, motion="velocity")
TRACKERS = {
    "mutr3d": MUTR3D,
    "pf_track": dataclasses.replace(PF_TRACK, tracking_head=True),
    "pf_track_plain": dataclasses.replace(PF_TRACK, tracking_head=True, past_reasoning=False),
}
STRATEGIES = {"baseline": BaselineConfig(), "syncl": SynclConfig()}
UNROLL = UnrollConfig(reasoning=ReasoningLossConfig(trajectory=0.0))


def build(detector="petr", tracker="mutr3d", **options):
    torch.manual_seed(0)
    return dataclasses.replace(TRACKERS[tracker], **options).build(DETECTORS[detector].build())


def make_annotations(objects: int = 5, streams: int = 2) -> Annotations:
    boxes = torch.zeros(streams, objects, 9)
    boxes[..., 0] = torch.arange(objects) * 8.0 - 16
    boxes[..., 3:6] = torch.tensor([4.0, 2.0, 1.5])
    return Annotations(
        boxes,
        torch.arange(objects).remainder(4).repeat(streams, 1),
        torch.arange(objects).repeat(streams, 1),
        torch.ones(streams, objects, dtype=torch.bool),
    )


def make_predictions(seed: int, objects: int = 12) -> Predictions:
    """Of both heads, as leaves; two track queries behind the object queries."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(width: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(2, 2, objects + 2, width, generator=generator) * scale).requires_grad_()

    codes = leaf(10, 5)
    valid = torch.ones(2, objects + 2, dtype=torch.bool)
    return Predictions(leaf(4), codes, leaf(DIM), codes.detach()[..., :3], valid, objects, leaf(4))


def gradient_rows(loss: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """[L, B, Q] which rows of a leaf learn from a loss."""
    (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros(leaf.shape[:-1], dtype=torch.bool) if gradient is None else (gradient != 0).any(-1)


def test_detection_sees_all_objects_and_tracking_the_new_born():
    predictions, annotations = make_predictions(1), make_annotations()
    strategy = BaselineConfig().build(DIM)
    assignment, ties = strategy.assign(decoded_of((predictions,), IDENTITIES), annotations)
    assert ties.tolist() == [[0, 1], [2, -1]]
    detected = assignment.detection.targets
    born = assignment.targets[:, :, :12]
    for stream, held in enumerate(({0, 1}, {2})):
        for layer in range(2):
            seen = detected[layer, stream]
            assert sorted(seen[seen >= 0].tolist()) == list(range(5))
            expected = [-1 if target in held else target for target in seen.tolist()]
            assert born[layer, stream].tolist() == expected
    assert torch.equal(assignment.targets[:, :, 12:], ties.expand(2, -1, -1))
    assert assignment.vanished.tolist() == [[False, False], [False, True]]
    outcome = strategy(decoded_of((predictions,), IDENTITIES), annotations)
    for stream, held in enumerate(({0, 1}, {2})):
        own = outcome.identities[stream, :12]
        assert set(own[own >= 0].tolist()) == set(range(5)) - held, "a tracked object was born again"
    assert outcome.identities[:, 12:].tolist() == IDENTITIES.tolist()


def test_the_detection_match_goes_by_the_detection_head():
    predictions, annotations = make_predictions(1), make_annotations()
    strategy = BaselineConfig().build(DIM)
    before, _ = strategy.assign(decoded_of((predictions,), IDENTITIES), annotations)
    confused = dataclasses.replace(predictions, logits=predictions.logits.flip(2) * 9)
    same, _ = strategy.assign(decoded_of((confused,), IDENTITIES), annotations)
    assert torch.equal(before.detection.targets, same.detection.targets)
    turned = dataclasses.replace(predictions, detection_logits=predictions.detection_logits.flip(2) * 99)
    other, _ = strategy.assign(decoded_of((turned,), IDENTITIES), annotations)
    assert not torch.equal(before.detection.targets, other.detection.targets)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_each_head_learns_its_own_task_alone(kind):
    annotations = make_annotations()
    strategy = STRATEGIES[kind].build(DIM)
    pair = make_predictions(1), make_predictions(2)
    losses = strategy(decoded_of(pair[: len(strategy.groups)], IDENTITIES), annotations).losses
    standard = pair[0]
    detecting = gradient_rows(losses["detect_class"], standard.detection_logits)
    assert detecting[:, :, :12].all() and not detecting[:, :, 12:].any(), "track rows taught detection"
    assert not gradient_rows(losses["detect_class"], standard.logits).any()
    assert gradient_rows(losses["class"], standard.logits).all()
    assert not gradient_rows(losses["class"], standard.detection_logits).any()
    if kind == "syncl":
        cross = pair[1]
        assert not gradient_rows(losses["cross_detect_class"], cross.logits).any()
        detecting = gradient_rows(losses["cross_detect_class"], cross.detection_logits)
        assert detecting[:, :, :12].any() and not detecting[:, :, 12:].any()
        tracking = gradient_rows(losses["cross_class"], cross.logits)
        assert tracking[:, :, 12:].all() and not tracking[:, :, :12].any()
        assert not gradient_rows(losses["cross_class"], cross.detection_logits).any()


def test_a_tracked_object_that_is_detected_pushes_the_heads_opposite_ways():
    predictions, annotations = make_predictions(1), make_annotations()
    strategy = BaselineConfig().build(DIM)
    assignment, _ = strategy.assign(decoded_of((predictions,), IDENTITIES), annotations)
    losses = strategy(decoded_of((predictions,), IDENTITIES), annotations).losses
    row = int((assignment.detection.targets[1, 0] == 0).nonzero()[0, 0])
    label = int(annotations.labels[0, 0])
    (up,) = torch.autograd.grad(losses["detect_class"], predictions.detection_logits, retain_graph=True)
    (down,) = torch.autograd.grad(losses["class"], predictions.logits, retain_graph=True)
    assert up[1, 0, row, label] < 0 < down[1, 0, row, label]
    (box,) = torch.autograd.grad(losses["box"], predictions.codes)
    assert (box[1, 0, row] != 0).any(), "its box is learned from what it detects"


def test_one_to_many_candidates_are_chosen_by_the_detection_head():
    annotations, persistent = make_annotations(), torch.tensor([[True, True, False, False, False]] * 2)
    strategy = SynclConfig(filter="none").build(DIM)
    cross = make_predictions(2)
    pairs = strategy.reliable_pairs(cross, annotations, persistent)
    same = strategy.reliable_pairs(
        dataclasses.replace(cross, logits=cross.logits.flip(2) * 9), annotations, persistent
    )
    assert torch.equal(pairs.rows, same.rows) and torch.equal(pairs.costs, same.costs)
    turned = dataclasses.replace(cross, detection_logits=cross.detection_logits.flip(2) * 9)
    assert not torch.equal(pairs.costs, strategy.reliable_pairs(turned, annotations, persistent).costs)


def test_one_to_many_in_the_standard_decoder_widens_both_heads():
    annotations = make_annotations()
    silent = ContrastiveConfig(weight=0.0)
    switches = {"decoder": "standard", "objects": "new_born", "filter": "none", "contrastive": silent}
    decoded = decoded_of((make_predictions(1),), IDENTITIES)
    widened = SynclConfig(**switches).build(DIM)(decoded, annotations)
    plain = BaselineConfig().build(DIM)(decoded, annotations)
    assert torch.equal(widened.identities, plain.identities)
    assert widened.losses["class"] != plain.losses["class"]
    assert widened.losses["detect_class"] != plain.losses["detect_class"]


# SynCL trains all that the baseline trains, on every pair; the baseline by itself on one detector.
@pytest.mark.parametrize(
    ("detector", "tracker", "kind"),
    [*thinned(DETECTORS, TRACKERS, ["syncl"]), *thinned(["petr"], TRACKERS, ["baseline"])],
)
def test_a_clip_trains_both_heads(detector, tracker, kind):
    built = build(detector, tracker)
    denoising = DenoisingConfig(groups=2) if detector == "streampetr" else None
    unroll = dataclasses.replace(UNROLL, denoising=denoising)
    module = ClipTraining(built, STRATEGIES[kind].build(DIM), unroll)
    frames = tuple(make_frame(time_s) for time_s in (1.0, 1.5, 2.0))
    losses = module(Clip(frames, (make_annotations(),) * 3))
    losses["total"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]


def test_frames_without_objects_train():
    module = ClipTraining(build(), SynclConfig().build(DIM), UNROLL)
    losses = module(Clip((make_frame(1.0), make_frame(1.5)), (make_annotations(0),) * 2))
    losses["total"].backward()
    assert torch.isfinite(losses["total"])


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_standard_decoder_is_the_same_to_the_last_bit_beside_the_other(detector):
    tracker = build(detector).eval()
    features = tracker.detector.encode(make_frame(1.0))
    queries = tracker.detector.initial_queries(features)
    with torch.no_grad():
        state = tracker.initial_state(2)
        alone = tracker.classify(tracker.detector.decode(queries, features)[0], state)
        beside = tracker.classify(tracker.detector.decode(queries, features, PARALLEL)[0], state)
    assert torch.equal(alone.logits, beside.logits)
    assert torch.equal(alone.detection_logits, beside.detection_logits)
    assert not torch.equal(alone.logits, alone.detection_logits)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_without_the_head_nothing_is_new(tracker):
    off = build("petr", tracker, tracking_head=False)
    assert not [name for name in off.state_dict() if "tracking_head" in name]
    on = build("petr", tracker)
    weights = on.state_dict()
    extra = {name for name in weights if name not in off.state_dict()}
    assert extra and all(name.startswith("tracking_head.") for name in extra)
    features = off.detector.encode(make_frame(1.0))
    (predictions,) = off.detector.decode(off.detector.initial_queries(features), features)
    assert off.classify(predictions, off.initial_state(2)) is predictions
    shared = {name: tensor for name, tensor in weights.items() if name not in extra}
    off.load_state_dict(shared)
    on.eval()
    off.eval()
    on.tracking_head = None
    (plain, _), (bare, _) = (t.step(make_frame(1.0), t.initial_state(2)) for t in (off, on))
    assert torch.equal(plain.scores, bare.scores) and torch.equal(plain.boxes, bare.boxes)


@pytest.mark.parametrize("tracker", ["mutr3d", "pf_track_plain"])
def test_tracking_goes_by_the_tracking_head(tracker):
    built = build("petr", tracker).eval()
    for branch in built.tracking_head.branches:
        torch.nn.init.constant_(branch[-1].bias, 9.0)
    objects, state = built.step(make_frame(1.0), built.initial_state(2))
    assert objects.valid.any() and state.count > 0, "the tracking head's scores gave birth to nothing"
    for branch in built.detector.class_branches:
        torch.nn.init.constant_(branch[-1].bias, -99.0)
    same, _ = built.step(make_frame(1.0), built.initial_state(2))
    assert torch.equal(objects.scores, same.scores) and torch.equal(objects.identities, same.identities)
    for branch in built.tracking_head.branches:
        torch.nn.init.constant_(branch[-1].bias, -9.0)
    nothing, after = built.step(make_frame(1.0), built.initial_state(2))
    assert not nothing.valid.any() and not after.alive.any()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_model_files_hold_the_head(tracker, tmp_path):
    config = ModelConfig(InputConfig((HEIGHT, WIDTH)), DETECTORS["petr"], TRACKERS[tracker])
    torch.manual_seed(3)
    built = config.build().eval()
    save_model(tmp_path / "model.safetensors", built.state_dict(), config)
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == config and loaded.tracker.tracking_head is not None
    first, _ = built.step(make_frame(1.0), built.initial_state(2))
    again, _ = loaded.tracker.step(make_frame(1.0), loaded.tracker.initial_state(2))
    assert torch.equal(first.scores, again.scores) and torch.equal(first.boxes, again.boxes)
