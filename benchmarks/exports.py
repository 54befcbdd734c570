"""Exported models: nodes, size, largest difference, and time of torch and onnxruntime in one run.

    python benchmarks/exports.py --output exports.jsonl
    python benchmarks/exports.py --recipes pf-track_petr_v99_320x800 --size 320 800

Each model is exported, takes a first frame in torch, and a second one, with the tracks of the first, in torch
and in onnxruntime from the same state. Weights are fresh; class heads, and what says who belongs together,
draw theirs wider, so that scores are told apart, and every threshold is 0, so that all slots are full of
tracks: the dearest frame there is. Tracks that the host pairs are paired here too, outside of the times. What
has no such step is named with its reason. A line a model is appended to `--output`, and models that have
theirs are passed over. CPU seconds of one thread.
"""

import argparse
import dataclasses
import json
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from gpu import make_frame, resized
from syncl.dataset_description import NUSCENES
from syncl.deployment.golden_frames import paired
from syncl.deployment.programs import OnnxProgram, write_onnx
from syncl.deployment.step import TrackStep, state_of, template_of, told_frame, told_objects, told_state
from syncl.deployment.writing import flat_step
from syncl.errors import SynclError
from syncl.recipes import find_recipe
from syncl.trackers import Tracker
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.inference import fold_norms

# The largest last: what is stopped has measured most.
RECIPES = (
    "mutr3d_detr3d_synthetic_plain",
    "ada-track_petr_synthetic",
    "ada-track_petr_v99_320x800",
    "dqtrack_petrv2_v99_320x800",
    "bevformer_r50_450x800",
    "bevdepth_r50_256x704",
    "dort_r50_256x704",
    "cc-3dt_bevformer_r101_900x1600",
    "pf-track_petr_v99_320x800",
    "mutr3d_streampetr_v99_320x800",
    "mutr3d_detr3d_r101_900x1600",
    "ada-track_detr3d_r101_900x1600",
    "petrv2_v99_320x800",
    "star-track_petr_v99_640x1600",
    "onetrack_petr_v99_320x800",
)
THRESHOLDS = ("birth_score", "keep_score", "record_score", "output_score", "pair_score", "affinity")


def fresh(recipe: str) -> Tracker:
    """A recipe's tracker with deterministic weights, sure of everything."""
    config = find_recipe(recipe).model
    known = {field.name for field in dataclasses.fields(config.tracker)}
    rules = dataclasses.replace(config.tracker, **{name: 0.0 for name in THRESHOLDS if name in known})
    config = dataclasses.replace(resized(config, config.input.image_size), tracker=rules)
    with torch.device("meta"):  # What is refused costs nothing.
        config.build().eval().stepping_part().with_fixed_slots()
    torch.manual_seed(0)
    tracker = config.build().eval()
    tracker.input = None
    generator = torch.Generator().manual_seed(1)
    for name, module in tracker.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == len(tracker.classes) and "class" in name:
            module.weight.data.normal_(0, 0.3, generator=generator)
            # Fresh queries are alike: all of them could be cones, which PF-Track does not track.
            module.bias.data[[name not in NUSCENES.tracked for name in tracker.classes]] = -20.0
        if isinstance(module, nn.Linear) and module.out_features == 1 and "affinity" in name:
            module.weight.data.normal_(0, 0.3, generator=generator)
    return tracker


