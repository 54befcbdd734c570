"""StreamPETR against the original head: memory, encodings, outputs, denoising, losses, gradients."""

import dataclasses

import numpy as np
import pytest
import torch
from golden import relative_error
from heads import feed, tiny_encoder
from petr_heads import (
    CLASSES,
    check_decoding,
    load,
    make_annotations,
    make_frame,
    match_and_lose,
)

from syncl.checkpoints.mapping import rule_entries
from syncl.checkpoints.streampetr import HEAD, StreamPetrAdapter
from syncl.detectors import StreamPetrConfig
from syncl.detectors.token_detector import seen_beside
from syncl.structures import object_queries
from syncl.training.assignment import CostConfig
from syncl.training.losses import LossConfig
from syncl.training.objectives.denoising import (
    DenoisingConfig,
    denoising_losses,
    noise_objects,
    noised_queries,
)

STRIDE = 16


def build(golden, dropout=0.1):
    cfg = golden.config["cfg"]
    decoder = cfg["transformer"]["decoder"]
    config = StreamPetrConfig(
        tiny_encoder(1, 256),
        CLASSES[: cfg["num_classes"]],
        queries=cfg["num_query"],
        propagated=cfg["num_propagated"],
        memory_slots=cfg["memory_len"],
        objects_a_frame=cfg["topk_proposals"],
        layers=decoder["num_layers"],
        hidden=decoder["transformerlayers"]["feedforward_channels"],
        dropout=dropout,
        position_range=tuple(cfg["position_range"]),
        point_range=tuple(cfg["bbox_coder"]["pc_range"]),
    )
    return load(StreamPetrAdapter(), config, golden)


def frames_of(golden):
    """The golden's frames and their image features; a stream without past gets a new scene name."""
    count = sum(name.startswith("img_feats_") for name in golden.manifest["inputs"])
    scenes = None
    for index in range(count):
        features = golden.input(f"img_feats_{index}")
        exists = golden.input(f"prev_exists_{index}").bool().tolist()
        scenes = [
            f"scene {index}" if not there else old
            for there, old in zip(exists, scenes or [""] * len(exists), strict=True)
        ]
        size = (features.shape[-2] * STRIDE, features.shape[-1] * STRIDE)
        frame = make_frame(
            golden.input(f"lidar2img_{index}"),
            size,
            golden.input(f"ego_pose_{index}"),
            golden.input(f"timestamp_{index}"),
            golden.input(f"intrinsics_{index}"),
            scenes=tuple(scenes),
        )
        yield index, frame, features, torch.tensor(exists)


def annotations_of(golden, index, streams):
    boxes = [golden.input(f"gt_boxes_{index}_{stream}") for stream in range(streams)]
    labels = [golden.input(f"gt_labels_{index}_{stream}") for stream in range(streams)]
    return make_annotations(boxes, labels)


def golden_memory(golden, index, memory):
    """Our memory after a frame with everything the golden has of its own put in place."""
    slots = memory.embeddings.shape[1]
    stored = {
        name: torch.from_numpy(golden.outputs[f"memory_{name}_{index}"])[:, :slots]
        for name in ("reference_point", "timestamp", "egopose", "velo", "embedding_slice")
    }
    embeddings = memory.embeddings.clone()
    embeddings[..., ::16] = stored["embedding_slice"]
    return dataclasses.replace(
        memory,
        embeddings=embeddings,
        references=stored["reference_point"].double(),
        velocities=stored["velo"],
        global_from_vehicle=stored["egopose"].double(),
        timestamps_s=-stored["timestamp"][..., 0],
    )


