"""All that is to be known of a GPU in one run of at most eight minutes.

    python benchmarks/gpu.py --output gpu.json
    python benchmarks/gpu.py --tiny --device cpu            # what the tests run

Every full-size tracker at 320 x 800 and at 640 x 1600, in float32 and bfloat16, eager, compiled and graphed:
milliseconds a step, frames a second, peak memory, share of the encoder. `compiled` is `syncl track
--compile`; `graphed` is the eager step of fixed slots, captured as one CUDA graph. Then the training step of
PF-Track on PETR with and without SynCL (as `benchmarks/syncl_cost.py` has it), how far every kind of detector
and tracker is from itself on the CPU, and the tests that need a device.
Weights are fresh and images noise: times do not depend on either, but for the number of tracks, which fixed
slots make the same. What does not fit into the time is named. The fastest come first, so that a slow device
still gets a table. Nothing here is a claim: this repository has not met a GPU yet.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from syncl.deployment.compiled import compiled
from syncl.deployment.step import TrackStep, template_of, told_frame, told_state
from syncl.errors import SynclError
from syncl.recipes import find_recipe
from syncl.recipes.listing import recipe_entries
from syncl.runs.profile.frame_costs import methods_of
from syncl.runs.profile.meters import Meter, clocks, metered
from syncl.structures import CameraRig, Frame
from syncl.trackers import Tracker
from syncl.trackers.inference import fold_norms, for_inference
from syncl.trackers.model import ModelConfig
from syncl_cost import measure as measured_training

SIZES = ((320, 800), (640, 1600))
TINY = ((32, 64),)
PRECISIONS = ("float32", "bfloat16")
WAYS = ("eager", "compiled", "graphed")
HERE = Path(__file__).parents[1]


def full_size() -> list[str]:
    """Every published model once: recipes differ in their images' size, which is set, and in training."""
    names = {entry.base for entry in recipe_entries()}
    left_out = ("synthetic", "one_stage", "argoverse2", "window")
    published = [name for name in names if not any(part in name for part in left_out)]
    return sorted(
        name
        for name in published
        if "640x1600" not in name or name.replace("640x1600", "320x800") not in names
    )


def resized(config: ModelConfig, size: tuple[int, int]) -> ModelConfig:
    seen = dataclasses.replace(config.input, image_size=size, past=None)
    return dataclasses.replace(config, input=seen)


def make_frame(size: tuple[int, int], number: int, device: torch.device) -> Frame:
    height, width = size
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    cameras = torch.zeros(1, 6, 4, 4, dtype=torch.float64)
    cameras[0, :, 0, 0], cameras[0, :, 0, 1] = angles.sin(), -angles.cos()
    cameras[0, :, 1, 2], cameras[0, :, 1, 3], cameras[0, :, 3, 3] = -1, 1.6, 1
    cameras[0, :, 2, 0], cameras[0, :, 2, 1] = angles.cos(), angles.sin()
    intrinsics = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[:, 0, 3] = 2.0 * number
    generator = torch.Generator().manual_seed(number)
    return Frame(
        images=torch.randint(0, 256, (1, 6, 3, height, width), generator=generator).to(torch.uint8),
        rig=CameraRig(tuple(map(str, range(6))), intrinsics.double().expand(1, 6, 3, 3), cameras),
        camera_valid=torch.ones(1, 6, dtype=torch.bool),
        content_size=torch.tensor([height, width]).expand(1, 6, 2),
        global_from_vehicle=pose,
        timestamp_s=torch.tensor([0.5 * number], dtype=torch.float64),
        scenes=("scene",),
        samples=(str(number),),
    ).to(device)


