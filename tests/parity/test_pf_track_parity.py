"""PF-Track against the original: reasoning, propagation, life cycle over frames with ego motion, output."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from golden import Golden
from heads import check_boxes, published_codes
from mmdet3d_boxes import boxes_from_mmdet3d_0, boxes_to_mmdet3d_0
from pf_track_models import frame_at, images_of, reasoning_tracker, see_images, whole_tracker
from torch import Tensor

from looks import entered
from syncl.detectors.passed import Features
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.layers.positional import sinusoid
from syncl.structures import Objects, Outcome, Predictions, Queries
from syncl.trackers.look import Decoded
from syncl.trackers.pf_track import PfTrack
from syncl.trackers.pf_track.forecasts import Forecasts, History, Reasoned
from syncl.trackers.pf_track.track_extension import EXTENSION_SCORE
from syncl.trackers.pf_track.tracker import PastAndFuture
from syncl.trackers.rows import best_objects
from syncl.trackers.state import Move, TrackQueries, TrackState

OpenGolden = Callable[[str], Golden]
# The original's box code without its centre.
SHAPE = [2, 3, 5, 6, 7, 8, 9]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class Case:
    """The golden of the reasoning: its tracker, state and predictions, all rows being tracks."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        threshold = re.search(r"record_threshold = (\d*\.?\d+)", golden.notes)
        assert threshold
        self.tracker = reasoning_tracker(
            golden, record_score=float(threshold[1]), output_score=0.0, max_objects=1000, untracked=()
        )
        self.range = self.tracker.detector.point_range
        padded = self._mask()
        count, future = len(padded), self.tracker.config.horizon
        unseen = padded[:, -1].float()[:, None, None]
        fut_codes = MMDET3D_0_CODE.to_library(self._input("fut_bboxes") * (1 - unseen))
        identities = torch.arange(count)[None]
        references = self.range.to_metres(self._input("reference_points"))
        tracks = TrackQueries(
            self._input("query_feats")[None],
            self._input("query_embeds")[None],
            # What a frame without news makes the box: the golden's is not its last box moved along.
            torch.cat([references, fut_codes[:, 0, 3:]], dim=1)[None],
        )
        forecasts = Forecasts(
            labels=torch.zeros_like(identities),
            centres=self.range.to_metres(self._input("fut_xyz") * (1 - unseen))[None],
            displacements=self._input("motion_predictions")[None],
        )
        assert forecasts.centres.shape[2] == future
        history = History((self._input("hist_embeds") * (~padded[..., None]))[None], ~padded[None])
        self.state = replace(
            self.tracker.initial_state(),
            identities=identities,
            misses=torch.zeros_like(identities),
            alive=identities >= 0,
            queries=tracks,
            own=PastAndFuture(history, forecasts),
        )
        self.queries = Queries(
            tracks.embeddings, tracks.positions, tracks.codes, identities, self.state.alive, 0
        )
        codes = MMDET3D_0_CODE.to_library(self._input("cache_bboxes"))
        centres = self.range.to_metres(self._input("cache_reference_points"))
        codes = torch.cat([centres, codes[:, 3:]], dim=1)[None, None]
        self.predictions = Predictions(
            logits=self._input("cache_logits")[None, None],
            codes=codes,
            embeddings=self._input("cache_query_feats")[None, None],
            references=codes[..., :3],
            valid=self.queries.valid,
            object_count=0,
        )

    def _mask(self) -> Tensor:
        """`hist_padding_masks` from its description: rows and their values."""
        entry = self.golden.manifest["inputs"]["hist_padding_masks"]
        count, slots = entry["shape"]
        mask = torch.zeros(count, slots, dtype=torch.bool)
        for first, last, values in re.findall(
            r"rows (\d+)-(\d+) (all True|all False|\[[\w, ]+\])", entry["how"]
        ):
            row = [word == "True" for word in re.findall(r"True|False", values)]
            mask[int(first) : int(last) + 1] = torch.tensor(row * (slots // len(row)))
        return mask

    def _input(self, name: str) -> Tensor:
        """A filled input; the masks its description mentions are applied by the caller."""
        how = self.golden.manifest["inputs"][name]["how"]
        scale = re.search(r"scale=([\d.]+)", how)
        values = self.golden.filled(name, scale=float(scale[1]) if scale else 1.0)
        return values.sigmoid() if how.startswith("sigmoid") else values

    def reason(self) -> tuple[Reasoned, Tensor]:
        """The reasoning's result and the future decoder's states."""
        detector = self.tracker.detector
        own = detector.track_positions
        decoded: list[Tensor] = []
        assert self.tracker.future is not None
        hook = self.tracker.future.decoder.register_forward_hook(lambda _m, _i, out: decoded.append(out))
        # The golden's positional part is not that of its reference points.
        detector.track_positions = lambda _p, _r: self._input("cache_query_embeds")[None]  # type: ignore
        # All rows are foreseen as in training; the layers stay in inference mode, without dropout.
        self.tracker.training = True
        reasoned = self.tracker.reason(self.look(None), None)
        self.tracker.training = False
        detector.track_positions = own  # type: ignore[method-assign]
        hook.remove()
        return reasoned, decoded[0]

    def look(self, reasoned: Reasoned | None) -> Decoded:
        """The golden's frame."""
        frame = frame_at(torch.eye(4)[None], (8, 8), self.golden.input("l2g0"), 0.0, "scene")
        features = Features(frame.rig.image_from_vehicle, frame.camera_valid, frame.image_size, ())
        return Decoded(self.state, frame, features, self.queries, (self.predictions,), reasoned)

    def unit(self, metres: Tensor) -> Tensor:
        return self.range.normalise(metres)


def forecasts_of(state: TrackState) -> Forecasts:
    return state.owned(PastAndFuture).forecasts


def moved(tracker: PfTrack, state: TrackState, elapsed_s: float) -> Tensor:
    """[1, N, 3] where tracks are so much later, seen from a vehicle that stands still."""
    yes = torch.tensor([True])
    still = torch.eye(4, dtype=torch.float64)[None]
    move = Move(still, torch.tensor([elapsed_s], dtype=torch.float64), yes, yes)
    return tracker.propagate(state, move).track_queries.references


@pytest.fixture
def case(open_golden: OpenGolden) -> Case:
    return Case(open_golden("pftrack/past_future_reasoning"))


def test_reasoning(case: Case) -> None:
    golden, (reasoned, decoded) = case.golden, case.reason()
    golden.check("hist_cache_query_feats", reasoned.embeddings[0])
    golden.check("hist_cache_bboxes", published_codes(reasoned.codes[0]))
    golden.check("r_cache_query_feats", reasoned.embeddings[0])
    golden.check("r_cache_logits", reasoned.logits[0])
    golden.check("r_cache_scores", reasoned.logits[0].sigmoid().amax(-1))
    golden.check("r_cache_reference_points", case.unit(reasoned.codes[0, :, :3]))
    golden.check("r_cache_bboxes", published_codes(reasoned.codes[0]))
    assert reasoned.displacements is not None
    golden.check("r_cache_motion_predictions", reasoned.displacements[0])
    golden.check("r_hist_embeds", reasoned.history.embeddings[0, ..., ::4])
    golden.check("r_hist_padding_masks", ~reasoned.history.valid[0])
    golden.check("r_fut_embeds", decoded[..., ::4])


def test_time_encoding(case: Case) -> None:
    dim, slots = case.tracker.detector.dim, case.tracker.config.history
    for moments in (slots, slots + case.tracker.config.horizon):
        case.golden.check(f"time_pe_{moments}", sinusoid(torch.linspace(0, 1, moments), dim))


def test_a_frame_without_news(case: Case) -> None:
    golden, (reasoned, _) = case.golden, case.reason()
    nothing = replace(reasoned, logits=torch.full_like(reasoned.logits, -9))
    _, state = case.tracker.conclude(case.look(nothing))
    assert torch.equal(state.identities, case.state.identities)
    tracks, ahead = state.track_queries, forecasts_of(state)
    golden.check("r_reference_points", case.unit(tracks.references[0]))
    golden.check("r_motion_predictions", ahead.displacements[0])
    # Beyond the horizon the original has zeros, which nothing reads; here the object stands still.
    golden.compare(
        "r_fut_xyz, known slots", case.unit(ahead.centres[0, :, :-1]), golden.outputs["r_fut_xyz"][:, :-1]
    )
    golden.compare(
        "r_bboxes, without centre",
        published_codes(tracks.codes[0])[:, SHAPE],
        golden.outputs["r_bboxes"][:, SHAPE],
    )
    assert (torch.from_numpy(golden.outputs["r_scores"]) - EXTENSION_SCORE).abs().max() < 1e-7


def test_life_goes_on_with_what_is_seen_and_without(case: Case) -> None:
    golden, (reasoned, _) = case.golden, case.reason()
    objects, state = case.tracker.conclude(case.look(reasoned))
    seen = torch.from_numpy(golden.outputs["track_active_mask"])
    assert 0 < seen.sum() < len(seen), "this golden does not tell seen from unseen"
    scores = reasoned.logits[0].sigmoid().amax(-1)
    golden.check("track_active_mask", scores >= case.tracker.config.record_score)
    golden.compare(
        "track_scores, sorted",
        objects.scores[0],
        torch.from_numpy(golden.outputs["track_scores"]).sort(descending=True).values,
    )
    tracks, carried = state.track_queries, forecasts_of(state)
    golden.check("track_query_feats", tracks.embeddings[0])
    golden.check("track_query_embeds", tracks.positions[0])
    golden.check("track_motion_predictions", carried.displacements[0])
    golden.check("track_reference_points", case.unit(tracks.references[0]))
    codes = published_codes(tracks.codes[0])
    golden.compare("track_bboxes, seen", codes[seen], golden.outputs["track_bboxes"][seen])
    golden.compare("track_bboxes, without centre", codes[:, SHAPE], golden.outputs["track_bboxes"][:, SHAPE])
    units = case.unit(carried.centres[0])
    golden.compare("track_fut_xyz, seen", units[seen], golden.outputs["track_fut_xyz"][seen])
    golden.compare("track_fut_xyz, known slots", units[:, :-1], golden.outputs["track_fut_xyz"][:, :-1])
    golden.compare(
        "track_fut_bboxes, seen", _future_codes(state)[0, seen], golden.outputs["track_fut_bboxes"][seen]
    )

    _check_propagation(case, state, seen)


def _check_propagation(case: Case, state: TrackState, seen: Tensor) -> None:
    golden = case.golden
    state = replace(state, global_from_vehicle=golden.input("l2g0").double()[None], scenes=("scene",))
    golden.check("prop_track_ref_after_motion", case.unit(moved(case.tracker, state, 0.5)[0]))
    frame = frame_at(torch.eye(4)[None], (8, 8), golden.input("l2g1"), 0.5, "scene")
    state = entered(case.tracker, frame, state)
    tracks, carried = state.track_queries, forecasts_of(state)
    golden.check("prop_track_reference_points", case.unit(tracks.references[0]))
    golden.check("prop_track_bboxes", published_codes(tracks.codes[0]))
    golden.check("prop_track_query_embeds", tracks.positions[0])
    units = case.unit(carried.centres[0])
    golden.compare("prop_track_fut_xyz, seen", units[seen], golden.outputs["prop_track_fut_xyz"][seen])
    golden.compare(
        "prop_track_fut_xyz, known slots", units[:, :-1], golden.outputs["prop_track_fut_xyz"][:, :-1]
    )


def test_training_carries_everything(case: Case) -> None:
    golden, (reasoned, _) = case.golden, case.reason()
    golden.check("train_logits", reasoned.logits[0])
    golden.check("train_scores", reasoned.logits[0].sigmoid().amax(-1))
    state = _carried(case.tracker, case, reasoned)
    tracks, carried = state.track_queries, forecasts_of(state)
    golden.check("train_query_feats", tracks.embeddings[0])
    golden.check("train_query_embeds", tracks.positions[0])
    golden.check("train_motion_predictions", carried.displacements[0])
    golden.check("train_bboxes", published_codes(tracks.codes[0]))
    golden.check("train_reference_points", case.unit(tracks.references[0]))
    golden.check("train_fut_xyz", case.unit(carried.centres[0]))
    golden.check("train_fut_bboxes", _future_codes(state)[0])

    after_motion = moved(case.tracker, state, 0.5)
    golden.check("prop_train_ref_after_motion", case.unit(after_motion[0]))
    boxes = published_codes(tracks.moved_to(after_motion).codes[0])
    golden.check("prop_train_bboxes_after_motion", boxes)


def test_motion_by_velocity_as_published(open_golden: OpenGolden, case: Case) -> None:
    golden = open_golden("pftrack/past_future_reasoning")
    meaning = golden.manifest["outputs"]["prop_velocity_ref"]["meaning"]
    elapsed = re.search(r"\*([\d.]+)/range", meaning)
    assert elapsed
    tracker = reasoning_tracker(golden, motion="published_velocity", untracked=())
    state = _carried(tracker, case, case.reason()[0])
    golden.check("prop_velocity_ref", case.unit(moved(tracker, state, float(elapsed[1]))[0]))


def _carried(tracker: PfTrack, case: Case, reasoned: Reasoned) -> TrackState:
    identities = case.state.identities
    return tracker.carry(case.look(reasoned), Outcome({}, identities, identities[None]))


def _future_codes(state: TrackState) -> Tensor:
    """[B, N, F, 10] published codes of the boxes moved to where they are expected."""
    centres, codes = forecasts_of(state).centres, state.track_queries.codes
    shape = codes[:, :, None, 3:].expand(*centres.shape[:3], -1)
    return published_codes(torch.cat([centres, shape], dim=-1))


def test_the_whole_tracker(open_golden: OpenGolden) -> None:
    golden = open_golden("pftrack/cam3d_tracker")
    tracker = whole_tracker(golden)
    show = see_images(tracker)
    state = tracker.initial_state()
    times, poses = golden.input("timestamp").tolist(), golden.input("l2g")
    sequence = 0
    for number, time_s in enumerate(times):
        # The original tells sequences by their times.
        sequence += number == 0 or abs(time_s - times[number - 1]) > 10
        images = images_of(golden, number)
        show(images)
        size = (images.shape[-2], images.shape[-1])
        frame = frame_at(golden.input("lidar2img"), size, poses[number], time_s, f"{sequence}")
        decoded = tracker.look(frame, state)
        objects, state = tracker.conclude(decoded)
        _check_objects(golden, f"f{number}", objects, sequence)
        _check_state(golden, f"f{number}", tracker, state)
        _check_rows(golden, f"f{number}", tracker, decoded)


def _check_objects(golden: Golden, frame: str, objects: Objects, sequence: int) -> None:
    valid = objects.valid[0]
    assert objects.forecasts is not None
    boxes = objects.boxes[0, valid]
    golden.check(f"{frame}_track_ids", objects.identities[0, valid])
    golden.check(f"{frame}_sequence", torch.full_like(objects.identities[0, valid], sequence))
    golden.check(f"{frame}_labels", objects.labels[0, valid])
    golden.check(f"{frame}_scores", objects.scores[0, valid])
    check_boxes(golden, f"{frame}_boxes", boxes_to_mmdet3d_0(boxes, bottom_centre=True))
    steps = torch.cat([boxes[:, None, :2], objects.forecasts[0, valid]], dim=1).diff(dim=1)
    golden.check(f"{frame}_forecasting", steps)


def _check_state(golden: Golden, frame: str, tracker: PfTrack, state: TrackState) -> None:
    assert state.alive.all()
    tracks, known = state.track_queries, state.owned(PastAndFuture)
    unit = tracker.detector.point_range.normalise
    golden.check(f"{frame}_state_obj_idxes", state.identities[0])
    golden.check(f"{frame}_state_disappear_time", state.misses[0])
    golden.check(f"{frame}_state_reference_points", unit(tracks.references[0]))
    golden.check(f"{frame}_state_query_feats", tracks.embeddings[0, :, ::4])
    golden.check(f"{frame}_state_bboxes", published_codes(tracks.codes[0]))
    golden.check(f"{frame}_state_hist_embeds", known.history.embeddings[0, ..., ::8])
    golden.check(f"{frame}_state_hist_padding_masks", ~known.history.valid[0])
    golden.check(f"{frame}_state_motion_predictions", known.forecasts.displacements[0])
    # The original's forecasts beyond the horizon are zero when written; nothing reads them.
    name, future = f"{frame}_state_fut_xyz", unit(known.forecasts.centres[0])
    for row, missed in enumerate(state.misses[0].tolist()):
        known = future.shape[1] - missed
        golden.compare(name, future[row, :known], golden.outputs[name][row, :known])


def _check_rows(golden: Golden, frame: str, tracker: PfTrack, decoded: Decoded) -> None:
    """Scores and logits of all rows behind the class filter: refined where seen, fixed where not."""
    assert isinstance(decoded.reasoned, Reasoned)
    logits = decoded.reasoned.logits[0]
    scores = logits.sigmoid().amax(-1)
    seen = scores >= tracker.config.record_score
    kept = decoded.queries.valid[0] & (~seen | tracker.tracked[logits.argmax(-1)])
    golden.check(f"{frame}_all_scores", torch.where(seen, scores, EXTENSION_SCORE)[kept])
    golden.check(f"{frame}_all_logits", torch.where(seen[:, None], logits, 0)[kept])


def test_which_objects_are_reported(open_golden: OpenGolden) -> None:
    golden = open_golden("pftrack/bbox_coder")
    how = golden.manifest["inputs"]["scores"]["how"]
    bar, first = re.search(r"scores > ([\d.]+)", how), re.search(r"\+(\d+)$", how)
    assert bar and first
    scores = golden.filled("scores").sigmoid()
    factors = torch.tensor(
        [float(x) for x in golden.manifest["inputs"]["code"]["how"].partition("times [")[2][:-1].split(",")]
    )
    codes = MMDET3D_0_CODE.to_library(golden.filled("code") * factors)[-1, 0]
    motion = golden.filled("motion")
    boxes = boxes_from_mmdet3d_0(_decoded(published_codes(codes)))
    found = Objects(
        boxes=boxes[None],
        labels=golden.filled("cls", scale=1.5)[-1, 0].argmax(-1)[None],
        scores=scores[None],
        identities=torch.arange(len(scores))[None] + int(first[1]),
        valid=(scores > float(bar[1]))[None],
        forecasts=(boxes[:, None, :2] + motion[..., :2].cumsum(1))[None],
    )
    _, _, _, range_m, _, height_m = golden.config["post_center_range"]
    best = best_objects(found, golden.config["max_num"], range_m, height_m)
    kept = best.valid[0]
    assert best.forecasts is not None
    golden.check("trk_scores", best.scores[0, kept])
    golden.check("trk_track_scores", best.scores[0, kept])
    golden.check("trk_labels", best.labels[0, kept])
    golden.check("trk_obj_idxes", best.identities[0, kept])
    check_boxes(golden, "trk_bboxes", boxes_to_mmdet3d_0(best.boxes[0, kept]))
    here = best.boxes[0, kept][:, None, :2]
    steps = torch.cat([here, best.forecasts[0, kept]], dim=1).diff(dim=1)
    golden.compare("trk_forecasting, planar", steps, golden.outputs["trk_forecasting"][..., :2])


def _decoded(codes: Tensor) -> Tensor:
    """Published codes [N, 10] as published boxes with the centre's z."""
    x, y, log_w, log_l, z, log_h, sin, cos, vx, vy = codes.unbind(-1)
    return torch.stack(
        [x, y, z, log_w.exp(), log_l.exp(), log_h.exp(), torch.atan2(sin, cos), vx, vy], dim=-1
    )
