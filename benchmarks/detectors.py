"""Full-size detectors: CPU seconds, frames a second and peak memory of a forward pass, against the originals.

    python benchmarks/detectors.py                          # every detector recipe, one pass each
    python benchmarks/detectors.py streampetr_r50_256x704 --passes 3

A pass is everything from images to boxes of one frame of six cameras: normalising, backbone, neck, head,
memory. PETRv2's frame has past images as in its recipe, twelve in all, as the original's. Each recipe runs in
a process of its own, so that peak memory (resident, weights and Python included) is its own. Times are CPU
seconds of the process, which other load on the machine disturbs least.

The originals' figures are those of the project's notes, measured by running the original code on CPU with
default weights: CPU seconds for a frame. Where only parts were measured they are added, and `how` says so.
The notes have no memory figures of the originals, and no honest peer for them can be built here: their code
does not install, and another implementation's memory would say nothing of theirs.

With CUDA the same passes are timed there in float32 and bfloat16, eager and compiled.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace

DETECTORS = (
    "streampetr_r50_256x704",
    "streampetr_r50_256x704_q428",
    "petr_v99_320x800",
    "petr_v99_320x800_q500",
    "petrv2_v99_320x800",
    "streampetr_v99_320x800",
    "detr3d_r101_900x1600",
    "petr_v99_640x1600",
    "petr_v99_640x1600_q500",
    "petrv2_v99_640x1600",
    "streampetr_v99_640x1600",
    "bevformer_r50_450x800",
    "bevformer_r101_720x1280",
    "bevformer_r101_900x1600",
)


@dataclass(frozen=True)
class Original:
    """CPU seconds of the original for a frame, and where the figure is from."""

    cpu_s: float
    how: str


ORIGINALS = {
    "streampetr_r50_256x704": Original(16.0, "R50 + CP-FPN 7.6, head 8.4"),
    "streampetr_r50_256x704_q428": Original(11.0, "R50 + CP-FPN 7.6, head 3.4 (the fastest of 3.4 to 6.3)"),
    "petr_v99_320x800": Original(21.5, "PF-Track's, 500 queries: V2-99 19, head 2.5 (of 2.5 to 4.5)"),
    "petr_v99_320x800_q500": Original(21.5, "V2-99 + neck 19, head 2.5 (the fastest of 2.5 to 4.5)"),
    "petrv2_v99_320x800": Original(43.0, "twelve images, twice PETR's 21.5; not measured itself"),
    "streampetr_v99_320x800": Original(27.4, "V2-99 + neck 19, head 8.4 at the smaller 256x704"),
    "detr3d_r101_900x1600": Original(112.4, "two threads: 9.2 s wall an image of 928x1600, head 1.0 s"),
    "petr_v99_640x1600": Original(89.0, "PF-Track's PETR with 500 queries: V2-99 80, head 9"),
    "petr_v99_640x1600_q500": Original(89.0, "V2-99 + neck 80, head 9"),
    "petrv2_v99_640x1600": Original(178.0, "twelve images, twice PETR's 89; not measured itself"),
    "bevformer_r101_900x1600": Original(158.4, "head 48.0, R101 110.4 as DETR3D's; not measured together"),
    "streampetr_v99_640x1600": Original(89.0, "V2-99 + neck 80, PETR's head 9; not measured itself"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(DETECTORS), help="names of detector recipes")
    parser.add_argument("--passes", type=int, default=1, help="timed passes; the fastest counts")
    parser.add_argument("--warm-up", type=int, default=0, help="passes before that")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU that is there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments)))
        return
    for name in arguments.recipes:
        options = [f"--passes={arguments.passes}", f"--warm-up={arguments.warm_up}"]
        options += [f"--threads={arguments.threads}", *(["--cpu"] if arguments.cpu else [])]
        done = subprocess.run(
            [sys.executable, __file__, "--child", name, *options], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{name}: failed\n{done.stderr}", flush=True)
            continue
        report(name, json.loads(done.stdout.splitlines()[-1]))


def report(name: str, rows: list[dict[str, float | str]]) -> None:
    for row in rows:
        line = (
            f"{name:<30}{row['what']:<16}{row['cpu_s']:>8.1f} CPU s{row['wall_s']:>8.2f} s"
            f"{1 / float(row['wall_s']):>8.2f} frames/s{row['memory_gb']:>7.2f} GB"
        )
        original = ORIGINALS.get(name)
        if original is not None and row["what"] == "cpu fp32":
            ratio = float(row["cpu_s"]) / original.cpu_s
            line += f"   original {original.cpu_s:.1f} CPU s, ratio {ratio:.2f} ({original.how})"
        print(line, flush=True)


def measure(name: str, arguments: argparse.Namespace) -> list[dict[str, float | str]]:
    import torch

    from syncl.recipes import find_recipe

    torch.set_num_threads(arguments.threads)
    recipe = find_recipe(name)
    torch.manual_seed(0)
    detector = recipe.model.build().detector.eval()
    height, width = recipe.model.input.image_size
    frames = [make_frame(height, width, 0.5 * index) for index in range(2)]
    if recipe.model.input.past is not None:
        frames = [
            replace(frame, past=make_frame(height, width, float(frame.timestamp_s) - 1.25))
            for frame in frames
        ]
    if arguments.cpu or not torch.cuda.is_available():
        return [timed(detector, frames, "cpu fp32", arguments)]
    rows = []
    frames = [frame.to("cuda") for frame in frames]
    detector = detector.cuda().to(memory_format=torch.channels_last)
    for compiled in (False, True):
        if compiled:
            detector.image_encoder.compile()
        for half in (False, True):
            what = f"gpu {'bf16' if half else 'fp32'} {'compiled' if compiled else 'eager'}"
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                rows.append(timed(detector, frames, what, arguments))
    return rows


def timed(detector, frames, what, arguments) -> dict[str, float | str]:  # type: ignore[no-untyped-def]
    import torch

    gpu = frames[0].images.is_cuda
    passes, warm_up = (20, 5) if gpu else (arguments.passes, arguments.warm_up)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    best_cpu = best_wall = float("inf")
    with torch.inference_mode():
        for index in range(warm_up + passes):
            # A detector with memory starts anew in every pass: it costs the same, full or empty.
            memory = detector.initial_memory(1)
            cpu, wall = time.process_time(), time.perf_counter()
            frame = frames[index % len(frames)]
            features = detector.encode(frame, memory)
            (predictions,) = detector.decode(detector.initial_queries(features), features)
            detector.remember(memory, frame, features, predictions)
            if gpu:
                torch.cuda.synchronize()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if index >= warm_up:
                best_cpu, best_wall = min(best_cpu, cpu), min(best_wall, wall)
    peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else None
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    return {"what": what, "cpu_s": best_cpu, "wall_s": best_wall, "memory_gb": peak}


def make_frame(height: int, width: int, time_s: float):  # type: ignore[no-untyped-def]
    """Six cameras around a vehicle, looking at noise."""
    import torch

    from syncl.structures import CameraRig, Frame

    cameras = 6
    angles = torch.arange(cameras, dtype=torch.float64) * (torch.pi / 3)
    extrinsics = torch.zeros(1, cameras, 4, 4, dtype=torch.float64)
    extrinsics[..., 0, 0], extrinsics[..., 0, 1] = angles.sin(), -angles.cos()
    extrinsics[..., 1, 2], extrinsics[..., 1, 3], extrinsics[..., 3, 3] = -1, 1.5, 1
    extrinsics[..., 2, 0], extrinsics[..., 2, 1] = angles.cos(), angles.sin()
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(1, cameras, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = 0.8 * width
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = width / 2, height / 2
    pose = torch.eye(4, dtype=torch.float64)[None]
    pose[:, 0, 3] = 5 * time_s
    return Frame(
        torch.randint(0, 256, (1, cameras, 3, height, width), dtype=torch.uint8),
        CameraRig(tuple(f"CAMERA_{index}" for index in range(cameras)), intrinsics, extrinsics),
        torch.ones(1, cameras, dtype=torch.bool),
        torch.tensor([height, width]).expand(1, cameras, 2),
        pose,
        torch.tensor([time_s], dtype=torch.float64),
        ("scene",),
        (f"sample at {time_s} s",),
    )


if __name__ == "__main__":
    main()