def wait(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def stepping(tracker: Tracker, size: tuple[int, int], device: torch.device) -> Iterator[Callable[[], None]]:
    """A step a frame, each to be called once, as drives go on."""
    state, number = tracker.initial_state(), 0
    while True:
        frame = make_frame(size, number, device)

        def step(frame: Frame = frame) -> None:
            nonlocal state
            _, state = tracker.step(frame, state)

        yield step
        number += 1


def graphed(tracker: Tracker, size: tuple[int, int], device: torch.device) -> Iterator[Callable[[], None]]:
    """The launch of a captured step, on inputs that stay where they are."""
    fixed = tracker.with_fixed_slots()
    fold_norms(fixed)
    frame = make_frame(size, 0, device)
    template = template_of(fixed, frame)
    step = TrackStep(fixed, template, frame.rig.names).eval()
    move = fixed.admit(frame, template)
    given = told_frame(frame, move, template, fixed.detector.precomputed), told_state(template)
    half = fixed.precision != torch.float32
    with torch.no_grad(), torch.autocast(device.type, fixed.precision, enabled=half, cache_enabled=False):
        aside = torch.cuda.Stream(device)
        with torch.cuda.stream(aside):
            step(*given)
        torch.cuda.current_stream(device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(*given)
    while True:
        yield graph.replay


def measure(
    config: ModelConfig, precision: str, way: str, frames: int, device: torch.device
) -> dict[str, float]:
    """Milliseconds, frames a second, peak memory and the encoder's share of a way to step."""
    torch.manual_seed(0)
    size = config.input.image_size
    tracker = for_inference(config.build().eval().to(device), precision)  # type: ignore[arg-type]
    if way == "eager":
        calls = stepping(tracker, size, device)
    elif way == "compiled":
        calls = stepping(compiled(tracker), size, device)
    else:
        calls = graphed(tracker, size, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(2):
        next(calls)()
    times = []
    for _ in range(frames):
        call = next(calls)
        begin = wait(device)
        call()
        times.append(wait(device) - begin)
    seconds = statistics.median(times)
    found = {"ms": 1e3 * seconds, "frames_a_second": 1 / seconds}
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    if way == "eager":
        meter = Meter(clocks(device))
        with metered(meter, methods_of(tracker)), meter.part("tracker"):
            next(calls)()
        costs = {part: cost["seconds"] for part, cost in meter.costs.items()}
        found["encoder_share"] = costs.get("encoder", 0.0) / sum(costs.values())
    return found


def inference(options: argparse.Namespace, device: torch.device, end: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    names = options.recipes or (["mutr3d_petr_synthetic"] if options.tiny else full_size())
    print(
        f"{'recipe':<44}{'size':>10} {'precision':>9} {'way':>9} {'ms':>8} {'fps':>7} {'GB':>6} "
        f"{'encoder':>8}"
    )
    cases = [
        (size, precision, way, name)
        for size in (TINY if options.tiny else SIZES)
        for way in options.ways
        for precision in reversed(PRECISIONS)
        for name in names
    ]
    for size, precision, way, name in cases:
        row: dict[str, object] = {"recipe": name, "size": size, "precision": precision, "way": way}
        rows.append(row)
        label = f"{name:<44}{size[0]:>5}x{size[1]:<4} {precision:>9} {way:>9}"
        if time.perf_counter() > end:
            row["left_out"] = "no time"
            print(f"{label}  no time left", flush=True)
            continue
        config = resized(find_recipe(name).model, size)
        if way == "graphed" and device.type != "cuda":
            row["left_out"] = "graphs are of GPUs"
            continue
        try:
            found = measure(config, precision, way, options.frames, device)
        except (SynclError, RuntimeError) as error:
            row["left_out"] = str(error)
            print(f"{label}  {str(error).splitlines()[0][:90]}", flush=True)
            continue
        row.update(found)
        memory, share = found.get("peak_gb"), found.get("encoder_share")
        print(
            f"{label} {found['ms']:8.1f} {found['frames_a_second']:7.1f} "
            f"{'' if memory is None else format(memory, '.2f'):>6} "
            f"{'' if share is None else format(share, '.0%'):>8}",
            flush=True,
        )
    return rows


def parity(device: torch.device, size: tuple[int, int]) -> dict[str, float]:
    """Largest difference of a code between this device and the CPU, of the small recipes, in float32."""
    found = {}
    for name in SMALL[:3] if size in TINY else SMALL:
        torch.manual_seed(0)
        config = resized(find_recipe(name).model, size)
        tracker = config.build().eval()
        codes = []
        for where in (torch.device("cpu"), device):
            placed = tracker.to(where)
            with torch.no_grad():
                decoded = placed.look(make_frame(size, 0, where), placed.initial_state())
            codes.append(decoded.standard.codes.cpu())
        found[name] = float((codes[0] - codes[1]).abs().max())
        print(f"{name:<44} largest difference of a box code from the CPU's {found[name]:.1e}", flush=True)
    return found


SMALL = (
    "mutr3d_petr_synthetic",
    "mutr3d_detr3d_synthetic",
    "mutr3d_streampetr_synthetic",
    "mutr3d_bevformer_synthetic",
    "pf-track_petrv2_synthetic",
    "star-track_petr_synthetic",
    "onetrack_petr_synthetic",
    "ada-track_petr_synthetic",
    "dqtrack_petr_synthetic",
    "cc-3dt_detr3d_synthetic",
    "bevdepth_synthetic",
    "dort_synthetic",
    "dort_detr3d_synthetic",
)
"""Every kind of detector and tracker; the first three are looked at where there is no device."""


def training(options: argparse.Namespace, end: float) -> dict[str, dict[str, object]]:
    """A training step's seconds and peak memory, with SynCL and without."""
    found: dict[str, dict[str, object]] = {}
    asked = argparse.Namespace(
        recipe="pf-track_petr_synthetic" if options.tiny else "pf-track_petr_v99_320x800",
        part="step",
        objects=3 if options.tiny else 40,
        layers=1 if options.tiny else None,
        size=TINY[0] if options.tiny else None,
        threads=torch.get_num_threads(),
        device=options.device,
    )
    for strategy in ("baseline", "syncl"):
        label = f"training step, {strategy}"
        if time.perf_counter() > end:
            found[strategy] = {"left_out": "no time"}
            print(f"{label}: no time left", flush=True)
            continue
        asked.strategy = strategy
        try:
            found[strategy] = dict(measured_training(asked))
        except RuntimeError as error:  # It may not fit into the device's memory.
            found[strategy] = {"left_out": str(error)}
        print(f"{label}: {json.dumps(found[strategy])}", flush=True)
    return found


def run(label: str, command: list[str], end: float) -> dict[str, object]:
    """Another program in what is left of the time, and the last it said."""
    left = end - time.perf_counter()
    if left < 1:
        print(f"{label}: no time left")
        return {"left_out": "no time"}
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        print(f"{label}: not done in {left:.0f} s")
        return {"left_out": f"not done in {left:.0f} s"}
    lines = (done.stdout + done.stderr).strip().splitlines()[-12:]
    print("\n".join([f"{label} (status {done.returncode})", *lines]), flush=True)
    return {"status": done.returncode, "said": lines}


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all together")
    parser.add_argument("--frames", type=int, default=8, help="timed a case")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--recipes", nargs="+", help="instead of all full-size ones")
    parser.add_argument("--tiny", action="store_true", help="a small recipe on images of 32 x 64")
    parser.add_argument("--output", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no GPU here: --device cpu --tiny shows that the script runs")
    device, begin = torch.device(options.device), time.perf_counter()
    end = begin + 60 * options.minutes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    # Two thirds for tracking, the rest for training and parity.
    found: dict[str, object] = {"device": name, "torch": torch.__version__}
    found["inference"] = inference(options, device, begin + 40 * options.minutes)
    found["device_against_cpu"] = parity(device, TINY[0] if options.tiny else (128, 352))
    found["training"] = training(options, end)
    if not options.tiny:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
        found["tests"] = run("tests on the device", tests, end)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=2) + "\n")
    return found


if __name__ == "__main__":
    main()
