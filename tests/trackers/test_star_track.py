"""STAR-Track: what its latent motion and track embedding do, and that they begin as MUTR3D's geometry."""

import dataclasses

import pytest
import torch

import rig
from grids import thinned
from looks import entered, same
from rig import DIM, make_clip, make_frame, pose
from syncl.checkpoints.model_file import initialise_from, save_model
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_rigid
from syncl.trackers import ClipNoise, Move, Mutr3dConfig, StarTrackConfig, TrackQueries
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.star_track.latent_motion import MOTION_SIZE, LatentMotion, relative_motion
from syncl.training.strategies import BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

# Fresh weights are seldom sure of anything, and tracks are to be born.
LIFE = {"birth_score": 0.0, "keep_score": 0.0, "output_score": 0.0, "noise": ClipNoise()}
STAR = StarTrackConfig(hidden=32, blocks=4, **LIFE)
STRATEGIES = {"baseline": BaselineConfig(), "syncl": SynclConfig()}


def build(detector="detr3d", seed=0, **changes):
    torch.manual_seed(seed)
    return dataclasses.replace(STAR, **changes).build(rig.DETECTORS[detector].build()).eval()


def track(tracker, frames=3):
    """Objects of each of some frames of a turning vehicle."""
    state, found = tracker.initial_state(), []
    for number in range(frames):
        frame = make_frame(0.5 * number, poses=pose(2.0 * number, 0.0, 0.2 * number))
        objects, state = tracker.step(frame, state)
        found.append(objects)
    return found, state


@pytest.mark.parametrize("detector", ["detr3d", "petr"])
def test_without_its_own_parts_it_is_mutr3d_without_its_own_parts_to_the_last_bit(detector):
    bare = build(detector, transform="none", track_embedding=False)
    torch.manual_seed(0)
    mutr3d = Mutr3dConfig(heads=4, hidden=32, memory_slots=0, **LIFE).build(rig.DETECTORS[detector].build())
    mutr3d.query_interaction.forward = lambda positions, _contents, outputs, _valid: (positions, outputs)
    mutr3d.eval()
    ours, state = track(bare)
    theirs, other = track(mutr3d)
    assert state.count > 0 and same(tuple(ours), tuple(theirs)) and same(state, other)


@pytest.mark.parametrize(
    ("detector", "transform"), thinned(["detr3d", "streampetr"], ["block", "full", "diagonal"])
)
def test_it_starts_as_mutr3ds_geometry(detector, transform):
    whole = build(detector, transform=transform)
    bare = build(detector, seed=1, transform="none", track_embedding=False)
    bare.load_state_dict(
        {name: tensor for name, tensor in whole.state_dict().items() if name in bare.state_dict()}
    )
    ours, state = track(whole)
    theirs, _ = track(bare)
    assert state.count > 0
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.identities, other.identities)
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-6)
    torch.nn.init.normal_(whole.latent_motion.transform.weight)
    moved, _ = track(whole)
    assert torch.equal(moved[0].boxes, ours[0].boxes) and not torch.allclose(moved[1].boxes, ours[1].boxes)


# The latent motion model

MOTIONS = torch.randn(2, 5, MOTION_SIZE, generator=torch.Generator().manual_seed(1))
CONTENTS = torch.randn(2, 5, DIM, generator=torch.Generator().manual_seed(2))


def latent(blocks=4, norm="length", fresh=False) -> LatentMotion:
    torch.manual_seed(3)
    module = LatentMotion(DIM, blocks, 16, norm)
    if not fresh:
        torch.nn.init.normal_(module.transform.weight, std=0.1)
    return module


@pytest.mark.parametrize("blocks", [1, 4, DIM])
@pytest.mark.parametrize("norm", ["length", "none"])
def test_a_new_model_is_the_identity(blocks, norm):
    assert torch.equal(latent(blocks, norm, fresh=True)(CONTENTS, MOTIONS), CONTENTS)


