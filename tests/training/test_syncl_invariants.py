"""What SynCL must leave alone, and what it must not wait for: over whole clips, on every tracker."""

import dataclasses
from functools import partial
from itertools import product

import pytest
import torch

import rig
from rig import DETECTORS, DIM
from syncl.layers.decoder import PARALLEL
from syncl.trackers import AdaTrackConfig, ClipNoise, Mutr3dConfig, PfTrackConfig
from syncl.training.objectives.reasoning import ReasoningLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig, InstanceContrast
from syncl.training.strategies.syncl.hybrid_matching import one_to_many
from syncl.training.strategies.syncl.query_filtering import fit_mixture, mixture_threshold
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

# An object comes, one goes.
CLIP = ([0, 1, 2], [0, 2, 3, 4], [2, 3, 4, 5])
make_frame = partial(rig.make_frame, streams=2)


TRACKERS = {
    "mutr3d": Mutr3dConfig(heads=4, hidden=48, noise=ClipNoise()),
    "pf_track": PfTrackConfig(heads=4, hidden=48, dropout=0.0, future_reasoning=False, motion="velocity"),
    "ada_track": AdaTrackConfig(heads=4, hidden=48, dropout=0.0, noise=ClipNoise()),
}
UNROLL = UnrollConfig(reasoning=ReasoningLossConfig(trajectory=0.0))


def build(detector, tracker="mutr3d"):
    torch.manual_seed(0)
    return TRACKERS[tracker].build(DETECTORS[detector].build())


# Every detector, and every tracker; the other pairs are slow tests.
PAIRS = [
    pytest.param(*pair, marks=() if pair[0] == "petr" or pair[1] == "mutr3d" else pytest.mark.slow)
    for pair in product(DETECTORS, TRACKERS)
]


@pytest.mark.parametrize(("detector", "tracker"), PAIRS)
def test_the_standard_decoder_of_a_whole_clip_is_the_baselines_to_the_last_bit(detector, tracker):
    losses, gradients = {}, {}
    for name, strategy in (("baseline", BaselineConfig()), ("syncl", SynclConfig())):
        module = ClipTraining(build(detector, tracker), strategy.build(DIM), UNROLL)
        found = module(rig.make_clip(*CLIP, streams=2))
        own = [
            value for key, value in found.items() if key not in ("total", "contrast") and "cross" not in key
        ]
        torch.stack(own).sum().backward()
        losses[name] = [value.detach() for value in own]
        gradients[name] = {key: p.grad for key, p in module.tracker.named_parameters() if p.grad is not None}
        if name == "syncl":
            assert found["contrast"] != 0 and found["cross_class"] > 0
    for plain, beside in zip(losses["baseline"], losses["syncl"], strict=True):
        assert torch.equal(plain, beside)
    assert gradients["baseline"].keys() <= gradients["syncl"].keys()
    for key, plain in gradients["baseline"].items():
        # Sums over a batch twice as long are rounded differently.
        assert torch.allclose(plain, gradients["syncl"][key], rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("tracker", TRACKERS)
def test_what_is_saved_and_what_it_tracks_is_the_baselines(tracker):
    plain = build("petr", tracker)
    module = ClipTraining(build("petr", tracker), SynclConfig().build(DIM), UNROLL)
    assert list(module.strategy.parameters()), "SynCL's own modules are what must not be saved"
    saved = module.tracker.state_dict()
    assert saved.keys() == plain.state_dict().keys()
    plain.load_state_dict(saved)
    state, other = plain.initial_state(2), module.tracker.initial_state(2)
    plain.eval()
    module.tracker.eval()
    for time_s in (1.0, 1.5):
        objects, state = plain.step(make_frame(time_s), state)
        same, other = module.tracker.step(make_frame(time_s), other)
        assert torch.equal(objects.scores, same.scores) and torch.equal(objects.boxes, same.boxes)
        assert torch.equal(objects.identities, same.identities)


def test_the_cross_decoder_of_streampetr_sees_no_memory():
    detector = build("streampetr").detector.eval()
    frame = make_frame(1.0)
    features = detector.encode(frame)
    queries = detector.initial_queries(features)
    changed = dataclasses.replace(
        features, temporal_keys=features.temporal_keys + 1, temporal_values=features.temporal_values - 2
    )
    with torch.no_grad():
        standard, cross = detector.decode(queries, features, PARALLEL)
        moved, same = detector.decode(queries, changed, PARALLEL)
    assert torch.equal(cross.logits, same.logits)
    assert not torch.allclose(standard.logits, moved.logits, atol=1e-3)


def test_each_decoder_of_detr3d_refines_its_own_references():
    detector = build("detr3d").detector.eval()
    for branch in detector.box_branches:
        torch.nn.init.normal_(branch[-1].weight, std=0.5)
    features = detector.encode(make_frame(1.0))
    queries = detector.initial_queries(features)
    with torch.no_grad():
        standard, cross = detector.decode(queries, features, PARALLEL)
        alone = detector.decode(
            dataclasses.replace(queries.map(lambda tensor: tensor[:, :1]), object_count=1),
            features,
            PARALLEL,
        )[1]
    assert torch.equal(standard.references[0], cross.references[0])
    assert torch.equal(cross.references[1], cross.codes[0, ..., :3])
    assert not torch.allclose(standard.references[1], cross.references[1], atol=1e-3)
    assert torch.allclose(alone.codes, cross.codes[:, :, :1], atol=1e-4), "others took part"


def test_mixtures_of_all_layers_at_once_are_those_of_each_by_itself():
    torch.manual_seed(0)
    costs = torch.randn(3, 2, 40) * torch.tensor([0.5, 1.0, 3.0])[:, None, None]
    costs[..., 20:] += 5
    valid = torch.rand(3, 2, 40) > 0.3
    together = fit_mixture(costs, valid)
    for layer in range(3):
        for stream in range(2):
            own = valid[layer, stream]
            alone = fit_mixture(costs[layer, stream][own], own[own])
            for part, expected in zip(together, alone, strict=True):
                assert torch.allclose(part[layer, stream], expected, atol=1e-9)


def test_matching_and_filtering_never_wait_for_values():
    # Tensors on the meta device have none: whatever asks for one fails.
    cost = torch.empty(6, 2, 50, 7, device="meta")
    wanted = torch.empty(2, 7, dtype=torch.bool, device="meta")
    pairs = one_to_many(cost, wanted, 5)
    threshold = mixture_threshold(pairs.costs.flatten(2), pairs.valid.flatten(2))
    assert threshold.shape == (6, 2)
    kept = pairs.keep(pairs.costs <= threshold[..., None, None])
    assert kept.targets(50).shape == (6, 2, 50)
    with pytest.raises(RuntimeError):
        bool(threshold.sum() > 0)


def test_similarity_is_a_perceptron_of_the_projected_object_times_the_track():
    torch.manual_seed(0)
    contrast = InstanceContrast(8, ContrastiveConfig(score_limit=0.0))
    objects, tracks = torch.randn(3, 8), torch.randn(2, 8)
    scores = contrast.scores(objects, tracks)
    for row in range(3):
        for column in range(2):
            product = contrast.object_projection(objects[row]) * tracks[column]
            assert torch.allclose(scores[row, column], contrast.similarity(product)[0], atol=1e-6)
    limited = InstanceContrast(8, ContrastiveConfig(score_limit=0.1))
    limited.load_state_dict(contrast.state_dict())
    assert torch.allclose(limited.scores(objects, tracks), 0.1 * torch.tanh(scores / 0.1), atol=1e-6)
