"""A tracker of your own: queries go on as they are, move at constant velocity, and end after some misses.

    python examples/add_tracker.py world runs/coasting

trains it on the scenes of `world` (any nuScenes-format folder), tracks the validation scenes and writes
`results.json`. Letters: B streams, Q queries, R rows that go on.
"""

# --8<-- [start:imports]
import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from syncl.checkpoints.model_file import load_model
from syncl.data.nuscenes.index import open_nuscenes
from syncl.detectors import Detector
from syncl.recipes import Recipe
from syncl.recipes.synthetic_trackers import small_tracker
from syncl.runs.track.reports import Reports
from syncl.runs.track.run import track_to_file
from syncl.runs.train.run import train_recipe
from syncl.structures import Objects, Outcome
from syncl.trackers import Decoded, Tracker, TrackQueries, TrackState
from syncl.trackers.rows import carried_rows, take_rows, with_front_rows

# --8<-- [end:imports]


# --8<-- [start:config]
@dataclass(frozen=True)
class CoastingConfig:
    """Life cycle.

    Attributes:
        birth_score: a query at or above it becomes a track; a track below it has been missed.
        miss_tolerance: misses after which a track ends.
        max_tracks: most tracks carried on; the highest scores stay.
    """

    birth_score: float = 0.4
    miss_tolerance: int = 3
    max_tracks: int = 80

    def build(self, detector: Detector) -> "Coasting":
        return Coasting(detector, self)


# --8<-- [end:config]


# --8<-- [start:tracker]
class Coasting(Tracker):
    """Has no parameters. Moving tracks to the next frame is the base class's: velocity times elapsed time."""

    def __init__(self, detector: Detector, config: CoastingConfig) -> None:
        super().__init__()
        self.detector, self.config = detector, config

    def fixed_slots(self) -> int:
        return self.config.max_tracks

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        state, queries, codes = decoded.state, decoded.queries, decoded.standard.codes[-1]
        scores, labels = decoded.standard.logits[-1].sigmoid().max(-1)
        strong = (scores >= self.config.birth_score) & queries.valid

        born = strong & (queries.identities < 0)
        number = state.next_identity[:, None] + born.cumsum(1) - 1
        identities = torch.where(born, number, queries.identities)
        # Object queries come first, track queries behind them, in the order of the state's rows.
        misses = with_front_rows(state.misses, queries.object_count, 0)
        misses = torch.where(strong, 0, misses + 1)
        alive = queries.valid & (identities >= 0) & (misses < self.config.miss_tolerance)

        objects = Objects(self.detector.boxes(codes), labels, scores, identities, alive & strong)
        state = self._carried(decoded, identities, misses, alive)
        return objects, replace(state, next_identity=state.next_identity + born.sum(1))

    def carry(self, decoded: Decoded, outcome: Outcome, /) -> TrackState:
        alive = (outcome.identities >= 0) & decoded.queries.valid
        return self._carried(decoded, outcome.identities, torch.zeros_like(outcome.identities), alive)

    def _carried(self, decoded: Decoded, identities: Tensor, misses: Tensor, alive: Tensor) -> TrackState:
        """The state with only the rows that go on; shorter streams are padded with dead rows."""
        predictions, queries = decoded.standard, decoded.queries
        rows = carried_rows(alive, decoded.scores, self.config.max_tracks, self.slots)
        kept = take_rows(alive, rows)
        return replace(
            decoded.state,
            identities=take_rows(identities, rows).masked_fill(~kept, -1),
            misses=take_rows(misses, rows),
            alive=kept,
            queries=TrackQueries(
                embeddings=take_rows(predictions.embeddings[-1], rows),
                positions=take_rows(queries.positions, rows),
                codes=take_rows(predictions.codes[-1], rows).detach(),
            ),
        )


# --8<-- [end:tracker]


# --8<-- [start:recipe]
def coasting() -> Recipe:
    """The small PETR with this tracker in the place of MUTR3D."""
    base = small_tracker("mutr3d", "petr")
    return replace(
        base,
        name="coasting_petr_synthetic",
        summary="constant velocity on PETR, small, clips of three frames of the synthetic world",
        model=replace(base.model, tracker=CoastingConfig()),
    )


# --8<-- [end:recipe]


# --8<-- [start:run]
def run(data: Path, output: Path, version: str = "v1.0-mini", changes: tuple[str, ...] = ()) -> Path:
    """Train, load the file again, track; the path of the results."""
    train_recipe(coasting(), data=data, version=version, output=output, changes=changes)
    model = load_model(output / "model.safetensors", types=(CoastingConfig,))
    index = open_nuscenes(data, version)
    results = output / "results.json"
    track_to_file(
        model, index, index.split_scenes("mini_val" if "mini" in version else "val"), Reports(results)
    )
    return results


# --8<-- [end:run]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--set", nargs="*", default=[], help="such as training.steps=100")
    given = parser.parse_args(arguments)
    print(f"wrote {run(given.data, given.output, given.version, tuple(given.set))}")


if __name__ == "__main__":
    main()
