"""What SynCL costs: a training step with it against the baseline's, and tracking with what it trained.

    python benchmarks/syncl_cost.py --part all --rounds 1 --threads 2

The peer is the same recipe without SynCL in the same run; the two take turns. Each measurement is a process
of its own, so that its peak memory is its own: weights, gradients, optimiser and activations of a clip of
three frames at the recipe's image size, with random images and objects. `step` is the whole step as the
recipe trains it; `decoder` is the same with the image features given, which is all that SynCL changes;
`inference` is a step of the tracker with the file that training with each writes (weights are fresh). Time on
a CPU is the process's, so that other programs disturb it less; on a GPU it is wall time, and memory is the
device's. One short step with small images comes before, so that nothing is measured that happens once.

Limits: time and peak memory of `step` at most 1.25 of the baseline's; inference 1.00.
"""

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The parent stays small: a child's peak memory begins with what its parent had.
    import torch

    from syncl.recipes.recipe import Recipe
    from syncl.structures import Annotations, Clip, Frame

PARTS = ("decoder", "step", "inference")
LIMITS = {"decoder": None, "step": 1.25, "inference": 1.0}


def make_frame(size: tuple[int, int], index: int, device: "torch.device") -> "Frame":
    """Random images from six cameras in a ring, on a vehicle that drives ahead."""
    import torch

    from syncl.structures import CameraRig, Frame

    height, width = size
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    extrinsics = torch.zeros(1, 6, 4, 4, dtype=torch.float64)
    extrinsics[0, :, 0, 0], extrinsics[0, :, 0, 1] = angles.sin(), -angles.cos()
    extrinsics[0, :, 1, 2], extrinsics[0, :, 1, 3], extrinsics[0, :, 3, 3] = -1, 1.6, 1
    extrinsics[0, :, 2, 0], extrinsics[0, :, 2, 1] = angles.cos(), angles.sin()
    intrinsics = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    pose = torch.eye(4, dtype=torch.float64)[None]
    pose[:, 0, 3] = 2.0 * index
    generator = torch.Generator().manual_seed(index)
    return Frame(
        images=torch.randint(0, 256, (1, 6, 3, height, width), generator=generator).to(torch.uint8),
        rig=CameraRig(tuple(map(str, range(6))), intrinsics.double().expand(1, 6, 3, 3), extrinsics),
        camera_valid=torch.ones(1, 6, dtype=torch.bool),
        content_size=torch.tensor([height, width]).expand(1, 6, 2),
        global_from_vehicle=pose,
        timestamp_s=torch.tensor([0.5 * index], dtype=torch.float64),
        scenes=("scene",),
        samples=(f"sample {index}",),
    ).to(device)


def make_annotations(objects: int, classes: int, device: "torch.device") -> "Annotations":
    """The same objects in each frame, so that from the second on all are persistent."""
    import torch

    from syncl.structures import Annotations, Trajectories

    generator = torch.Generator().manual_seed(1)
    boxes = torch.rand(1, objects, 9, generator=generator)
    boxes[..., :2] = (boxes[..., :2] - 0.5) * 90
    boxes[..., 3:6] = 1 + 3 * boxes[..., 3:6]
    known = torch.ones(1, objects, dtype=torch.bool)
    return Annotations(
        boxes,
        torch.randint(0, classes, (1, objects), generator=generator),
        torch.arange(objects)[None],
        known,
        Trajectories(boxes[:, :, None, :3].repeat(1, 1, 13, 1), known[..., None].repeat(1, 1, 13)),
    ).to(device)


def make_clip(recipe: "Recipe", size: tuple[int, int], objects: int, device: "torch.device") -> "Clip":
    from syncl.structures import Clip

    frames = tuple(make_frame(size, index + 1, device) for index in range(recipe.training.data.clip_length))
    classes = len(recipe.model.detector.classes)
    return Clip(frames, tuple(make_annotations(objects, classes, device) for _ in frames))


def find(options: argparse.Namespace, strategy: str) -> "Recipe":
    """The recipe with this strategy; other images or fewer decoder layers on request."""
    from syncl.recipes import find_recipe

    recipe = find_recipe(options.recipe if strategy == "baseline" else f"{options.recipe}_syncl")
    model = recipe.model
    if options.size is not None:
        seen = dataclasses.replace(model.input, image_size=tuple(options.size))
        model = dataclasses.replace(model, input=seen)
    if options.layers is not None:
        detector = dataclasses.replace(model.detector, layers=options.layers)
        model = dataclasses.replace(model, detector=detector)
    return dataclasses.replace(recipe, model=model)


