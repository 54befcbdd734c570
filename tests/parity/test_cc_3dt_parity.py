"""CC-3DT against vis4d, both releases: motion models, association, whole trackers.

Their boxes are x y z h w l yaw, ours x y z l w h yaw; their places are float32 some hundred metres from the
origin, so velocities, twice the difference of two places, are compared to a millimetre a second as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from golden import Golden
from heads import frame_of
from torch import Tensor, nn
from torch.nn import functional

from syncl.backbones import FpnConfig, ResNetConfig
from syncl.checkpoints.cc_3dt import IMAGE_NETWORK, SIMILARITY_HEAD, VELO_LSTM
from syncl.checkpoints.mapping import Rule, read_entries, rule_entries, write_entries
from syncl.detectors import ImageEncoderConfig
from syncl.geometry.poses import yaw_from_quaternion
from syncl.structures import Objects
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.cc_3dt import AppearanceConfig, AssociationConfig, Cc3dt, Cc3dtConfig, MemoryConfig
from syncl.trackers.cc_3dt.appearance import Appearance
from syncl.trackers.cc_3dt.association import (
    Detected,
    Known,
    affinity,
    appearance_similarity,
    assign,
    depth_similarity,
    suppressed,
)
from syncl.trackers.cc_3dt.memory import follow, nothing_remembered
from syncl.trackers.cc_3dt.motion import Kalman, Motion
from syncl.trackers.cc_3dt.pooling import level_of
from syncl.trackers.cc_3dt.velo_lstm import VeloLstm, VeloLstmMotion
from syncl.training.motion_model import MotionTrainingConfig, SeenObjects, motion_losses, unrolled
from syncl.training.objectives.similarity import contrast_loss, cosine_loss

OpenGolden = Callable[[str], Golden]
ORDER = [0, 1, 2, 5, 4, 3, 6]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def ours(boxes: Tensor) -> Tensor:
    """Boxes [..., 7] or more of theirs as ours, float64."""
    return boxes[..., ORDER].double()


def rules(config: dict[str, Any], release: str) -> AssociationConfig:
    """The association of a golden's configuration."""
    return AssociationConfig(
        birth_score=config.get("init_score_thr", 0.8),
        object_score=config.get("obj_score_thr", 0.5),
        overlap=config.get("nms_class_iou_thr", 0.7),
        match_affinity=config.get("match_score_thr", 0.5),
        box_weight=config.get("bbox_affinity_weight", 0.5),
        match_velocities=config.get("with_velocities", False),
        swapped_depth_ordering="ab4fa899" in release,
    )


def filled(module: nn.Module, weights: dict[str, Tensor], rules: Sequence[Rule] = VELO_LSTM) -> None:
    """Fill a module from a golden by the rules of the adapter, there and back."""
    own = module.state_dict()
    entries = rule_entries(own, rules, "", "")
    conversion = read_entries(weights, entries, {n: t.shape for n, t in own.items()}, (), "golden")
    assert not conversion.new
    back = write_entries(conversion.weights, entries).weights
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in weights)
    module.load_state_dict(conversion.weights)


def close(golden: Golden, name: str, values: Tensor, absolute: float = 1e-3) -> None:
    """Small differences of float32 places: to 1e-4, or to a millimetre a second."""
    theirs = torch.from_numpy(golden.outputs[name]).double()
    if (values.double() - theirs).abs().amax() > absolute:
        golden.check(name, values)


