"""What ADA-Track's association takes in memory, tracking and training, on a CPU.

    python benchmarks/ada_track_memory.py [--detections 500] [--tracks 500] [--layers 6] [--hidden 256 2048]

Each way runs in a process of its own: one frame's association between all decoder layers of 256 channels, in
training with the backward pass. Printed is the process's peak above what it held before.
"""

import argparse
import multiprocessing
import resource
import sys

import torch

from syncl.trackers.ada_track.association import Associating, Association

DIM, HEADS = 256, 8


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def taken(detections: int, tracks: int, layers: int, hidden: int, training: bool) -> int:
    """Bytes that a frame's association adds to this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Association(layers, layers, DIM, HEADS, hidden, 0.0, hidden > DIM, False)
    states = torch.randn(1, detections + tracks, DIM, requires_grad=training)
    codes = torch.randn(1, detections + tracks, 10)
    alive, runs = torch.ones(1, tracks, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    before = peak_bytes()
    with torch.set_grad_enabled(training):
        association = Associating(network, detections, alive, runs, False, training)
        behind = states
        for layer in range(layers):
            behind = association(layer, behind, codes)
        if training:
            (behind.sum() + association.result().logits.sum()).backward()
    return peak_bytes() - before


def measured(*way: int | bool) -> int:
    """The same in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(taken, way)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detections", type=int, default=500)
    parser.add_argument("--tracks", type=int, default=500)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 2048], help="2048: gated, as on PETR")
    options = parser.parse_args()
    sizes = options.detections, options.tracks
    print(f"{sizes[0]} detections x {sizes[1]} tracks, {options.layers} layers of {DIM} channels, one frame")
    for hidden in options.hidden:
        for training in (False, True):
            found = measured(*sizes, options.layers, hidden, training)
            name = "training" if training else "tracking"
            print(f"  {hidden:>5} hidden channels, {name}: {found / 1e9:5.2f} GB", flush=True)


if __name__ == "__main__":
    main()