def clock(device: "torch.device") -> float:
    import torch

    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_gib(device: "torch.device") -> float:
    import torch

    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated(device) / 2**30


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One measurement, in a process of its own."""
    import torch

    from syncl.checkpoints.model_file import save_model
    from syncl.deployment.exported import load
    from syncl.training.unroll import ClipTraining, UnrollConfig

    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    recipe = find(options, options.strategy)
    torch.manual_seed(0)
    tracker = recipe.model.build()
    if options.part == "inference":
        with TemporaryDirectory() as folder:
            module = ClipTraining(
                tracker, recipe.training.strategy.build(tracker.detector.dim), UnrollConfig()
            )
            save_model(Path(folder) / "model.safetensors", module.tracker.state_dict(), recipe.model)
            tracker = load(Path(folder) / "model.safetensors", device)
        state = tracker.initial_state()
        height, width = recipe.model.input.image_size
        tracker.step(make_frame((height // 4, width // 4), 1, device), state)
        _, state = tracker.step(make_frame((height, width), 1, device), state)
        started = clock(device)
        tracker.step(make_frame((height, width), 2, device), state)
        return {"seconds": clock(device) - started, "gib": peak_gib(device)}
    return measure_training(options, recipe, tracker.to(device), device)


def measure_training(options, recipe, tracker, device) -> dict[str, float]:  # type: ignore[no-untyped-def]
    import torch

    from syncl.training.optimiser import build_optimiser
    from syncl.training.unroll import ClipTraining

    torch.manual_seed(1)
    strategy = recipe.training.strategy.build(tracker.detector.dim)
    unroll = recipe.training.unroll
    if options.part == "decoder":
        unroll = dataclasses.replace(unroll, frozen=("detector.image_encoder",))
    module = ClipTraining(tracker, strategy, unroll).to(device)
    optimiser = build_optimiser(module, recipe.training.optimiser)
    height, width = recipe.model.input.image_size

    def step(clip: "Clip") -> dict[str, float]:
        if options.part == "decoder":
            with torch.no_grad():
                features = [tracker.detector.encode(frame) for frame in clip.frames]
            given = iter(features)
            tracker.detector.encode = lambda *_: next(given)
        encoding = 0.0
        encode = tracker.detector.encode

        def timed_encode(*arguments):  # type: ignore[no-untyped-def]
            nonlocal encoding
            before = clock(device)
            result = encode(*arguments)
            encoding += clock(device) - before
            return result

        tracker.detector.encode = timed_encode
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        started = clock(device)
        losses = module(clip)
        forward = clock(device) - started
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.training.optimiser.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        seconds = clock(device) - started
        del tracker.detector.encode
        return {"seconds": seconds, "forward": forward, "encode": encoding, "gib": peak_gib(device)}

    small = max(32, height // 5 // 32 * 32), max(32, width // 5 // 32 * 32)
    step(make_clip(recipe, small, options.objects, device))
    return step(make_clip(recipe, (height, width), options.objects, device))


def run_child(options: argparse.Namespace, part: str, strategy: str) -> dict[str, float]:
    arguments = ["--recipe", options.recipe, "--threads", str(options.threads), "--device", options.device]
    arguments += ["--objects", str(options.objects), "--part", part, "--strategy", strategy]
    if options.layers is not None:
        arguments += ["--layers", str(options.layers)]
    if options.size is not None:
        arguments += ["--size", *map(str, options.size)]
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="pf-track_petr_v99_320x800")
    parser.add_argument("--part", choices=("all", *PARTS), default="all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--objects", type=int, default=40, help="annotated objects a frame")
    parser.add_argument("--layers", type=int, help="decoder layers, where not the recipe's")
    parser.add_argument("--size", nargs=2, type=int, help="height and width, where not the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--strategy", choices=("baseline", "syncl"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.strategy is not None:
        print(json.dumps(measure(options)))
        return
    print(f"{options.recipe}, {options.device}, {options.threads} threads, {options.objects} objects a frame")
    for part in PARTS if options.part == "all" else (options.part,):
        found: dict[str, list[dict[str, float]]] = {"baseline": [], "syncl": []}
        for number in range(options.rounds):
            order = ("baseline", "syncl") if number % 2 == 0 else ("syncl", "baseline")
            for strategy in order:
                found[strategy].append(run_child(options, part, strategy))
                values = "  ".join(f"{name} {value:.2f}" for name, value in found[strategy][-1].items())
                print(f"  {part:<10}{strategy:<10}{values}", flush=True)
        middle = {
            (strategy, name): statistics.median(row[name] for row in rows)
            for strategy, rows in found.items()
            for name in ("seconds", "gib")
        }
        seconds = middle["syncl", "seconds"] / middle["baseline", "seconds"]
        memory = middle["syncl", "gib"] / middle["baseline", "gib"]
        limit = "" if LIMITS[part] is None else f" (limit {LIMITS[part]:.2f})"
        print(f"{part}: SynCL / baseline: time {seconds:.3f}, peak memory {memory:.3f}{limit}", flush=True)


if __name__ == "__main__":
    main()
