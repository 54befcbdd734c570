"""ADA-Track against the original: association layers, heads, whole trackers, training clips."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from ada_track_models import (
    ada_tracker,
    features_of,
    frames_of,
    published,
    published_pairs,
    show,
    tracks_first,
)
from golden import Golden
from heads import check_boxes, frame_of, sizes_in
from mmdet3d_boxes import boxes_to_mmdet3d_0
from torch import Tensor

from syncl.checkpoints.ada_track import ASSOCIATION
from syncl.checkpoints.mapping import read_entries, rule_entries, write_entries
from syncl.layers.numerics import inverse_sigmoid
from syncl.structures import Queries
from syncl.trackers import Decoded
from syncl.trackers.ada_track import AdaTrack, association
from syncl.trackers.ada_track.association import Affinities, AssociationLayer
from syncl.trackers.ada_track.tracker import Begun

OpenGolden = Callable[[str], Golden]


def _layer(golden: Golden) -> AssociationLayer:
    """The golden's layer, through the adapter's rules both ways."""
    settings = golden.config
    layer = AssociationLayer(
        settings["embed_dims"],
        settings["num_heads"],
        settings["ffn_dims"],
        settings["dropout"],
        settings["cross_attn_value_gate"],
        token=False,
    ).eval()
    own = {f"layers.0.{name}": tensor for name, tensor in layer.state_dict().items()}
    entries = rule_entries(own, ASSOCIATION, "", "")
    prefix = "transformer.decoder.asso_layers.0."
    weights = {f"{prefix}{name}": tensor for name, tensor in golden.state_dict().items()}
    shapes = {name: tensor.shape for name, tensor in own.items()}
    conversion = read_entries(weights, entries, shapes, (), "golden")
    assert not conversion.new
    back = write_entries(conversion.weights, entries).weights
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in weights)
    layer.load_state_dict({name.removeprefix("layers.0."): t for name, t in conversion.weights.items()})
    return layer


@pytest.mark.parametrize("name", ["ada_association", "ada_association_gated"])
@torch.no_grad()
def test_association_layer(open_golden: OpenGolden, name: str) -> None:
    golden = open_golden(f"mutr3d/{name}")
    layer = _layer(golden)
    tracks, detections = golden.input("asso_track")[None], golden.input("asso_det")[None]
    shape = (tracks.shape[1], detections.shape[1], -1)
    edges = golden.input("asso_edge").view(*shape).transpose(0, 1)[None]
    # Width before length there.
    pairs = (
        golden.filled("asso_edge_pos", scale=3).view(*shape).transpose(0, 1)[None][..., [0, 1, 2, 4, 3, 5, 6]]
    )
    keys, values = layer.attention.tracks(tracks)
    valid = torch.ones(1, tracks.shape[1], dtype=torch.bool)
    for case, given in (("first", None), ("next", edges)):
        out, after = layer(detections, keys, values, pairs, given, valid)
        golden.check(f"det_{case}", out[0])
        golden.check(f"edge_{case}", after[0].transpose(0, 1).flatten(0, 1)[:, ::2])

    # Empty slots change nothing.
    padded = torch.cat([tracks, torch.randn(1, 2, tracks.shape[2])], dim=1)
    keys, values = layer.attention.tracks(padded)
    more = [
        torch.cat([part, torch.randn(1, len(part[0]), 2, part.shape[3])], dim=2) for part in (pairs, edges)
    ]
    valid = torch.cat([valid, torch.zeros(1, 2, dtype=torch.bool)], dim=1)
    out, _ = layer(detections, keys, values, *more, valid)
    golden.compare("det_next, padded slots", out[0], golden.outputs["det_next"])


@pytest.mark.parametrize("kind", ["detr3d", "petr"])
@torch.no_grad()
def test_whole_tracker(open_golden: OpenGolden, kind: str) -> None:
    golden = open_golden(f"adatrack/tracker_{kind}")
    tracker = ada_tracker(golden, golden.state_dict())
    detector, in_logits = tracker.detector, kind == "detr3d"

    def reference(points: Tensor) -> Tensor:
        unit = detector.point_range.normalise(points)
        return inverse_sigmoid(unit) if in_logits else unit

    state, numbered = tracker.initial_state(), 0
    spans = re.findall(r"frames (\d+)-(\d+) '(\w)'", golden.manifest["inputs"]["scene"]["how"])
    scenes = tuple(name for first, last, name in spans for _ in range(int(first), int(last) + 1))
    frames = list(frames_of(golden, len(scenes), scenes))
    assert any(after.scenes != before.scenes for before, after in pairwise(frames))
    for index, frame in enumerate(frames):
        prefix = f"f{index}/"
        if frame.scenes != state.scenes:
            # Identities of the original go on counting when the scene changes.
            numbered += int(state.next_identity)
        show(tracker, features_of(golden, index))
        with torch.enable_grad():  # so that all layers are asked, not the last alone
            decoded = tracker.look(frame, state)
        queries, predictions = decoded.queries, decoded.standard
        live = tracks_first(queries.valid[0], queries.object_count)

        def rows(
            values: Tensor, dim: int = 0, count: int = queries.object_count, live: Tensor = live
        ) -> Tensor:
            return tracks_first(values, count, dim).index_select(dim, live.nonzero()[:, 0])

        golden.check(f"{prefix}ref_in", rows(reference(queries.references[0])))
        if in_logits:
            golden.check(f"{prefix}size_in", rows(queries.codes[0])[:, [4, 3, 5]])
        golden.check(f"{prefix}pred_logits", rows(predictions.logits[:, 0], 1))
        golden.check(f"{prefix}pred_boxes", rows(published(predictions.codes)[:, 0], 1))
        golden.check(f"{prefix}ref_out", rows(reference(predictions.codes[-1, 0, :, :3])))
        assert isinstance(decoded.reasoned, Affinities)
        if golden.outputs[f"{prefix}affinity"].size:
            edges = decoded.reasoned.logits[:, 0][:, :, decoded.state.alive[0]]
            golden.check(f"{prefix}affinity", edges.transpose(1, 2).flatten(1))

        objects, state = tracker.conclude(decoded)
        tracks = state.track_queries
        golden.check(f"{prefix}trk_ids", state.identities[0] + numbered)
        golden.check(f"{prefix}trk_disappear", state.misses[0])
        query = torch.cat([tracks.positions, tracks.embeddings], dim=-1)[0]
        golden.check(f"{prefix}trk_query", query[:, ::4])
        golden.check(f"{prefix}trk_ref", reference(tracks.references[0]))
        golden.check(f"{prefix}trk_boxes", published(tracks.codes[0]))

        kept = objects.valid[0]
        order = objects.identities[0, kept].argsort()
        theirs = torch.from_numpy(golden.outputs[f"{prefix}res_ids"]).argsort()
        ours = objects.map(lambda values: values[0, kept][order])  # noqa: B023
        for name, values in (
            ("ids", ours.identities + numbered),
            ("labels", ours.labels),
            ("scores", ours.scores),
        ):
            golden.compare(f"{prefix}res_{name}", values, golden.outputs[f"{prefix}res_{name}"][theirs])
        golden.outputs[f"{prefix}res_boxes"] = golden.outputs[f"{prefix}res_boxes"][theirs]
        check_boxes(golden, f"{prefix}res_boxes", boxes_to_mmdet3d_0(ours.boxes))


def _head_weights(golden: Golden, queries: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A head's weights as a whole checkpoint names them, with object queries of zeros in these shapes."""
    weights = {f"pts_bbox_head.{name}": tensor for name, tensor in golden.state_dict().items()}
    return weights | {name: torch.zeros(shape) for name, shape in queries.items()}