def check_frame(golden, index, seen, queries, predictions, captured, tolerance):
    propagated = seen.propagated.count
    golden.check(f"tgt_slice_{index}", queries.embeddings[..., ::16], tolerance)
    golden.check(f"query_pos_slice_{index}", queries.positions[..., ::16], tolerance)
    golden.check(f"temp_memory_slice_{index}", seen.temporal_values[..., ::16], tolerance)
    positions = seen.temporal_keys - seen.temporal_values
    golden.check(f"temp_pos_slice_{index}", positions[..., ::16], tolerance)
    assert positions.shape[1] + propagated == seen.memory.embeddings.shape[1]
    if f"cone_slice_{index}" in golden.outputs:
        golden.check(f"cone_slice_{index}", captured["cone"][:, ::37])
        golden.check(f"pos_embed_slice_{index}", captured["rays"][:, ::37, ::8])
    golden.check(f"all_cls_scores_{index}", predictions.logits, tolerance)
    golden.check(f"all_bbox_preds_{index}", predictions.codes, tolerance)


def check_memory(golden, index, memory, tolerance, kept):
    slots = memory.embeddings.shape[1]
    # The original keeps what drops out of the memory until the next frame begins; ours lets go at once.
    for name, ours in {
        "reference_point": memory.references,
        "timestamp": -memory.timestamps_s[..., None],
        "egopose": memory.global_from_vehicle,
        "velo": memory.velocities,
        "embedding_slice": memory.embeddings[..., ::16],
    }.items():
        theirs = golden.outputs[f"memory_{name}_{index}"][:, :slots]
        # Velocities are columns of the box codes, which are held to 1e-4. By themselves they are small: a
        # float64 run of this model is 0.8e-4 from the golden at frame 2, float32 runs 1.1e-4 to 1.4e-4.
        slack = 2 if name == "velo" and index > 1 else 1
        golden.compare(f"memory_{name}_{index}", ours, theirs, slack * tolerance)


def best_rows(predictions, count):
    return predictions.logits[-1].sigmoid().amax(-1).topk(count, dim=1).indices


@pytest.mark.parametrize("kept", [True, False], ids=["golden memory", "own memory"])
def test_frames(open_golden, kept):
    golden = open_golden("streampetr/streampetr_head")
    detector = build(golden)
    captured = {}
    detector.tokens.camera_norm.register_forward_pre_hook(lambda _, args: captured.update(cone=args[1]))
    detector.tokens.position_encoder.register_forward_hook(lambda *args: captured.update(rays=args[2]))
    memory = None
    weights = tuple(golden.outputs["sd_code_weights"].tolist())
    cost = CostConfig(code_weights=tuple(golden.outputs["sd_match_costs"][:8].tolist()))
    for index, frame, features, exists in frames_of(golden):
        # Free running, float32 noise of both sides grows from frame to frame (see the goldens' README): with
        # the golden's memory every frame holds 1e-4, with its own 1.1e-4 was measured at the second frame and
        # 2.0e-4 at the third on one processor, 3.1e-4 on another, and 4.6e-4 of its velocities.
        tolerance = 1e-4 if kept else (1e-4, 2e-4, 4e-4)[min(index, 2)]
        streams = frame.batch_size
        if memory is None:
            memory = detector.initial_memory(streams)
        feed(detector, (features,))
        with torch.no_grad():
            seen = detector.encode(frame, memory.keep(exists))
            queries = detector.initial_queries(seen)
            (predictions,) = detector.decode(queries, seen)
            memory = detector.remember(memory, frame, seen, predictions)
        check_frame(golden, index, seen, queries, predictions, captured, tolerance)
        golden.check(f"topk_indexes_{index}", best_rows(predictions, detector.config.objects_a_frame))
        check_memory(golden, index, memory, tolerance, kept)

        annotations = annotations_of(golden, index, streams)
        targets, losses = match_and_lose(predictions, annotations, cost, LossConfig(code_weights=weights))
        order = [losses[-1]["class"], losses[-1]["box"]]
        for layer in losses[:-1]:
            order += [layer["class"], layer["box"]]
        golden.check(f"losses_{index}", torch.stack(order), tolerance)
        for stream in range(streams):
            golden.check(f"assigned_gt_inds_{index}_{stream}", targets[-1, stream] + 1)
            check_decoding(golden, f"{index}_{stream}", stream, predictions, lambda boxes: boxes, tolerance)
        if kept:
            memory = golden_memory(golden, index, memory)