def apart(expected: dict[str, Tensor], found: dict[str, Tensor]) -> tuple[int, int, int, float | None]:
    """Objects of the first, how many the second has, how many of these within a millimetre, and the largest
    difference; None = no such. Detections, which have no identities, are compared with the nearest.
    """

    def rows(told: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        valid = told["objects_valid"][0]
        names = torch.stack([told["objects_identities"][0], told["objects_labels"][0]], dim=1)
        return names[valid], told["objects_boxes"][0][valid]

    (names, boxes), (others, theirs) = rows(expected), rows(found)
    difference = (boxes[:, None] - theirs).abs()
    difference[..., 6] = torch.minimum(difference[..., 6], 2 * torch.pi - difference[..., 6])
    strangers = (names[:, None] != others).any(2)
    nobody = torch.full_like(boxes[:, :1], torch.inf)
    best = torch.cat([difference.amax(2).masked_fill(strangers, torch.inf), nobody], dim=1).amin(1)
    known = best < torch.inf
    largest = float(best[known].max()) if known.any() else None
    return len(boxes), int(known.sum()), int((best < 1e-3).sum()), largest


def timed(program: object, given: dict[str, Tensor], repeats: int) -> tuple[dict[str, Tensor], float]:
    """What a program tells, and the least CPU seconds of some runs."""
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        told = program(given)  # type: ignore[operator]
        seconds.append(time.process_time() - begin)
    return told, min(seconds)


@torch.no_grad()
def measure(recipe: str, size: tuple[int, int] | None, repeats: int) -> dict[str, object]:
    """A line of the table."""
    tracker = fresh(recipe)
    fixed = tracker.stepping_part().with_fixed_slots()
    pairing = tracker if isinstance(tracker, HostPairing) and not fixed.detects_only else None
    fold_norms(fixed)
    height, width = size or find_recipe(recipe).model.input.image_size
    first, second = (make_frame((height, width), number, torch.device("cpu")) for number in range(2))
    template = template_of(fixed, first)
    cameras = first.rig.names
    eager = flat_step(fixed, template, cameras)
    teller = fixed.detector.precomputed
    shown = told_frame(first, fixed.admit(first, template), template, teller)
    before = eager(shown | told_state(template))
    moved = state_of(before, template, first)
    if pairing is not None:
        _, moved = paired(pairing, template, first, before)
    state = told_state(moved)
    frame = told_frame(second, fixed.admit(second, moved), moved, teller)
    given = frame | state
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, begin = Path(folder) / "track.onnx", time.process_time()
        traced = torch.export.export(TrackStep(fixed, template, cameras).eval(), (frame, state), strict=False)
        nodes = write_onnx(traced, list(given), list(before), 18, path)
        exporting, megabytes = time.process_time() - begin, path.stat().st_size / 1e6
        del traced
        expected, torch_s = timed(eager, given, repeats)
        found, onnx_s = timed(OnnxProgram(path), given, repeats)
    if pairing is not None:
        expected, found = (
            told_objects(paired(pairing, template, second, told)[0]) for told in (expected, found)
        )
    objects, known, close, largest = apart(expected, found)
    inputs = sum(value.numel() * value.element_size() for value in state.values())
    return {
        "size": [height, width],
        "slots": fixed.slots or 0,
        "nodes": nodes,
        "megabytes": round(megabytes, 1),
        "state_megabytes": round(inputs / 1e6, 2),
        "objects": objects,
        "same": known,
        "within_mm": close,
        "largest": largest,
        "torch_s": round(torch_s, 3),
        "onnxruntime_s": round(onnx_s, 3),
        "exporting_s": round(exporting, 1),
    }


def main(arguments: list[str] | None = None) -> list[dict[str, object]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--size", nargs=2, type=int, help="height and width in the place of the recipe's")
    parser.add_argument("--repeats", type=int, default=1, help="the least time counts")
    parser.add_argument("--output", type=Path, help="file to append to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = options.output.read_text().splitlines() if options.output and options.output.exists() else []
    rows = [json.loads(line) for line in lines]
    for recipe in options.recipes:
        if recipe in {row["recipe"] for row in rows}:
            continue
        row: dict[str, object] = {"recipe": recipe}
        try:
            row |= measure(recipe, tuple(options.size) if options.size else None, options.repeats)
        except SynclError as error:
            row["refused"] = str(error)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.output is not None:
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return rows


if __name__ == "__main__":
    main()