@pytest.mark.parametrize("blocks", [1, 4, DIM])
def test_tracks_are_moved_each_by_itself(blocks):
    module = latent(blocks)
    moved = module(CONTENTS, MOTIONS)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(module(CONTENTS[:, order], MOTIONS[:, order]), moved[:, order])
    for stream in range(2):
        for row in range(5):
            one = slice(row, row + 1)
            alone = module(CONTENTS[stream, one][None], MOTIONS[stream, one][None])
            torch.testing.assert_close(alone[0, 0], moved[stream, row])
    assert module(CONTENTS[:, :0], MOTIONS[:, :0]).shape == (2, 0, DIM)


def test_equal_motions_make_equal_maps_which_are_linear_in_the_content():
    module = latent(norm="none")
    twice = MOTIONS[:, :1].expand(-1, 5, -1)
    moved = module(CONTENTS, twice) - module(torch.zeros_like(CONTENTS), twice)
    doubled = module(2 * CONTENTS, twice) - module(torch.zeros_like(CONTENTS), twice)
    torch.testing.assert_close(doubled, 2 * moved)
    row = module(CONTENTS[:, 2:3], MOTIONS[:, :1])
    torch.testing.assert_close(module(CONTENTS, twice)[:, 2:3], row)


def test_a_map_worked_by_hand():
    """Blocks of two channels: the first is turned by 90 degrees and shifted, all others stay."""
    module = LatentMotion(4, 2, 8, "none")
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]]) - torch.eye(2)
    with torch.no_grad():
        module.transform.bias[:4] = turn.flatten()
        module.transform.bias[8] = 10.0
    moved = module(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.zeros(1, 1, MOTION_SIZE))
    assert moved.tolist() == [[[-2.0 + 10.0, 1.0, 3.0, 4.0]]]
    module.norm = "length"
    kept = module(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.zeros(1, 1, MOTION_SIZE))
    torch.testing.assert_close(kept, moved * (30.0 / (64 + 1 + 9 + 16)) ** 0.5)


def test_contents_keep_their_length_and_empty_rows_are_finite():
    module, contents = latent(), CONTENTS.clone()
    contents[:, 0] = 0
    contents.requires_grad_()
    moved = module(contents, MOTIONS)
    torch.testing.assert_close(moved[:, 1:].norm(dim=-1), contents[:, 1:].norm(dim=-1))
    moved.sum().backward()
    assert torch.isfinite(moved).all() and torch.isfinite(contents.grad).all()


def test_the_motion_is_that_of_object_and_vehicle():
    """The vehicle drives 4 m and turns left by 90 degrees; the object ahead drives 3 m/s to the left."""
    codes = torch.zeros(1, 1, 10)
    codes[0, 0, 0], codes[0, 0, 6], codes[0, 0, 9] = 10.0, 1.0, 3.0  # ahead, heading and driving left
    before = TrackQueries(torch.zeros(1, 1, DIM), torch.zeros(1, 1, DIM), codes)
    now_from_before = invert_rigid(pose(4.0, 0.0, torch.pi / 2))[None]
    truth = torch.ones(1, dtype=torch.bool)
    move = Move(now_from_before, torch.tensor([0.5], dtype=torch.float64), truth, truth)
    # Seen from where it stands now: 6 m to the right, and 1.5 m ahead of there.
    motion = relative_motion(before, torch.tensor([[[1.5, -6.0, 0.0]]]), move)[0, 0]
    assert motion.shape == (MOTION_SIZE,)
    rotation = torch.tensor([0.0, 1, 0, -1, 0, 0, 0, 0, 1])
    expected = [*rotation, 0.0, 0.4, 0.0, -0.85, -0.6, 0.0, 0.0, 0.3, 0.5, 0.0, 1.0]
    torch.testing.assert_close(motion, torch.tensor(expected), rtol=0, atol=1e-6)