def _decoded(tracker: AdaTrack, golden: Golden, queries: Queries, begun: bool) -> Decoded:
    """A look at the golden's frame with given queries, all tracks of them alive."""
    frame = frame_of(golden.input("lidar2img")[None], sizes_in(golden.notes)[0])
    detector, state = tracker.detector, tracker.initial_state()
    alive = queries.valid[:, queries.object_count :]
    state = replace(state, alive=alive, own=Begun(torch.tensor([begun])))
    features = detector.encode(frame, None)
    with torch.enable_grad():  # so that all layers are asked, not the last alone
        interaction = tracker.interaction(state, queries, None)
    predictions = detector.decode(queries, features, interaction=interaction)
    decoded = Decoded(state, frame, features, queries, predictions)
    return replace(decoded, reasoned=tracker.reason(decoded, interaction))


def _queries(query: Tensor, codes: Tensor, tracks: int) -> Queries:
    """The golden's rows, whose first are tracks, object queries first."""
    count = len(query)
    order = torch.cat([torch.arange(tracks, count), torch.arange(tracks)])
    positions, embeddings = query[order][None].chunk(2, dim=-1)
    identities = torch.full((1, count), -1)
    identities[0, count - tracks :] = torch.arange(tracks)
    valid = torch.ones(1, count, dtype=torch.bool)
    return Queries(embeddings, positions, codes[order][None], identities, valid, count - tracks)


def _check_head(golden: Golden, case: str, decoded: Decoded, reference: Callable[[Tensor], Tensor]) -> None:
    predictions, count = decoded.standard, decoded.queries.object_count
    golden.check(f"{case}_cls", tracks_first(predictions.logits[:, 0], count, 1))
    golden.check(f"{case}_box", tracks_first(published(predictions.codes)[:, 0], count, 1))
    golden.check(f"{case}_feat", tracks_first(predictions.embeddings[-1, 0], count))
    golden.check(f"{case}_ref", tracks_first(reference(predictions.codes[-1, 0, :, :3]), count))


