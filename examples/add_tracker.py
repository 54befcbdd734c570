"""A tracker of your own: queries go on as they are, move at constant velocity, and end after some misses.

    python examples/add_tracker.py world runs/coasting

trains it on the scenes of `world` (any nuScenes-format folder), tracks the validation scenes and writes
`results.json`. Letters: B streams, Q queries, R rows that go on.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from syncl.checkpoints.model_file import load_model
from syncl.data.nuscenes.index import open_nuscenes
from syncl.detectors import Detector
from syncl.recipes import Recipe
from syncl.recipes.synthetic_trackers import mutr3d_petr_synthetic
from syncl.runs.track.run import track_to_file
from syncl.runs.train.run import train_recipe
from syncl.structures import Objects, Predictions, Queries
from syncl.trackers import Tracker, TrackState
from syncl.trackers.forecasts import Reasoned
from syncl.trackers.rows import ranked_rows, take_rows, with_front_rows


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

    def conclude(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        reasoned: Reasoned | None = None,
    ) -> tuple[Objects, TrackState]:
        scores, labels = predictions.logits[-1].sigmoid().max(-1)
        strong = (scores >= self.config.birth_score) & queries.valid
        # Object queries come first, track queries behind them, in the order of the state's rows.
        identities = with_front_rows(state.identities, queries.object_count, -1)
        misses = with_front_rows(state.misses, queries.object_count, 0)

        born = strong & (identities < 0)
        number = state.next_identity[:, None] + born.cumsum(1) - 1
        identities = torch.where(born, number, identities)
        misses = torch.where(strong, 0, misses + 1)
        alive = queries.valid & (identities >= 0) & (misses < self.config.miss_tolerance)

        boxes = self.detector.boxes(predictions.codes[-1])
        objects = Objects(boxes, labels, scores, identities, alive & strong)
        state = replace(state, next_identity=state.next_identity + born.sum(1))
        return objects, self._carried(state, queries, predictions, identities, misses, alive)

    def carry_supervised(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        identities: Tensor,
        present: Tensor,
        reasoned: Reasoned | None = None,
    ) -> TrackState:
        alive = (identities >= 0) & queries.valid
        return self._carried(state, queries, predictions, identities, torch.zeros_like(identities), alive)

    def _carried(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        identities: Tensor,
        misses: Tensor,
        alive: Tensor,
    ) -> TrackState:
        """The state with only the rows that go on; shorter streams are padded with dead rows."""
        scores = predictions.logits[-1].detach().sigmoid().amax(-1)
        rows = ranked_rows(alive, scores, min(int(alive.sum(1).max()), self.config.max_tracks))
        code, kept = take_rows(predictions.codes[-1], rows), take_rows(alive, rows)
        return replace(
            state,
            embeddings=take_rows(predictions.embeddings[-1], rows),
            positions=take_rows(queries.positions, rows),
            references=code[..., :3].detach(),
            velocities=code[..., 8:10].detach(),
            identities=take_rows(identities, rows).masked_fill(~kept, -1),
            misses=take_rows(misses, rows),
            alive=kept,
            # No memory bank: one empty list of slots for each row.
            memory=state.memory.new_zeros(*rows.shape, 0, self.detector.dim),
            memory_valid=state.memory_valid.new_zeros(*rows.shape, 0),
            save_countdown=torch.zeros_like(rows),
            log_sizes=code[..., 3:6].detach() if self.detector.carries_sizes else None,
        )


# --8<-- [end:tracker]


# --8<-- [start:recipe]
def coasting() -> Recipe:
    """The small PETR with this tracker in the place of MUTR3D."""
    base = mutr3d_petr_synthetic()
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
    track_to_file(model, index, index.split_scenes("mini_val" if "mini" in version else "val"), results)
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
