"""Lift and splat at full size: sums over sorted points against adding the whole volume, in one run.

    python benchmarks/bev_pooling.py

Six cameras placed as nuScenes' are, the sizes of `bevdepth_r50_256x704` (59 depths of 16 x 44 cells, 64
channels, 128 x 128 cells). Both forms run one after the other in processes of their own, on one thread, with
the same inputs; what they give must agree, gradients too. Ours sorts points by their cells and reads contexts
from the feature map; the other forms context times probability for every point and adds it to its cell
(`index_add_`), as plain PyTorch versions of BEVDepth do. Finding out which point falls where is part of both.
Times are CPU seconds, memory is the most that was resident beyond what was before the first pass.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FORMS = ("scattered", "sorted")
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--child", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.output)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = {form: run(form, Path(folder) / form) for form in FORMS}
        compare(*(Path(folder) / form for form in FORMS))
    for what in ("forward_ms", "training_ms", "memory_mb"):
        print(f"{what}: sorted is {rows['sorted'][what] / rows['scattered'][what]:.2f} of scattered")


def run(form: str, output: Path) -> dict[str, float]:
    options = ["--child", form, "--output", str(output)]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{form:<10}{row['forward_ms']:>8.0f} CPU ms forward{row['training_ms']:>8.0f} with backward"
        f"{row['memory_mb']:>8.0f} MB",
        flush=True,
    )
    return row


def compare(theirs: Path, ours: Path) -> None:
    import torch

    for name, golden in torch.load(theirs).items():
        error = float((torch.load(ours)[name] - golden).norm() / golden.norm())
        if error > 1e-5:
            sys.exit(f"{name}: the forms differ by {error:.1e}")


def measure(form: str, output: Path) -> dict[str, float]:
    import torch

    from syncl.detectors.bevdepth.view_transform import lift_points, sort_points, splat
    from syncl.recipes import find_recipe

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = find_recipe("bevdepth_r50_256x704").model.detector
    grid, depths = config.grid, torch.arange(*config.depths_m)
    context = torch.randn(1, 6, config.context, 16, 44, requires_grad=True)
    logits = torch.randn(1, 6, len(depths), 16, 44, requires_grad=True)
    valid = torch.ones(1, 6, dtype=torch.bool)
    wanted = torch.randn(1, config.context, *grid.shape)
    points = lift_points(_rig(), (256, 704), (16, 44), depths)

    def scattered(context, probabilities):
        low = points.new_tensor([grid.low_x, grid.low_y, grid.low_z])
        size = points.new_tensor([grid.cell_m, grid.cell_m, grid.high_z - grid.low_z])
        x, y, z = ((points - low) / size).trunc().long().unbind(-1)
        inside = (x >= 0) & (x < grid.shape[1]) & (y >= 0) & (y < grid.shape[0]) & (z == 0)
        volume = (context[:, :, None] * probabilities[:, :, :, None]).movedim(3, -1)
        cells = (y * grid.shape[1] + x)[inside]
        view = context.new_zeros(grid.cells, config.context).index_add(0, cells, volume[inside])
        return view.t().view(1, -1, *grid.shape)

    def in_order(context, probabilities):
        return splat(context, probabilities, sort_points(points, valid, grid), grid)

    pool = scattered if form == "scattered" else in_order

    def forward():
        with torch.no_grad():
            return pool(context, logits.softmax(2))

    def training():
        context.grad = logits.grad = None
        (pool(context, logits.softmax(2)) * wanted).sum().backward()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = {"forward_ms": _cpu_ms(forward), "training_ms": _cpu_ms(training)}
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    torch.save({"view": forward(), "context": context.grad, "logits": logits.grad}, output)
    return spent | {"memory_mb": memory}


def _cpu_ms(work) -> float:
    """The least of several rounds, after one to warm up."""
    work()
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        spent.append(1000 * (time.process_time() - start))
    return min(spent)


def _rig():
    """[1, 6, 4, 4] projections of cameras in a ring, 1.5 m above the ground."""
    import torch

    angles = torch.arange(6, dtype=torch.float64) * (torch.pi / 3)
    camera = torch.zeros(6, 4, 4, dtype=torch.float64)
    camera[:, 0, 0], camera[:, 0, 1] = angles.sin(), -angles.cos()
    camera[:, 1, 2], camera[:, 1, 3], camera[:, 3, 3] = -1, 1.5, 1
    camera[:, 2, 0], camera[:, 2, 1] = angles.cos(), angles.sin()
    intrinsics = torch.eye(4, dtype=torch.float64)
    intrinsics[0, 0] = intrinsics[1, 1] = 557.0
    intrinsics[0, 2], intrinsics[1, 2] = 352.0, 128.0
    return (intrinsics @ camera)[None]


if __name__ == "__main__":
    main()
