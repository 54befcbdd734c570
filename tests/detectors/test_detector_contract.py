"""What every detector promises, on the small models."""

import dataclasses
import warnings
from functools import cache, partial

import pytest
import torch

import rig
from grids import thinned
from rig import SMALL, make_tracker
from syncl.detectors import ProposalConfig
from syncl.detectors.aids import Aided, Proposals
from syncl.detectors.interaction import Interaction
from syncl.detectors.seen_rigs import SeenRigs
from syncl.errors import SynclError
from syncl.layers.decoder import PARALLEL
from syncl.recipes.synthetic import small_detr3d
from syncl.structures import CameraRig

make_frame = partial(rig.make_frame, cameras=6, size=(64, 96))


# Each camera has weights of its own.
OF_A_RIG = ("detr3d", "mutr3d_detr3d", "bevformer")


def build(kind: str, **changes):
    torch.manual_seed(0)
    return dataclasses.replace(SMALL[kind](), **changes).build().eval()


@cache
def shared(kind: str):
    """As recipes have it; not to be changed."""
    return build(kind)


@torch.no_grad()
def predict(detector, frame):
    features = detector.encode(frame)
    return detector.decode(detector.initial_queries(features), features)[0]


@pytest.mark.parametrize(("kind", "size"), thinned(SMALL, [(64, 96), (96, 160), (40, 72)]))
def test_shapes(kind, size):
    detector = shared(kind)
    predictions = predict(detector, make_frame(size=size))
    layers, queries = detector.config.layers, detector.query_count
    assert predictions.logits.shape == (layers, 1, queries, 10)
    assert predictions.codes.shape == (layers, 1, queries, 10)
    assert torch.isfinite(predictions.codes).all()
    low, high = torch.tensor(detector.config.point_range).view(2, 3)
    assert (predictions.codes[..., :3] >= low).all() and (predictions.codes[..., :3] <= high).all()


@pytest.mark.parametrize("kind", SMALL)
def test_a_missing_camera_is_a_mask(kind):
    detector = shared(kind)
    frame = make_frame()
    valid = frame.camera_valid.clone()
    valid[0, 2] = False
    with_hole = dataclasses.replace(frame, camera_valid=valid)
    images = frame.images.clone()
    images[0, 2] = 255
    other_pixels = dataclasses.replace(with_hole, images=images)
    masked = predict(detector, with_hole)
    assert torch.allclose(masked.logits, predict(detector, other_pixels).logits, atol=1e-5)
    assert not torch.allclose(masked.logits, predict(detector, frame).logits, atol=1e-5)


@pytest.mark.parametrize("kind", SMALL)
def test_no_camera_at_all_gives_finite_numbers(kind):
    frame = make_frame()
    blind = dataclasses.replace(frame, camera_valid=torch.zeros_like(frame.camera_valid))
    assert torch.isfinite(predict(shared(kind), blind).codes).all()


@pytest.mark.parametrize(("kind", "cameras"), thinned(SMALL, [1, 3, 7]))
def test_any_number_of_cameras(kind, cameras):
    detector = build(kind, cameras=cameras) if kind in OF_A_RIG else shared(kind)
    assert predict(detector, make_frame(cameras=cameras)).logits.shape[2] == detector.query_count


@pytest.mark.parametrize("kind", OF_A_RIG)
def test_a_rig_of_another_size_than_the_weights_know_is_refused_with_the_remedy(kind):
    refused = r"weights for 6 cameras, the frame has 4 \(CAM_0, .*any-rig.*camera_valid.*detector\.cameras"
    with pytest.raises(SynclError, match=refused):
        predict(shared(kind), make_frame(cameras=4))


@pytest.mark.parametrize("kind", SMALL)
def test_images_must_fit_the_stride(kind):
    with pytest.raises(SynclError, match=r"60 x 96 pixels cannot be used.*divisible by 8"):
        predict(shared(kind), make_frame(size=(60, 96)))


def test_permuting_cameras_does_not_change_petr_up_to_its_camera_encoding():
    # DETR3D has weights of its own for each camera; sampling itself must not care about the order.
    # As recipes have it: with other weights some cells are equal, and which become proposals is chance.
    torch.manual_seed(0)
    detector = small_detr3d().build().eval()
    frame = make_frame()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    rig = CameraRig(
        tuple(frame.rig.names[i] for i in order),
        frame.rig.image_from_camera[:, order],
        frame.rig.camera_from_vehicle[:, order],
    )
    permuted = dataclasses.replace(frame, images=frame.images[:, order], rig=rig)
    # With equal weights for all cameras (their initial state) the order does not matter.
    first, second = predict(detector, frame), predict(detector, permuted)
    assert torch.allclose(first.logits[0, 0, 64:], second.logits[0, 0, 64:], atol=1e-4)


