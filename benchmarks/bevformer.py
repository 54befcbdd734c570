"""BEVFormer base without its backbone: CPU seconds and peak memory, against the original's padded form.

    python benchmarks/bevformer.py                 # both forms, base
    python benchmarks/bevformer.py --recipe bevformer_r50_450x800

One frame of six cameras placed as nuScenes' are, behind another frame: encoder with its history, decoder and
heads, on feature maps of noise. Both forms run one after the other in processes of their own, on one thread,
with the same weights and inputs; what they say must agree. Times are CPU seconds, which other load on the
machine disturbs least; memory is the most that was resident, weights and Python included.

The original's form is rebuilt here from its description. Every camera's queries are padded to the most cells
that any camera sees, all cameras are one batch, and attention samples each level by `grid_sample`, stacks the
samples of all levels and sums them by their weights. The project's notes have 48 CPU seconds and 7.6 GB for
the original code itself, on another machine.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

FORMS = ("padded", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="bevformer_r101_900x1600", help="whose sizes")
    parser.add_argument("--child", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.recipe, arguments.output)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = {form: run(form, arguments.recipe, Path(folder) / form) for form in FORMS}
        report(rows, *(Path(folder) / form for form in FORMS))


def run(form: str, recipe: str, output: Path) -> dict[str, float]:
    options = ["--child", form, "--recipe", recipe, "--output", str(output)]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{form:<8}{row['cpu_s']:>8.1f} CPU s{row['memory_gb']:>7.2f} GB", flush=True)
    return row


def report(rows: dict[str, dict[str, float]], padded: Path, ours: Path) -> None:
    import torch

    theirs, mine = torch.load(padded), torch.load(ours)
    error = max(float((mine[name] - theirs[name]).norm() / theirs[name].norm()) for name in theirs)
    for what, unit in (("cpu_s", "CPU time"), ("memory_gb", "memory")):
        print(f"{unit}: {rows['ours'][what] / rows['padded'][what]:.2f} of the padded form's")
    print(f"largest relative difference of view and predictions: {error:.1e}")


def measure(form: str, recipe: str, output: Path) -> dict[str, float]:
    import torch

    from syncl.detectors.bevformer import bev_encoder, bevformer
    from syncl.recipes import find_recipe

    torch.set_num_threads(1)
    if form == "padded":
        bev_encoder.deformable_attention = stacked_attention
        bevformer.deformable_attention = stacked_attention
        bev_encoder.SpatialCrossAttention.forward = padded_cross_attention
    torch.manual_seed(0)
    model = find_recipe(recipe).model
    strides = model.detector.image.build().strides
    detector = replace(model.detector, image=bare_encoder(len(strides))).build().eval()
    frames = [make_frame(model.input.image_size, strides, time_s) for time_s in (0.0, 0.5)]
    disturb(detector)
    with torch.inference_mode():
        view = torch.randn_like(detector.bev_encoder.bev_embedding.weight)[None]
        motion = bevformer.VehicleMotion.of(frames[0])
        memory = bevformer.BevMemory(view, motion.place, torch.tensor([True]))
        started = time.process_time()
        features = detector.encode(frames[1], memory)
        (predictions,) = detector.decode(detector.initial_queries(features), features)
        cpu_s = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    torch.save({"bev": features.bev, "codes": predictions.codes, "logits": predictions.logits}, output)
    return {"cpu_s": cpu_s, "memory_gb": peak}


def disturb(detector) -> None:  # type: ignore[no-untyped-def]
    """Let fresh attentions look here and there, as trained ones do."""
    import torch

    from syncl.layers.deformable_attention import DeformableAttention

    for module in detector.modules():
        if isinstance(module, DeformableAttention):
            torch.nn.init.normal_(module.sampling_offsets.weight, std=0.05)
            torch.nn.init.normal_(module.attention_weights.weight, std=0.05)


def stacked_attention(values, shapes, locations, weights):  # type: ignore[no-untyped-def]
    """The original's plain form of deformable attention."""
    import torch
    from torch.nn import functional

    streams, _, heads, channels = values.shape
    queries = locations.shape[1]
    grids = 2 * locations - 1
    samples = []
    levels = values.split([height * width for height, width in shapes], dim=1)
    for number, (level, (height, width)) in enumerate(zip(levels, shapes)):
        maps = level.flatten(2).transpose(1, 2).reshape(streams * heads, channels, height, width)
        grid = grids[:, :, :, number].transpose(1, 2).flatten(0, 1)
        samples.append(functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False))
    counted = weights.transpose(1, 2).reshape(streams * heads, 1, queries, -1)
    output = (torch.stack(samples, dim=-2).flatten(-2) * counted).sum(-1)
    return output.view(streams, heads * channels, queries).transpose(1, 2)