@torch.no_grad()
def test_head_on_petr(open_golden: OpenGolden, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = open_golden("adatrack/petr_head")
    detections, dim = golden.outputs["first_feat"].shape
    tracks = len(golden.outputs["track_feat"]) - detections
    shapes = {
        "reference_points.weight": (detections, 3),
        "query_feat_embedding.weight": (detections, dim),
        "query_embedding.0.weight": (dim, 3 * dim // 2),
        "query_embedding.0.bias": (dim,),
        "query_embedding.2.weight": (dim, dim),
        "query_embedding.2.bias": (dim,),
    }
    tracker = ada_tracker(golden, _head_weights(golden, shapes))
    detector = tracker.detector
    show(tracker, (golden.input("petr_feat"),))
    query, units = golden.filled("petr_query"), golden.input("ref")
    codes = torch.cat([detector.point_range.to_metres(units), torch.zeros(len(units), 7)], dim=-1)
    _check_head(
        golden,
        "first",
        _decoded(tracker, golden, _queries(query[tracks:], codes[tracks:], 0), False),
        detector.point_range.normalise,
    )

    layers: list[tuple[tuple, tuple]] = []
    for layer in tracker.association.layers:
        layer.register_forward_hook(lambda _, given, out: layers.append((given, out)))
    decoded = _decoded(tracker, golden, _queries(query, codes, tracks), True)
    _check_head(golden, "track", decoded, detector.point_range.normalise)
    golden.check("affinity", decoded.reasoned.logits[:, 0].transpose(1, 2).flatten(1))
    for number, (given, (out, edges)) in enumerate(layers):
        pairs = given[3][0].transpose(0, 1).flatten(0, 1)
        golden.check(f"asso{number}_pair", published_pairs(pairs))
        golden.check(f"asso{number}_det_in", given[0][0])
        golden.check(f"asso{number}_det_out", out[0])
        golden.check(f"asso{number}_edge", edges[0].transpose(0, 1).flatten(0, 1)[:, ::4])

    # Detections made in parts come out the same.
    monkeypatch.setattr(association, "_NUMBERS_AT_ONCE", 40 * dim)
    parts = _decoded(tracker, golden, _queries(query, codes, tracks), True)
    golden.compare(
        "affinity, in parts",
        parts.reasoned.logits[:, 0].transpose(1, 2).flatten(1),
        golden.outputs["affinity"],
    )


@torch.no_grad()
def test_head_and_life_cycle_on_detr3d(open_golden: OpenGolden) -> None:
    golden = open_golden("mutr3d/ada_detr3d_head")
    detections, dim = golden.outputs["first_feat"].shape
    tracks = len(golden.outputs["track_feat"]) - detections
    shapes = {
        "query_embedding.weight": (detections, 2 * dim),
        "reference_points.weight": (3, dim),
        "reference_points.bias": (3,),
        "bbox_size_fc.weight": (3, dim),
        "bbox_size_fc.bias": (3,),
    }
    birth, affinity = golden.input("thresholds").tolist()
    query, logits = golden.filled("ada_query"), golden.filled("ada_ref_logit", scale=1.2)
    sizes = golden.filled("ada_ref_size", scale=0.5)
    for way, changes in (
        ("greedy", {"own_share": 0.0}),
        ("hungarian", {"own_share": None, "pair_score": 0.2}),
    ):
        tracker = ada_tracker(
            golden,
            _head_weights(golden, shapes),
            pairing=way,
            birth_score=birth,
            affinity=affinity,
            miss_tolerance=5,
            **changes,
        )
        reach = tracker.detector.point_range
        show(tracker, tuple(golden.input(f"ada_feat{level}") for level in range(4)))
        codes = torch.cat(
            [reach.to_metres(logits.sigmoid()), sizes[:, [1, 0, 2]], torch.zeros(len(sizes), 4)], dim=-1
        )

        def reference(points: Tensor) -> Tensor:
            return inverse_sigmoid(reach.normalise(points))  # noqa: B023

        if way == "greedy":
            first = _decoded(tracker, golden, _queries(query[tracks:], codes[tracks:], 0), False)
            _check_head(golden, "first", first, reference)
        decoded = _decoded(tracker, golden, _queries(query, codes, tracks), True)
        _check_head(golden, "track", decoded, reference)
        golden.check("affinity", decoded.reasoned.logits[:, 0].transpose(1, 2).flatten(1))
        stated = re.match(r"[\d,]+", golden.manifest["inputs"]["disappear_time"]["how"])
        assert stated
        misses = torch.tensor([[int(number) for number in stated[0].split(",")]])
        identities = torch.arange(tracks)[None]
        state = replace(
            decoded.state, misses=misses, identities=identities, next_identity=torch.tensor([tracks])
        )
        _, after = tracker.conclude(replace(decoded, state=state))
        golden.check(f"{way}_obj_idxes", after.identities[0])
        golden.check(f"{way}_disappear_time", after.misses[0])
        carried = after.track_queries
        golden.check(f"{way}_pred_boxes", published(carried.codes[0]))
        golden.check(f"{way}_ref_pts", reference(carried.references[0]))
        golden.check(f"{way}_query", torch.cat([carried.positions, carried.embeddings], dim=-1)[0])