@pytest.mark.parametrize("kind", SMALL)
def test_too_many_proposals_are_refused(kind):
    with pytest.raises(SynclError, match=r"proposals.count=97 exceeds the 96 object queries"):
        build(kind, proposals=ProposalConfig(count=97))


@pytest.mark.parametrize("kind", SMALL)
def test_without_proposals_the_published_form_works(kind):
    detector = build(kind, proposals=None, lifted_tracks=False)
    assert not isinstance(detector, Aided)
    assert torch.isfinite(predict(detector, make_frame()).codes).all()


@pytest.mark.parametrize("kind", OF_A_RIG)
def test_lifted_tracks_are_placed_as_proposals_are(kind):
    detector = shared(kind)
    features = detector.encode(make_frame())
    queries = detector.initial_queries(features)
    places = features.found(Proposals).references
    count = places.shape[1]
    learned = detector.query_embedding.weight[:count, : detector.dim]
    placed = detector.track_positions(queries.positions[:, :count] * 0, places)
    assert detector.positions_follow_references
    assert torch.allclose(learned + placed, queries.positions[:, :count], atol=1e-6)
    moved = detector.track_positions(placed, places + 2.0)
    assert not torch.allclose(placed, moved, atol=1e-3)


@pytest.mark.parametrize("kind", ["petr", "petrv2", "streampetr"])
def test_lifted_tracks_of_the_petr_family_are_placed_as_proposals_are(kind):
    detector = shared(kind)
    features = detector.encode(make_frame())
    queries = detector.initial_queries(features)
    references = features.found(Proposals).references
    placed = detector.track_positions(torch.zeros(1, 1, detector.dim), references)
    assert torch.allclose(placed, queries.positions[:, : references.shape[1]], atol=1e-5)
    published = build(kind, lifted_tracks=False)
    published.load_state_dict(detector.state_dict())
    lifted = detector.proposal_head.positions(detector.point_range.normalise(references))
    plain = published.track_positions(torch.zeros(1, 1, detector.dim), references)
    assert torch.allclose(plain + lifted, placed, atol=1e-5)


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_decoders_start_as_if_they_saw_no_nearby_proposals_and_can_learn_to(kind):
    detector = build(kind, proposals=ProposalConfig(count=64, nearby=True))
    head = detector.proposal_head
    features = detector.encode(make_frame())
    queries = detector.initial_queries(features)

    def logits():
        return detector.decode(queries, features)[0].logits

    start = logits()
    torch.nn.init.normal_(head.nearby.out[-1].weight)
    later, told = logits(), detector.told(queries, features.found(Proposals))
    head.nearby = None
    assert torch.equal(start, logits())
    assert (later - start).abs().max() > 1e-4
    assert torch.equal(told.references, queries.references)
    assert not torch.allclose(told.embeddings, queries.embeddings)
    assert detector.told(queries, features.found(Proposals)) is queries


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_queries_are_moved_towards_proposals_with_the_part_that_says_where_they_are(kind):
    near = ProposalConfig(count=64, nearby=True, moves=True)
    detector = build(kind, proposals=near, lifted_tracks=False)
    features = detector.encode(make_frame())
    queries, proposals = detector.initial_queries(features), features.found(Proposals)
    still = detector.told(queries, proposals)
    assert torch.equal(still.references, queries.references)
    assert torch.equal(still.positions, queries.positions)
    torch.nn.init.constant_(detector.proposal_head.nearby.steps[-1].bias, 0.3)
    moved = detector.told(queries, proposals)
    assert (moved.references - queries.references).abs().max() > 0.1
    assert torch.equal(moved.codes[..., 3:], queries.codes[..., 3:])
    expected = queries.positions
    if kind in ("petr", "petrv2", "streampetr"):
        before, after = (detector.track_positions(expected, at.references) for at in (queries, moved))
        expected = expected + after - before
    torch.testing.assert_close(moved.positions, expected)
    assert torch.isfinite(detector.decode(queries, features)[0].codes).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proposals": ProposalConfig(moves=True), "lifted_tracks": False}, "needs proposals.nearby=true"),
        ({"proposals": ProposalConfig(nearby=True, moves=True), "lifted_tracks": True}, "choose one"),
    ],
)
def test_moves_that_nobody_finds_or_that_lifted_tracks_would_deny_are_refused(changes, message):
    with pytest.raises(SynclError, match=message):
        build("petr", **changes)