def test_moving_the_memory_by_its_velocity_would_show(open_golden):
    """The weak spot of the golden: its logits hardly tell, its memory does."""
    golden = open_golden("streampetr/streampetr_head")
    detector = build(golden)
    (_, frame, features, _), (_, later, *_) = list(frames_of(golden))[:2]
    feed(detector, (features,))
    with torch.no_grad():
        seen = detector.encode(frame, None)
        (predictions,) = detector.decode(detector.initial_queries(seen), seen)
        memory = detector.remember(None, frame, seen, predictions)
    recalled = memory.recalled(later)
    still = (
        torch.linalg.inv(later.global_from_vehicle)[:, None]
        @ torch.cat([memory.references, torch.ones_like(memory.references[..., :1])], dim=-1)[..., None]
    )
    assert torch.allclose(recalled.references, still[..., :3, 0].float(), atol=1e-4)


def by_group(flat, groups, counts, most):
    """Values of noised boxes (group-major, within a group sample by sample) as [B, G, M, ...]."""
    table = flat.new_zeros(len(counts), groups, most, *flat.shape[1:])
    start = 0
    for group in range(groups):
        for stream, count in enumerate(counts):
            table[stream, group, :count] = flat[start : start + count]
            start += count
    assert start == len(flat)
    return table