def test_a_standing_track_seen_from_a_standing_vehicle_is_a_rotation_of_one_and_zeros():
    tracker = build()
    _, state = track(tracker, 1)
    codes = state.queries.codes.clone()
    codes[..., 8:] = 0
    state = dataclasses.replace(state, queries=dataclasses.replace(state.queries, codes=codes))
    move = tracker.admit(make_frame(0.5), state)
    motion = relative_motion(state.queries, state.queries.references, move)
    assert torch.equal(motion[0, 0, :9], torch.eye(3).flatten()) and not motion[..., 9:17].any()
    moved = entered(tracker, make_frame(0.5), state)
    assert torch.equal(moved.queries.embeddings, state.queries.embeddings)


# The track embedding


def test_the_same_output_can_be_a_sure_new_born_and_an_unsure_track():
    tracker = build("petr")
    torch.nn.init.normal_(tracker.track_embedding.existence.weight, std=1.0)
    _, state = track(tracker, 2)
    with torch.no_grad():
        decoded = tracker.look(make_frame(1.0), state)
        predictions = decoded.standard
        # Every track's output is what the first object query's is.
        outputs = predictions.embeddings.clone()
        count = predictions.object_count
        outputs[:, :, count:] = outputs[:, :, :1]
        logits = tracker.classify(dataclasses.replace(predictions, embeddings=outputs), decoded.state).logits
    assert torch.equal(logits[:, :, :count], predictions.logits[:, :, :count])
    assert not torch.isclose(logits[:, :, count:], logits[:, :, :1], atol=1e-3).all(-1).any()


def test_object_queries_carry_one_embedding_and_tracks_their_own():
    tracker = build("petr")
    plain = tracker.detector.initial_queries(tracker.detector.encode(make_frame(0.0))).embeddings
    torch.nn.init.eye_(tracker.track_embedding.entry.weight)
    _, state = track(tracker, 2)
    with torch.no_grad():
        asked = tracker.look(make_frame(1.0), state).queries
    carried = asked.embeddings[:, : asked.object_count] - plain
    torch.testing.assert_close(carried, tracker.track_embedding.of_objects.detach().expand_as(carried))
    own = state.own.embeddings
    assert not torch.allclose(own[:, 0], own[:, 1])
    # A frame renews it from what the decoder made of the query.
    _, later = tracker.step(make_frame(1.0), state)
    assert not torch.allclose(later.own.embeddings[:, : own.shape[1]], own)


# Training


@pytest.mark.parametrize(("strategy", "detector"), thinned(STRATEGIES, ["detr3d", "petr", "streampetr"]))
def test_a_clip_trains_every_part(strategy, detector):
    module = ClipTraining(build(detector).train(), STRATEGIES[strategy].build(DIM), UnrollConfig())
    # At zero, nothing passes the last maps yet.
    for name, parameter in module.tracker.named_parameters():
        if "transform" in name or "entry" in name or "existence" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    losses = module(make_clip([0, 1, 2], [0, 2, 3], [2, 3]))
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    silent = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not silent
    for part in ("latent_motion.transform.weight", "track_embedding.of_objects"):
        assert module.tracker.get_parameter(part).grad.abs().max() > 0


def test_settings_that_contradict_one_another_are_refused():
    with pytest.raises(SynclError, match=r"transform=none has no latent motion for tracker\.norm=layer"):
        build(transform="none", norm="layer")
    with pytest.raises(SynclError, match=r"tracker\.blocks=5: 32 channels cannot be split"):
        build(blocks=5)


def test_weights_of_another_transform_are_refused_naming_what_differs(tmp_path):
    config = ModelConfig(InputConfig((rig.HEIGHT, rig.WIDTH)), rig.DETECTORS["petr"], STAR)
    save_model(tmp_path / "block.safetensors", build("petr").state_dict(), config)
    with pytest.raises(SynclError, match=r"latent_motion\.transform\.\w+ has shape \(\d+"):
        initialise_from(build("petr", transform="full"), tmp_path / "block.safetensors")