@pytest.mark.parametrize("kind", ["petr", "petrv2", "streampetr"])
def test_an_attended_level_that_is_not_there_is_refused(kind):
    with pytest.raises(SynclError, match="attended_level=3: the neck has 3 levels"):
        build(kind, attended_level=3)


def test_tracks_with_learned_positions_keep_them_wherever_they_go():
    detector = build("detr3d", lifted_tracks=False)
    positions = torch.randn(1, 4, detector.dim)
    assert not detector.positions_follow_references
    assert detector.track_positions(positions, torch.randn(1, 4, 3)) is positions


@pytest.mark.parametrize("kind", SMALL)
def test_lifted_tracks_without_proposals_are_refused(kind):
    with pytest.raises(SynclError, match=r"lifted_tracks=true needs detector\.proposals"):
        build(kind, proposals=None)


class Unchanged(Interaction):
    """Looks on, and notes what it is given."""

    def __init__(self) -> None:
        self.seen = []

    def __call__(self, layer, states, codes):
        self.seen.append((layer, states, codes))
        return states


class Marked(Unchanged):
    """Marks the states of one layer."""

    def __call__(self, layer, states, codes):
        super().__call__(layer, states, codes)
        return states + 0.3 if layer == 1 else states


class Blinkered(Unchanged):
    """In one layer every query sees itself alone."""

    def mask(self, layer):
        return torch.eye(96, dtype=torch.bool)[None] if layer == 1 else None


def prepared(kind):
    """A detector that answers its inputs, its queries and features; 96 queries."""
    changes = {"queries": 64, "propagated": 32} if kind == "streampetr" else {}
    detector = build(kind, **changes)
    for branch in detector.box_branches:
        for parameter in branch.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    features = detector.encode(make_frame())
    return detector, detector.initial_queries(features), features


def same(first, second):
    fields = ("logits", "codes", "embeddings", "references")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in fields)


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_an_interaction_that_changes_nothing_changes_nothing(kind):
    detector, queries, features = prepared(kind)
    plain = detector.decode(queries, features, PARALLEL)
    onlooker = Unchanged()
    watched = detector.decode(queries, features, PARALLEL, onlooker)
    assert all(same(first, second) for first, second in zip(plain, watched, strict=True))
    assert [layer for layer, *_ in onlooker.seen] == list(range(len(detector.layers)))


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_an_interaction_changes_the_layer_and_those_behind_it_in_the_standard_decoder_alone(kind):
    detector, queries, features = prepared(kind)
    standard, cross = detector.decode(queries, features, PARALLEL)
    marked, same_cross = detector.decode(queries, features, PARALLEL, Marked())
    assert same(cross, same_cross)
    for layer in range(len(detector.layers)):
        equal = torch.equal(standard.embeddings[layer], marked.embeddings[layer])
        assert equal == (layer < 1)


@pytest.mark.parametrize("kind", OF_A_RIG)
@torch.no_grad()
def test_references_and_sizes_are_refined_by_the_boxes_before_an_interaction(kind):
    detector, queries, features = prepared(kind)
    (plain,) = detector.decode(queries, features)
    (marked,) = detector.decode(queries, features, interaction=(interaction := Marked()))
    # The boxes of layer 1 that are reported changed, the reference that layer 2 starts from did not.
    assert not torch.allclose(plain.codes[1], marked.codes[1], atol=1e-4)
    assert torch.equal(plain.references, marked.references)
    for layer, _, codes in interaction.seen[:2]:
        assert torch.equal(codes, plain.codes[layer])


@pytest.mark.parametrize("kind", ["petr", "petrv2", "streampetr"])
@torch.no_grad()
def test_boxes_for_an_interaction_are_made_without_the_output_norm(kind):
    detector, queries, features = prepared(kind)
    detector.decode(queries, features, interaction=(interaction := Unchanged()))
    detector.output_norm = torch.nn.Identity()
    (bare,) = detector.decode(queries, features)
    for layer, states, codes in interaction.seen:
        assert torch.equal(states, bare.embeddings[layer])
        assert torch.equal(codes, bare.codes[layer])


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_an_interaction_says_what_queries_look_at_in_a_layer(kind):
    detector, queries, features = prepared(kind)
    outsider = queries.embeddings.clone()
    outsider[:, -1] += 1.0
    other = dataclasses.replace(queries, embeddings=outsider)

    def reached(interaction):
        before, after = (
            detector.decode(given, features, interaction=interaction)[0].embeddings[:, :, :-1]
            for given in (queries, other)
        )
        return [not torch.allclose(*pair, atol=1e-6) for pair in zip(before, after, strict=True)]

    class AllBlinkered(Blinkered):
        def mask(self, layer):
            return super().mask(1)

    assert reached(None)[0] and reached(Blinkered())[0]
    assert not any(reached(AllBlinkered()))
    plain, blinkered = (detector.decode(queries, features, interaction=i)[0] for i in (None, Blinkered()))
    assert torch.equal(plain.embeddings[0], blinkered.embeddings[0])
    assert not torch.allclose(plain.embeddings[1], blinkered.embeddings[1], atol=1e-4)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("aided", [True, False])