def slices_of_gradients(golden, index, detector, features):
    """(label, our gradient where the golden took its slice, the golden's)."""
    ours_of = {entry.published: entry.ours for entry in rule_entries(detector.state_dict(), (*HEAD,), "", "")}
    parameters = dict(detector.named_parameters())
    prefix = f"grad_{index}_"
    for name, values in golden.outputs.items():
        if name.startswith(prefix):
            gradient = parameters[ours_of[name.removeprefix(prefix)]].grad.flatten()
            step = max(1, gradient.numel() // len(values))
            yield name, gradient[::step][: len(values)].clone(), values
    label = f"grad_img_feats_{index}"
    yield label, features.grad.flatten()[::4099].clone(), golden.outputs[label]


def denoise(golden, index, detector, frame, features, memory, annotations, noised, config):
    """One frame with denoising, forward and backward: predictions, losses and gradients by label."""
    cost = CostConfig(code_weights=config.loss.code_weights[:8])
    features = features.clone().requires_grad_()
    feed(detector, (features,))
    detector.zero_grad()
    seen = detector.encode(frame, memory)
    queries, further = detector.initial_queries(seen), noised_queries(detector, noised)
    (together,) = detector.decode(queries.followed_by(further), seen)
    predictions, found = together.rows(slice(queries.count)), together.rows(slice(queries.count, None))
    losses = torch.stack(losses_by_layer(predictions, found, further, annotations, cost, config))
    losses.sum().backward()
    gradients = {label: own for label, own, _ in slices_of_gradients(golden, index, detector, features)}
    return seen, predictions, found, losses, gradients


def shaken(memory, seed):
    """The memory moved by as much as rounding in float32 moves it from one frame to the next.

    Against a float64 run its embeddings are off by 6.5e-6 (relative), its centres by 5e-5 m.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)

    return dataclasses.replace(
        memory,
        embeddings=memory.embeddings * (1 + 1e-5 * noise(memory.embeddings)),
        references=memory.references + 1e-4 * noise(memory.references),
    )


def test_denoising(open_golden):
    """Gradients of a first frame agree to 3e-4, by most processors to 1e-4. Behind a memory they cannot.

    They jump where a ReLU opens or an absolute difference changes sign. In float64, moving the memory by
    1e-7, 1e-6 and 1e-5 moves them by 3e-6, 3e-5 to 4e-4 and 1e-3 to 4e-3, while outputs and losses follow in
    proportion (2e-7, 2e-6, 2e-5). The memory the golden was made with is known to float32 only. So the limit
    behind a memory is three times what such a rounding of our own does to the same gradient, 2e-2 at most.
    """
    golden = open_golden("streampetr/streampetr_dn")
    detector = build(golden, dropout=0.0)
    detector.train()
    config = DenoisingConfig(
        groups=golden.config["scalar"],
        noise_scale=golden.config["noise_scale"],
        background_distance=golden.config["split"],
    )
    memory = None
    for index, frame, features, exists in frames_of(golden):
        streams = frame.batch_size
        memory = detector.initial_memory(streams) if memory is None else memory
        annotations = annotations_of(golden, index, streams)
        counts, most = annotations.valid.sum(1).tolist(), annotations.valid.shape[1]
        uniform = by_group(golden.input(f"rand_{index}"), config.groups, counts, most)
        noised = noise_objects(annotations, detector.point_range, config, uniform)
        check_noise(golden, index, noised, annotations, detector, counts)

        def run(memory, index=index, frame=frame, features=features, annotations=annotations, noised=noised):
            return denoise(golden, index, detector, frame, features, memory, annotations, noised, config)

        kept = memory.keep(exists)
        remembered = bool(kept.started.any())
        trembling = [run(shaken(kept, seed))[-1] for seed in range(2)] if remembered else []
        seen, predictions, found, losses, gradients = run(kept)
        golden.check(f"all_cls_scores_{index}", predictions.logits)
        golden.check(f"all_bbox_preds_{index}", predictions.codes)
        golden.check(f"dn_cls_{index}", found.logits)
        golden.check(f"dn_box_{index}", found.codes)
        golden.check(f"losses_{index}", losses)
        for label, own in gradients.items():
            moves = [relative_error(other[label].numpy(), own.numpy()) for other in trembling]
            limit = min(2e-2, max([3e-4, *(3 * move for move in moves)]))
            golden.check(label, own, limit)

        memory = detector.remember(memory, frame, seen, predictions)
        assert not memory.embeddings.requires_grad
        slots = memory.embeddings.shape[1]
        theirs = golden.outputs[f"memory_reference_point_{index}"][:, :slots]
        golden.compare(f"memory_reference_point_{index}", memory.references, theirs)


def check_noise(golden, index, noised, annotations, detector, counts):
    """Anchors, labels, slots and mask of the denoising queries; theirs lie before all others."""
    streams, groups, most = noised.valid.shape
    learned = detector.reference_points.weight.detach().expand(streams, -1, -1)
    unit = detector.point_range.normalise(noised.references).flatten(1, 2)
    golden.check(f"dn_reference_points_{index}", torch.cat([unit, learned], dim=1))
    order = noised.valid.transpose(0, 1)  # group-major
    labels = torch.where(noised.identities < 0, -1, annotations.labels[:, None]).transpose(0, 1)[order]
    golden.check(f"known_labels_{index}", torch.where(labels < 0, len(detector.classes), labels))
    slots = torch.arange(groups * most).view(groups, 1, most).expand(-1, streams, -1)
    golden.check(f"map_known_indice_{index}", slots[order])
    golden.check(f"known_bid_{index}", torch.arange(streams)[None, :, None].expand_as(order)[order])

    pad, queries = groups * most, detector.query_count
    temporal = detector.config.memory_slots - detector.config.propagated
    content = torch.zeros(streams, queries, detector.dim)
    plain = object_queries(content, content, content[..., :3])
    looked_at = plain.followed_by(noised_queries(detector, noised)).looked_at
    seen = seen_beside(looked_at, (torch.zeros(streams, temporal, 1),) * 2)[0]
    rows = [*range(queries, queries + pad), *range(queries)]
    columns = [*rows, *range(queries + pad, queries + pad + temporal)]
    golden.check(f"attn_mask_{index}", np.packbits(~seen[rows][:, columns].numpy()))


def losses_by_layer(predictions, found, further, annotations, cost, config):
    """For each layer noised box, noised class, box and class loss: the golden's order."""
    _, plain = match_and_lose(predictions, annotations, cost, config.loss)
    losses = []
    for layer, own in enumerate(plain):
        part = dataclasses.replace(
            found, logits=found.logits[layer : layer + 1], codes=found.codes[layer : layer + 1]
        )
        extra = denoising_losses(part, further, annotations, config)
        losses += [extra["noised_box"], extra["noised_class"], own["box"], own["class"]]
    return losses