def padded_cross_attention(self, x, tokens, shapes, sight):  # type: ignore[no-untyped-def]
    """The original's spatial cross-attention: all cameras at once, padded; one stream."""
    attention, (streams, _, dim) = self.attention, x.shape
    assert streams == 1
    most, cameras = max(len(view.cells) for view in sight.views), tokens.shape[1]
    heights = sight.views[0].references.shape[1]
    queries = x.new_zeros(cameras, most, dim)
    references = x.new_zeros(cameras, most, heights, 2)
    for view in sight.views:
        queries[view.camera, : len(view.cells)] = x[0, view.cells]
        references[view.camera, : len(view.cells)] = view.references
    values = attention.values(tokens[0])
    repeated = references.repeat(1, 1, attention.points // heights, 1)
    locations = repeated[:, :, None, None] + attention.offsets(queries, shapes)
    logits = attention.logits(queries)
    weights = logits.flatten(3).softmax(-1).view_as(logits)
    attended = stacked_attention(values, shapes, locations, weights)
    slots = x.new_zeros(x.shape)
    for view in sight.views:
        slots[0, view.cells] += attended[view.camera, : len(view.cells)]
    slots = slots / sight.cameras.clamp(min=1)[..., None]
    return attention.output_projection(slots)


def bare_encoder(levels: int):  # type: ignore[no-untyped-def]
    """An image encoder that is never run, of so many levels."""
    from syncl.backbones import FpnConfig, ResNetConfig
    from syncl.detectors import ImageEncoderConfig

    backbone = ResNetConfig(
        depth=None, blocks=(1, 1, 1, 1), stem_width=4, widths=(4, 4, 4, 4), out_stages=(1,)
    )
    return ImageEncoderConfig(backbone, FpnConfig(256, num_outs=levels), divisor=32)


def make_frame(size: tuple[int, int], strides: tuple[int, ...], time_s: float):  # type: ignore[no-untyped-def]
    """Six cameras placed as nuScenes' are, with feature maps of noise; the vehicle drives and turns."""
    import numpy as np
    import torch

    from syncl.data.synthetic.mounts import MOUNTS, intrinsics, vehicle_from_camera
    from syncl.structures import CameraRig, Frame

    height, width = size
    below, right = -height % 32 + height, -width % 32 + width
    turn = 0.1 * time_s
    pose = torch.eye(4, dtype=torch.float64)[None]
    pose[0, :2, :2] = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pose[0, 0, 3] = 8 * time_s
    matrices = [intrinsics(mount, width, height) for mount in MOUNTS]
    places = [np.linalg.inv(vehicle_from_camera(mount)) for mount in MOUNTS]
    generator = torch.Generator().manual_seed(round(10 * time_s))
    levels = tuple(
        torch.randn(1, len(MOUNTS), 256, -(-below // stride), -(-right // stride), generator=generator)
        for stride in strides
    )
    return Frame(
        torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8).expand(1, len(MOUNTS), 3, height, width),
        CameraRig(
            tuple(mount.channel for mount in MOUNTS),
            torch.from_numpy(np.stack(matrices))[None],
            torch.from_numpy(np.stack(places))[None],
        ),
        torch.ones(1, len(MOUNTS), dtype=torch.bool),
        torch.tensor([height, width]).expand(1, len(MOUNTS), 2),
        pose,
        torch.tensor([time_s], dtype=torch.float64),
        ("scene",),
        (f"sample at {time_s} s",),
        levels=levels,
    )


if __name__ == "__main__":
    main()
