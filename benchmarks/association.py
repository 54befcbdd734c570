"""What an association costs: 300 tracks and 300 detections, on one core.

    python benchmarks/association.py [--tracks 300] [--rounds 20]

Times are CPU time of one thread, the median of the rounds, all in one run, beside the pairing of the greedy
centre tracker. What nobody has trained is sure of no pair, which is the hardest for DQTrack's assignment.

DQTrack's decoupling has a line of its own, since no track takes part in it: it is the last layer of the
network, a transformer layer over a frame's detections, 600 rows here: a billion floating-point operations,
beside 2,183 billion of PETRv2's pass at 320x800. Distances are also put through their module layer by layer,
as published.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from syncl.trackers import DqTrackConfig
from syncl.trackers.by_detection import NoDetector
from syncl.trackers.cc_3dt import AssociationConfig
from syncl.trackers.cc_3dt.association import Detected, Known, affinity, assign, suppressed
from syncl.trackers.dqtrack import DqTrack
from syncl.trackers.dqtrack.following import allowed
from syncl.trackers.dqtrack.pairing import pair
from syncl.trackers.dqtrack.query_tracks import Detections, QueryTracks
from syncl.trackers.greedy.pairing import pair_greedily


def cost_ms(work: Callable[[], object], rounds: int) -> float:
    """Median CPU time of a call, after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1000 * statistics.median(times)


def scene(count: int, channels: int) -> tuple[Detected, Known, torch.Tensor]:
    """Boxes spread over a map, and tracks a little aside; all of one class."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    boxes = torch.cat([50 * drawn(count, 2), drawn(count, 5)], 1).double()
    aside = boxes + 0.3 * drawn(count, 7)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([1500.0, 800.0])
    looks = drawn(count, channels)
    labels = torch.zeros(count, dtype=torch.int64)
    detected = Detected(
        boxes,
        drawn(count, 3).double(),
        torch.rand(count, generator=generator),
        torch.rand(count, generator=generator),
        labels,
        torch.arange(count) % 6,
        torch.cat([corner, corner + 60], 1),
        looks,
    )
    still = torch.zeros(count, 3, dtype=torch.float64)
    known = Known(aside, aside, still + 0.1, still, labels, looks + 0.3 * drawn(count, channels))
    return detected, known, torch.arange(count)


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    count, rounds = options.tracks, options.rounds
    detected, known, names = scene(count, 256)
    config = AssociationConfig()
    distance = np.linalg.norm(detected.boxes[:, None, :2].numpy() - known.boxes[None, :, :2].numpy(), axis=-1)
    near = distance <= 2.5

    def cc_3dt() -> object:
        seen = detected.rows(suppressed(detected, config))
        return assign(affinity(seen, known, config), names, seen.scores, config)

    nobody = NoDetector()
    nobody.dim = detected.embeddings.shape[1]
    tracker = DqTrack(nobody, DqTrackConfig()).eval()
    module, number = tracker.association, torch.arange(count)
    seen = Detections(
        detected.embeddings,
        torch.cat([detected.boxes, detected.velocities[:, :2]], 1).float(),
        0.3 + 0.7 * detected.scores,
        detected.labels,
        detected.boxes[:, :2],
        detected.velocities[:, :2],
    )
    tracks = QueryTracks(
        number, known.embeddings, known.boxes[:, :2], detected.velocities[:, :2], known.labels, number, number
    )
    objects, _ = module.decouple(seen.embeddings)
    elapsed_s = torch.tensor(0.5, dtype=torch.float64)

    def affinities() -> torch.Tensor:
        return tracker.logits(objects, seen.places, tracks, elapsed_s).softmax(1)

    def dqtrack() -> object:
        looks = affinities()
        return pair(
            looks.double().numpy(),
            allowed(seen, tracks, elapsed_s, looks, tracker.config, tracker.gates_m).numpy(),
        )

    def followed() -> object:
        compared = tracker.compared(seen, tracks, elapsed_s)
        rows = tracker.followed(tracks, seen, elapsed_s, count, compared).rows
        return tracker.remembered(tracks.embeddings, compared.embeddings, rows)

    def layer_by_layer() -> object:
        apart = torch.cdist(seen.places, tracks.places).float()[..., None]
        embedded = module.distance_branch(module.distance_embedding(apart))
        fused = objects[:, None] * known.embeddings + embedded
        return module.affinity(fused)

    work: dict[str, Callable[[], object]] = {
        "greedy: pairs": lambda: pair_greedily(distance, near),
        "CC-3DT: doubles, affinity, pairs": cc_3dt,
        "DQTrack: affinity": affinities,
        "DQTrack: affinity, gates, pairs": dqtrack,
        "DQTrack: decoupling": lambda: module.decouple(detected.embeddings),
        "DQTrack: all behind the detector": followed,
        "DQTrack: affinity, layer by layer": layer_by_layer,
    }
    times = {name: cost_ms(call, rounds if "layer by" not in name else 3) for name, call in work.items()}
    print(f"{count} tracks x {count} detections, CPU ms on one thread")
    for name, taken in times.items():
        print(f"  {name:<36}{taken:9.2f} ms {taken / times['greedy: pairs']:8.1f} x greedy")
    ratio = times["DQTrack: affinity, layer by layer"] / times["DQTrack: affinity"]
    print(f"  DQTrack's affinity by its cheap form: {ratio:.0f} times less than layer by layer")


if __name__ == "__main__":
    main()