def test_the_kalman_filter(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/kf3d")
    motion = Kalman()
    operations = golden.config["operations"].split()[0]
    for sequence in range(3):
        observations = ours(golden.input(f"observations_{sequence}"))
        state, seen = motion.start(observations[:1]), 1
        states = [state]
        for operation in operations:
            if operation == "p":
                state, _ = motion.predict(state)
            else:
                state, seen = motion.update(state, observations[seen : seen + 1], torch.ones(1)), seen + 1
            states.append(state)
        boxes = torch.cat([state.boxes for state in states])[:, ORDER]
        velocities = torch.cat([state.velocities for state in states])
        golden.check(f"mean_{sequence}", torch.cat([boxes, velocities], 1))
        place, mixed, velocity, rest = torch.cat([state.variances for state in states]).unbind(1)
        golden.check(f"cov_diag_{sequence}", torch.stack([place] * 3 + [rest] * 4 + [velocity] * 3, 1))
        golden.check(f"cov_x_vx_{sequence}", mixed)
        close(golden, f"velocity_{sequence}", 2 * torch.cat([motion.steps(state) for state in states]))


def test_velo_lstms_networks(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/velo_lstm")
    network = VeloLstm().eval()
    filled(network, golden.state_dict())
    hidden = (golden.input("h0"), golden.input("c0"))
    location, observation, before = (
        ours(golden.input(name)) for name in ("location", "observation", "prev_location")
    )
    score = golden.filled("confidence_logit").sigmoid()[:, 0]
    refined, (h, c) = network.refine(location, observation, before, score, hidden)
    golden.check("refined", refined[:, ORDER])
    golden.check("refine_h", h[..., ::4])
    golden.check("refine_c", c[..., ::4])
    predicted, (h, c) = network.predict(ours(golden.input("history")), location, hidden)
    golden.check("predicted", predicted[:, ORDER])
    golden.check("predict_h", h[..., ::4])
    golden.check("predict_c", c[..., ::4])


def test_training_of_velo_lstm(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/velo_lstm")
    network = VeloLstm().eval()
    filled(network, golden.state_dict())
    seen, truth = golden.input("pred_traj"), golden.input("gt_traj")
    window = SeenObjects(ours(seen[..., :7]), seen[..., 7], ours(truth[..., :7]))
    config = MotionTrainingConfig(weight=1.0, smoothness=golden.config["smooth_weight"])
    with torch.enable_grad():
        refined, foreseen = unrolled(network, window.seen, window.scores, config.history)
        losses = motion_losses(network, window, config)
        sum(losses.values()).backward()
    golden.check("loc_refines", refined[..., ORDER])
    golden.check("loc_preds", foreseen[..., ORDER])
    names = {"refine_loss": "refined", "pred_loss": "foreseen", "linear_loss": "smoothness"}
    for theirs, mine in names.items():
        golden.check(f"loss/{theirs}", losses[mine][None])
    entries = {e.published: e.ours for e in rule_entries(network.state_dict(), VELO_LSTM, "", "")}
    gradients = dict(network.named_parameters())
    norms = [gradients[entries[name]].grad.norm().double() for name in golden.manifest["grad_norm_names"]]
    golden.check("grad_norms", torch.stack(norms))


def test_velo_lstm_as_a_motion_model(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/velo_lstm_motion")
    motion = VeloLstmMotion().eval()
    filled(motion.network, golden.state_dict())
    operations = golden.config["operations"].split()[0]
    for sequence in range(3):
        observations = ours(golden.input(f"observations_{sequence}"))
        scores = golden.input(f"confidence_{sequence}")
        state, seen = motion.start(observations[:1]), 1
        states, steps = [state], []
        for operation in operations:
            if operation == "p":
                state, step = motion.predict(state)
                steps.append(step)
            else:
                rows = slice(seen, seen + 1)
                state, seen = motion.update(state, observations[rows], scores[rows]), seen + 1
            states.append(state)
        boxes = torch.cat([state.boxes for state in states])[:, ORDER]
        theirs = torch.from_numpy(golden.outputs[f"state_{sequence}"])
        golden.compare(f"state_{sequence}", boxes, theirs[:, :7])
        returned = torch.from_numpy(golden.outputs[f"returned_{sequence}"])[:, 7:]
        assert (torch.cat(steps) - returned).abs().amax() < 1e-3
        close(golden, f"velocity_{sequence}", 2 * torch.cat([motion.steps(state) for state in states]))
        close(golden, f"history_{sequence}", torch.cat([s.history for s in states])[..., [0, 6]], 3e-4)
        hidden = torch.stack([state.foreseeing[0, 0], state.judging[0, 0]])
        golden.check(f"hidden_{sequence}", hidden[..., ::8])


@pytest.mark.parametrize("name", ["association", "association_429"])
@pytest.mark.parametrize("preset", ["default", "bevformer", "plusplus", "empty_memory"])
def test_the_association(open_golden: OpenGolden, name: str, preset: str) -> None:
    golden = open_golden(f"cc3dt/{name}")
    if f"{preset}/ids" not in golden.outputs:
        assert name == "association_429" and preset == "plusplus"
        return
    settings = {
        "bevformer": {"init_score_thr": 0.2, "obj_score_thr": 0.1},
        "plusplus": {
            "init_score_thr": 0.2,
            "obj_score_thr": 0.1,
            "match_score_thr": 0.3,
            "nms_class_iou_thr": 0.3,
            "bbox_affinity_weight": 0.75,
            "with_velocities": True,
        },
    }
    config = rules(settings.get(preset, {}), golden.manifest["source"])
    seen = detected(golden, "")
    kept = suppressed(seen, config)
    golden.check(f"{preset}/kept", kept)
    seen = seen.rows(kept)
    velocities = golden.input("memory_velocities").double()
    known = Known(
        ours(golden.input("memory_boxes_3d")),
        ours(golden.input("memory_boxes_3d_predict")),
        velocities[:, :3],
        velocities[:, 4:7],
        golden.input("memory_class_ids"),
        golden.input("memory_embeddings"),
    )
    names = golden.input("memory_ids")
    if preset == "empty_memory":
        known, names = known_rows(known, 0), names[:0]
    scores = seen.scores * seen.depth_scores if preset in ("default", "empty_memory") else seen.scores
    affinities = affinity(seen, known, config)
    who = torch.from_numpy(assign(affinities, names, scores, config))
    born = (who == -1) & (seen.scores > config.birth_score)
    first = 0 if preset == "empty_memory" else 50
    golden.check(f"{preset}/ids", torch.where(born, first - 1 + born.cumsum(0), who))
    if preset != "empty_memory":
        golden.check(f"{preset}/depth_score", depth_similarity(seen, known, config))
        golden.check(f"{preset}/similarity", appearance_similarity(seen.embeddings, known.embeddings))
        golden.check(f"{preset}/affinity", affinities)


def known_rows(known: Known, count: int) -> Known:
    return known.map(lambda values: values[:count])


def detected(golden: Golden, frame: str) -> Detected:
    """A golden's detections, of a frame or of the only one."""
    boxes, scores = golden.input(f"boxes_3d{frame}"), golden.input(f"scores_2d{frame}")
    depth = scores
    if f"in_scores_3d{frame}" in golden.outputs:
        depth = golden.input(f"scores_3d{frame}")
    return Detected(
        boxes=ours(boxes[:, [0, 1, 2, 3, 4, 5, 8]]),
        velocities=boxes[:, 9:12].double(),
        scores=scores,
        depth_scores=depth,
        labels=golden.input(f"class_ids{frame}"),
        cameras=golden.input(f"camera_ids{frame}").long(),
        image_boxes=golden.input(f"boxes_2d{frame}"),
        embeddings=golden.input(f"embeddings{frame}"),
    )


def motion_of(golden: Golden) -> Motion:
    if golden.config["graph"]["motion_model"] == "KF3D":
        return Kalman()
    motion = VeloLstmMotion().eval()
    filled(motion.network, golden.state_dict("velo_lstm.") or golden.state_dict())
    return motion


TRACKERS = [
    "tracker_bevformer_kf3d",
    "tracker_bevformer_kf3d_429",
    "tracker_bevformer_velolstm",
    "tracker_bevformer_velolstm_429",
    "tracker_frcnn_kf3d",
    "tracker_frcnn_kf3d_429",
    "tracker_plusplus_kf3d",
]


@pytest.mark.parametrize("name", TRACKERS)
def test_thirteen_frames_of_the_tracker(open_golden: OpenGolden, name: str) -> None:
    golden = open_golden(f"cc3dt/{name}")
    graph = golden.config["graph"]
    config = rules(golden.config["track"], golden.manifest["source"])
    memory = MemoryConfig(
        frames=graph["memory_size"],
        backdrops=graph.get("add_backdrops", True),
        score_product=graph.get("update_3d_score", True),
    )
    motion = motion_of(golden)
    empty = nothing_remembered(motion, golden.input("embeddings_0").shape[1], torch.zeros(()))
    (tracks, backdrops), born = empty, 0
    distinct = len([key for key in golden.outputs if key.startswith("in_scores_2d_")])
    for number, frame in enumerate(golden.config["frame_ids"]):
        if frame == 0:
            (tracks, backdrops), born = empty, 0
        seen = detected(golden, f"_{number if number < distinct else frame}")
        done = follow(tracks, backdrops, frame, born, seen, motion, config, memory)
        tracks, backdrops, born = done.tracks, done.backdrops, done.next_identity
        label = f"f{number}"
        golden.check(f"{label}/kept", done.kept)
        golden.check(f"{label}/ids", done.identities)
        if f"{label}/affinity" in golden.outputs:
            golden.check(f"{label}/affinity", done.affinities)
            golden.check(f"{label}/memory_ids", done.known)
        numbers = torch.stack([tracks.identities, tracks.last_seen, tracks.updates], 1)
        golden.check(f"{label}/tracks", numbers)
        boxes = torch.from_numpy(golden.outputs[f"{label}/track_boxes"])
        golden.compare(f"{label}/track_boxes", tracks.boxes[:, ORDER], boxes[:, [0, 1, 2, 3, 4, 5, 8]])
        assert len(boxes) == 0 or (tracks.velocities - boxes[:, 9:]).abs().amax() < 1e-3
        steps = torch.from_numpy(golden.outputs[f"{label}/track_velocities"])
        assert len(steps) == 0 or (tracks.steps - steps[:, :3]).abs().amax() < 3e-4
        golden.check(f"{label}/track_embeds", tracks.embeddings[:, ::4])
        states = torch.from_numpy(golden.outputs[f"{label}/motion_state"])
        golden.compare(f"{label}/motion_state", tracks.motion.boxes[:, ORDER], states[:, :7])
        if memory.backdrops:  # The original makes them everywhere, here they are made where they are used.
            golden.check(f"{label}/backdrops", torch.tensor([len(backdrops.labels)]))

        out = tracks.map(lambda values, rows=done.rows: values[rows])
        golden.check(f"{label}/out_ids", out.identities)
        quaternion = torch.zeros(len(out.boxes), 4, dtype=torch.float64)
        quaternion[:, 0], quaternion[:, 3] = (out.boxes[:, 6] / 2).cos(), (out.boxes[:, 6] / 2).sin()
        places = torch.cat([out.boxes[:, [0, 1, 2, 4, 3, 5]], quaternion], 1)
        theirs = torch.from_numpy(golden.outputs[f"{label}/out_boxes"])
        golden.compare(f"{label}/out_boxes", places[:, :6], theirs[:, :6])
        # A quaternion and its negative turn alike.
        assert len(theirs) == 0 or ((places[:, 6:] * theirs[:, 6:]).sum(1).abs() - 1).abs().amax() < 1e-6
        close_rows = torch.from_numpy(golden.outputs[f"{label}/out_velocities"])
        assert len(theirs) == 0 or (out.velocities - close_rows).abs().amax() < 1e-3
        golden.check(f"{label}/out_scores", done.scores)
        golden.check(f"{label}/out_classes", out.labels)


def appearance(depth: Literal[18, 101] = 18) -> Appearance:
    """Its head in full size; the image network of a golden that has it, else a small one that is not run."""
    backbone = ResNetConfig(depth=depth, style="pytorch", out_stages=(1, 2, 3, 4))
    return (
        AppearanceConfig(ImageEncoderConfig(backbone, FpnConfig(256, num_outs=5), divisor=32)).build().eval()
    )


def test_the_image_network(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/resnet101_fpn")
    encoder = appearance(101).encoder
    filled(encoder, golden.state_dict(), IMAGE_NETWORK)
    levels = encoder.neck(encoder.backbone(golden.input("image")))
    for number, level in enumerate(levels):
        (name,) = (name for name in golden.outputs if f"p{number + 2}" in name.lower())
        golden.check(name, of_shape(level, golden.outputs[name].shape))


def of_shape(level: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What a golden kept of a level: every so many channels, rows and columns."""
    steps = [-(-whole // part) for whole, part in zip(level.shape, shape, strict=True)]
    return level[:: steps[0], :: steps[1], :: steps[2], :: steps[3]]


def test_the_similarity_head(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/similarity_head")
    head = appearance()
    head.encoder = nn.Identity()
    filled(head, golden.state_dict(), SIMILARITY_HEAD)
    head.encoder.strides = tuple(golden.config["strides"])
    levels = tuple(golden.input(f"p{number}") for number in range(2, 6))
    boxes = [golden.input(f"boxes_{image}") for image in range(2)]
    cameras = torch.tensor([0] * len(boxes[0]) + [1] * len(boxes[1]))
    golden.check("levels", level_of(torch.cat(boxes), head.encoder.strides) + 2)
    pooled = head.pooled(levels, cameras, torch.cat(boxes))
    golden.check("pooled", pooled[:, ::16])
    golden.check("embeddings", head.embed(pooled))


def test_the_losses_of_embeddings(open_golden: OpenGolden) -> None:
    golden = open_golden("cc3dt/similarity_loss")
    common = golden.filled("common", scale=0.3)
    with torch.enable_grad():
        sides = {
            name: (golden.filled(name, scale=0.35) + common).requires_grad_()
            for name in ("key_0", "key_1", "ref_0", "ref_1")
        }
        losses = {"track_loss": torch.zeros(()), "track_loss_aux": torch.zeros(())}
        for sample in range(2):
            pair = (
                sides[f"key_{sample}"],
                golden.input(f"key_ids_{sample}"),
                sides[f"ref_{sample}"],
                golden.input(f"ref_ids_{sample}"),
            )
            losses["track_loss"] = losses["track_loss"] + 0.25 * contrast_loss(*pair) / 2
            losses["track_loss_aux"] = losses["track_loss_aux"] + cosine_loss(*pair) / 2
        sum(losses.values()).backward()
    for name, value in losses.items():
        golden.check(name, value[None])
    for name, side in sides.items():
        kind, sample = name.split("_")
        golden.check(f"grad_{kind}_{sample}", side.grad)


@pytest.mark.parametrize("name", ["forward", "forward_429"])
def test_from_boxes_to_tracks(open_golden: OpenGolden, name: str) -> None:
    golden = open_golden(f"cc3dt/{name}")
    height, width = golden.config["images_hw"]
    graph = golden.config["graph"]
    config = Cc3dtConfig(
        rules(golden.config["track"], golden.manifest["source"]),
        MemoryConfig(frames=graph["memory_size"]),
        motion="velo_lstm",
        appearance=AppearanceConfig(
            ImageEncoderConfig(ResNetConfig(18, out_stages=(1, 2, 3, 4)), FpnConfig(256))
        ),
    )
    tracker = Cc3dt(NoDetector(THEIRS), config).eval()
    weights = golden.state_dict()
    filled(tracker.motion.network, golden.state_dict("velo_lstm."))
    head = {n.removeprefix("similarity_head."): t for n, t in weights.items() if n.startswith("similarity")}
    own = {n: t for n, t in tracker.appearance.state_dict().items() if not n.startswith("encoder")}
    read = read_entries(
        head, rule_entries(own, SIMILARITY_HEAD, "", ""), {n: t.shape for n, t in own.items()}, (), ""
    )
    tracker.appearance.load_state_dict(read.weights, strict=False)
    shown: list[Any] = []
    remembering(tracker, shown)

    frames = len([key for key in golden.outputs if key.startswith("in_boxes_")])
    state = tracker.initial_state()
    for number in range(frames):
        levels = tuple(level(golden, name, size, number) for name, size in pyramid(golden))
        tracker.appearance.levels = lambda _images, levels=levels: levels
        extrinsics = golden.input(f"extrinsics_{number}").double()
        cameras = len(extrinsics)
        frame = frame_of(torch.eye(4).expand(1, cameras, 4, 4), (height, width))
        rig = replace(
            frame.rig,
            image_from_camera=golden.input("intrinsics").double().expand(1, cameras, 3, 3),
            camera_from_vehicle=torch.linalg.inv(extrinsics)[None],
        )
        frame = replace(frame, rig=rig, timestamp_s=frame.timestamp_s + 0.5 * (number + 1))
        boxes, scores = golden.input(f"boxes_{number}"), golden.input(f"scores_{number}")
        yaw = torch.from_numpy(yaw_from_quaternion(boxes[:, 6:].double().numpy()))
        given = torch.cat(
            [
                boxes[:, [0, 1, 2, 4, 3, 5]].double(),
                yaw[:, None],
                golden.input(f"velocities_{number}")[:, :2],
            ],
            1,
        )
        classes = golden.input(f"classes_{number}")
        objects, state = tracker.step_given(
            frame,
            state,
            Objects(
                given[None], classes[None], scores[None], classes[None], torch.ones_like(scores).bool()[None]
            ),
        )
        label = f"t{number}"
        pairs, detected, followed = shown.pop()
        golden.check(f"{label}/boxes_2d", pairs.image_boxes)
        golden.check(f"{label}/boxes_per_camera", pairs.cameras.bincount(minlength=cameras))
        every = tracker.appearance(levels, pairs.cameras, pairs.image_boxes)
        golden.check(f"{label}/embeddings", every[:, ::8])
        golden.check(f"{label}/in_boxes_2d", detected.image_boxes)
        golden.check(f"{label}/in_camera", detected.cameras.float())
        golden.check(f"{label}/in_class", detected.labels)
        theirs = torch.from_numpy(golden.outputs[f"{label}/in_boxes_3d"])
        golden.compare(f"{label}/in_boxes_3d", detected.boxes[:, ORDER], theirs[:, [0, 1, 2, 3, 4, 5, 8]])
        golden.check(f"{label}/kept", followed.kept)
        golden.check(f"{label}/ids", followed.identities)
        if f"{label}/affinity" in golden.outputs:
            golden.check(f"{label}/affinity", followed.affinities)
        golden.check(f"{label}/out_ids", objects.identities[0])
        theirs = torch.from_numpy(golden.outputs[f"{label}/out_boxes"])
        golden.compare(f"{label}/out_boxes", objects.boxes[0][:, [0, 1, 2, 4, 3, 5]], theirs[:, :6])
        theirs = torch.from_numpy(golden.outputs[f"{label}/out_velocities"])
        assert (objects.boxes[0, :, 7:] - theirs[:, :2]).abs().amax() < 1e-3
        golden.check(f"{label}/out_scores", objects.scores[0])
        golden.check(f"{label}/out_classes", objects.labels[0])


THEIRS = (
    "bicycle", "motorcycle", "pedestrian", "bus", "car",
    "trailer", "truck", "construction_vehicle", "traffic_cone", "barrier",
)  # fmt: skip


def pyramid(golden: Golden) -> list[tuple[str, tuple[int, int]]]:
    return [(f"p{number + 2}", tuple(size)) for number, size in enumerate(golden.config["level_sizes"])]


def level(golden: Golden, name: str, size: tuple[int, int], frame: int) -> Tensor:
    """A level of a frame as the manifest makes it: shared, and the frame's own noise, enlarged."""
    parts = [golden.filled(name, scale=1.5), golden.filled(f"{name}_noise{frame}", scale=0.1)]
    return sum(
        functional.interpolate(part, size=size, mode="bilinear", align_corners=False) for part in parts
    )


def remembering(tracker: Cc3dt, shown: list[Any]) -> None:
    """Have a tracker show all pairs of camera and box, what it detects, and what comes of a frame."""
    seen, after = tracker._seen, tracker._after
    detected = tracker.detected
    last: list[Any] = []

    def pairs(*arguments: Any) -> Any:
        last[:] = [seen(*arguments)]
        return last[0]

    def found(*arguments: Any) -> Any:
        last.append(detected(*arguments))
        return last[-1]

    def done(state: Any, lived: Any, decided: Any) -> Any:
        shown.append((*last, decided[0]))
        return after(state, lived, decided)

    tracker._seen, tracker.detected, tracker._after = pairs, found, done
