"""PF-Track's training against the original: losses, identities, gradients, of a frame and of a clip."""

import ast
import re
from collections.abc import Callable

import torch
from golden import Golden
from heads import check_gradients, decoded_of, published_codes
from pf_track_models import (
    bookkeeping_of,
    check_losses,
    frame_at,
    images_of,
    losses_by_layer,
    see_images,
    truth_of,
    whole_tracker,
)
from torch import Tensor

from syncl.checkpoints.pf_track import PfTrackAdapter
from syncl.geometry.mmdet3d import MMDET3D_0_CODE
from syncl.structures import Annotations, Clip, Outcome, Predictions
from syncl.trackers.look import Decoded
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.trackers.pf_track import PfTrack
from syncl.trackers.pf_track.forecasts import History, Reasoned
from syncl.training.losses import LossConfig
from syncl.training.objectives.reasoning import ReasoningLossConfig, reasoning_losses
from syncl.training.strategies import Baseline, BaselineConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

OpenGolden = Callable[[str], Golden]


def _configs(settings: dict) -> tuple[LossConfig, ReasoningLossConfig]:
    """The loss weights of the original's settings."""
    focal = settings["loss_cls"]
    loss = LossConfig(
        classification=focal["loss_weight"],
        box=settings["loss_bbox"]["loss_weight"],
        alpha=focal["alpha"],
        gamma=focal["gamma"],
        code_weights=tuple(settings["code_weights"]),
    )
    return loss, ReasoningLossConfig(loss, settings["loss_prediction"]["loss_weight"])


def _input(golden: Golden, name: str) -> Tensor:
    """An input that is filled, then shifted or multiplied by numbers, as a leaf with gradient."""
    how = golden.manifest["inputs"][name]["how"]
    values = golden.filled(name)
    if factors := re.search(r"times (\[.*\])", how):
        values = values * torch.tensor(ast.literal_eval(factors[1]))
    if shift := re.search(r"minus ([\d.]+)", how):
        values = values - float(shift[1])
    return values.requires_grad_()


def test_losses_of_a_frame(open_golden: OpenGolden) -> None:
    golden = open_golden("pftrack/tracking_loss")
    loss, reasoning = _configs(golden.config)
    leaves = {
        name: _input(golden, name)
        for name in (
            "all_cls_scores", "all_bbox_preds", "cache_logits", "cache_bboxes", "cache_motion_predictions"
        )
    }  # fmt: skip
    count = leaves["cache_logits"].shape[0]
    ids = re.search(r"then (\[[-\d,]+\])", golden.manifest["inputs"]["obj_idxes"]["how"])
    assert ids
    track_identities = torch.tensor(ast.literal_eval(ids[1]))[None]
    tracks = track_identities.shape[1]
    truth = truth_of(golden, "")
    codes = MMDET3D_0_CODE.to_library(leaves["all_bbox_preds"])
    valid = torch.ones(1, count, dtype=torch.bool)
    nothing = codes.new_zeros(*codes.shape[:3], 1)
    predictions = Predictions(leaves["all_cls_scores"], codes, nothing, codes[..., :3], valid, count - tracks)
    reasoned = Reasoned(
        embeddings=nothing[0],
        positions=nothing[0],
        logits=leaves["cache_logits"][None],
        codes=MMDET3D_0_CODE.to_library(leaves["cache_bboxes"])[None],
        history=History(nothing[0], valid),
        displacements=leaves["cache_motion_predictions"][None],
    )
    strategy = BaselineConfig(loss=loss).build(1)
    decoded = decoded_of(predictions, track_identities)
    outcome: Outcome = strategy(decoded, truth)
    assignment, _ = strategy.assign(decoded, truth)
    extra = reasoning_losses(reasoned, valid, outcome, truth, reasoning)

    check_losses(golden, "", losses_by_layer(predictions, assignment, truth, loss), extra)
    golden.check("obj_idxes_after", outcome.identities[0])
    golden.check("matched_gt_idxes_after", bookkeeping_of(outcome.targets[0], tracks))
    sum((outcome.losses | extra).values()).backward()
    golden.check("grad_cls", leaves["all_cls_scores"].grad)
    golden.check("grad_reg", leaves["all_bbox_preds"].grad)
    golden.check("grad_cache_logits", leaves["cache_logits"].grad)
    golden.check("grad_cache_bboxes", leaves["cache_bboxes"].grad)
    golden.check("grad_cache_motion", leaves["cache_motion_predictions"].grad)


class Recorder:
    """Looks over the shoulder of a clip's training: what each frame predicted, lost and assigned."""

    def __init__(self, golden: Golden, tracker: PfTrack, strategy: Baseline) -> None:
        show = see_images(tracker)
        self.frames: list[tuple[Decoded, Annotations, Outcome]] = []
        look = tracker.look

        def looking(*given, **named) -> Decoded:
            show(images_of(golden, len(self.frames)))
            return look(*given, **named)

        tracker.look = looking  # type: ignore[method-assign]
        strategy.register_forward_hook(lambda _, given, outcome: self.frames.append((*given, outcome)))


def test_a_clip(open_golden: OpenGolden) -> None:
    golden = open_golden("pftrack/forward_train_clip")
    tracker = whole_tracker(golden)
    loss, reasoning = _configs(golden.config["loss"])
    strategy = BaselineConfig(loss=loss).build(tracker.detector.dim)
    recorder = Recorder(golden, tracker, strategy)
    poses = golden.input("l2g")
    size = tuple(golden.manifest["inputs"]["img_frame0"]["shape"][-2:])
    stated = re.search(r"timestamps ([\d., ]+)", golden.notes)
    assert stated
    times = [float(time) for time in stated[1].rstrip(".").split(",")]
    clip = Clip(
        tuple(
            frame_at(golden.input("lidar2img"), size, pose, time_s, "scene")
            for pose, time_s in zip(poses, times, strict=True)
        ),
        tuple(truth_of(golden, f"f{number}_") for number in range(len(times))),
    )
    # The golden's run has neither dropout nor masked images.
    training = ClipTraining(tracker, strategy, UnrollConfig(reasoning=reasoning)).eval()
    sums = training(clip)

    last = len(times) - 1
    for number, (decoded, truth, outcome) in enumerate(recorder.frames):
        prefix = "" if number == last else f"f{number}."
        assignment, _ = strategy.assign(decoded, truth)
        layers = losses_by_layer(decoded.standard, assignment, truth, loss)
        reasoned, tracks = decoded.reasoned, decoded.track_identities
        assert isinstance(reasoned, Reasoned)
        extra = reasoning_losses(reasoned, decoded.queries.valid, outcome, truth, reasoning)
        check_losses(golden, prefix, layers, extra)
        golden.check(f"f{number}_obj_idxes", outcome.identities[0])
        golden.check(f"f{number}_matched_gt_idxes", bookkeeping_of(outcome.targets[0], tracks.shape[1]))
        golden.check(f"f{number}_cache_bboxes", published_codes(reasoned.codes[0]))
        golden.check(f"f{number}_cache_motion_predictions", reasoned.displacements[0])
    total = sum(float(value) for name, value in golden.outputs.items() if name.startswith("loss."))
    golden.compare("sum of all losses", sums["total"].reshape(1), torch.tensor([total]))

    sums["total"].backward()
    config = ModelConfig(InputConfig((8, 8)), tracker.detector.config, tracker.config)
    check_gradients(golden, PfTrackAdapter(), config, tracker)