@torch.no_grad()
def test_object_queries_start_exactly_where_they_are_in_half_precision_too(kind, aided):
    detector = shared(kind) if aided else build(kind, proposals=None, lifted_tracks=False)
    features = detector.encode(make_frame())
    expected = detector.initial_queries(features).codes
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(detector.initial_queries(features).codes, expected)


@torch.no_grad()
def test_proposals_are_placed_exactly_in_half_precision_too():
    detector, frame = shared("detr3d"), make_frame()
    found = detector.encode(frame).found(Proposals)
    maps = (found.heat, found.offsets, found.log_depths)
    with torch.autocast("cpu", torch.bfloat16):
        places, *_ = detector.proposal_head._best(*maps, frame.rig.vehicle_from_image, frame.camera_valid)
    assert torch.equal(places, found.references)


@pytest.mark.parametrize("looking", [0, 1])
@torch.no_grad()
def test_which_proposals_are_taken_no_runtime_decides(looking):
    """Where fewer cells count than are asked for, the others have an order too, of silent cameras by number:
    runtimes sort what is equal as they like, and an exported program would be another than the model.
    """
    head, frame = shared("detr3d").proposal_head, make_frame()
    height, width = 16, 32
    cells = torch.arange(2.0 * height * width).view(1, 2, 1, height, width)
    heat, depths = -1e-4 * cells, torch.zeros(1, 2, height, width)
    offsets, valid = torch.zeros(1, 2, 2, height, width), torch.tensor([[looking > 0, False]])
    _, scores, chosen = head._best(heat, offsets, depths, frame.rig.vehicle_from_image, valid)
    assert 1 < head.config.count == chosen.shape[1] < height * width
    assert torch.equal(chosen[0], torch.arange(head.config.count))
    assert scores[0].count_nonzero() == looking


def test_a_rig_unlike_all_of_training_is_said_once():
    tracker = make_tracker("petr").eval()
    frame = rig.make_frame()
    focal = frame.rig.image_from_camera[0, 0, 0, 0]
    seen_deg = float(2 * torch.atan(frame.content_size[0, 0, 1] / (2 * focal)).rad2deg())
    tracker.detector.rigs = SeenRigs(2, 4, seen_deg - 9.0, seen_deg - 9.0)

    def step(shown):
        tracker.step(shown, tracker.initial_state())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(frame)
    intrinsics = frame.rig.image_from_camera.clone()
    intrinsics[:, 1, 0, 0] /= 2
    wide = dataclasses.replace(frame.rig, names=("A", "B"), image_from_camera=intrinsics)
    with pytest.warns(UserWarning, match=r"B sees \d+ degrees here, and .* only seen rigs of 2 to 4 cameras"):
        step(dataclasses.replace(frame, rig=wide))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(dataclasses.replace(frame, rig=wide))
        dark = dataclasses.replace(wide, names=("A", "C"))
        step(dataclasses.replace(frame, rig=dark, camera_valid=torch.tensor([[True, False]])))
    tracker.detector.rigs = SeenRigs(6, 6, seen_deg, seen_deg)
    with pytest.warns(UserWarning, match=r"2 cameras here, and .* only seen rigs of 6 cameras that see"):
        step(dataclasses.replace(frame, rig=dataclasses.replace(frame.rig, names=("D", "E"))))


def test_a_rig_that_looks_elsewhere_is_said_once():
    """A detector with weights for each camera knows where its cameras looked."""
    tracker = make_tracker("detr3d").eval()
    frame = rig.make_frame()
    ahead = frame.rig.camera_from_vehicle[0, :, 2, :2]
    tracker.detector.views = tuple(torch.atan2(ahead[:, 1], ahead[:, 0]).rad2deg().tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.step(frame, tracker.initial_state())
    turned = frame.rig.map(lambda tensor: tensor.flip(1))
    other = dataclasses.replace(frame, rig=dataclasses.replace(turned, names=frame.rig.names[::-1]))
    with pytest.warns(UserWarning, match=r"CAM_1 looks 180 degrees away .* directions -?0, -?180 degrees"):
        tracker.step(other, tracker.initial_state())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.step(other, tracker.initial_state())
