"""A training strategy of your own: what is near counts more than what is far.

    python examples/add_strategy.py world runs/near-first

trains MUTR3D with it on the scenes of `world` (any nuScenes-format folder), tracks the validation scenes and
writes `results.json`. Letters: L decoder layers, B streams, Q queries.
"""

# --8<-- [start:imports]
import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from syncl.checkpoints.model_file import load_model
from syncl.data.nuscenes.index import open_nuscenes
from syncl.geometry.boxes import encode_boxes
from syncl.recipes import Recipe
from syncl.recipes.synthetic import TRACKER_LOSS
from syncl.recipes.synthetic_trackers import small_tracker
from syncl.runs.track.reports import Reports
from syncl.runs.track.run import track_to_file
from syncl.runs.train.run import train_recipe
from syncl.structures import Annotations, Outcome, Predictions
from syncl.trackers import Decoded
from syncl.training.assignment import Assignment, CostConfig
from syncl.training.losses import LossConfig, mean_over_processes, sigmoid_focal_loss
from syncl.training.strategies import Baseline, BaselineConfig
from syncl.training.strategies.syncl.hybrid_matching import Candidates
from syncl.training.strategies.syncl.strategy import Filter, SynCL, SynclConfig

# --8<-- [end:imports]


# --8<-- [start:config]
@dataclass(frozen=True)
class NearFirstConfig:
    """The baseline with losses weighted by distance.

    Attributes:
        half_m: distance from the vehicle at which a query counts half, metres.
        cost: matching cost.
        loss: loss weights.
    """

    half_m: float = 20.0
    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def build(self, dim: int) -> "NearFirst":
        return NearFirst(self)


# --8<-- [end:config]


# --8<-- [start:strategy]
class NearFirst(Baseline):
    """Assigns as tracking by attention does; only the losses differ."""

    def __init__(self, config: NearFirstConfig) -> None:
        super().__init__(BaselineConfig(config.cost, config.loss))
        self.half_m = config.half_m

    def forward(self, decoded: Decoded, annotations: Annotations) -> Outcome:
        assignment, _ = self.assign(decoded, annotations)
        losses = self.losses(decoded.standard, assignment, annotations)
        return Outcome(losses, self.identities(decoded, assignment, annotations), assignment.targets)

    def losses(
        self, predictions: Predictions, assignment: Assignment, annotations: Annotations
    ) -> dict[str, Tensor]:
        """Focal and L1 loss of all layers, each row weighted by where its query looked."""
        config = self.config.loss
        weight = self.half_m / (self.half_m + predictions.references[..., :2].norm(dim=-1))
        positive = assignment.targets >= 0
        total = mean_over_processes((weight * positive).sum((1, 2))).clamp(min=1)
        if not annotations.labels.shape[1]:
            wanted = torch.zeros_like(predictions.logits)
            distance = predictions.codes.sum(-1) * 0
        else:
            index = assignment.targets.clamp(min=0)
            labels = annotations.labels.clamp(min=0).expand(len(index), -1, -1).gather(2, index)
            wanted = functional.one_hot(labels, predictions.logits.shape[-1]) * positive[..., None]
            codes = encode_boxes(annotations.boxes).expand(len(index), -1, -1, -1)
            goal = codes.gather(2, index[..., None].expand(-1, -1, -1, codes.shape[-1]))
            goal = torch.where(positive[..., None], goal, predictions.codes)
            code_weights = goal.new_tensor(config.code_weights)
            distance = ((predictions.codes - goal).abs() * code_weights).sum(-1)
        focal = sigmoid_focal_loss(predictions.logits, wanted.float(), config.alpha, config.gamma).sum(-1)
        focal = (focal * weight * assignment.supervised).sum((1, 2)) / total
        box = (distance * weight * positive).sum((1, 2)) / total
        return {"class": config.classification * focal.sum(), "box": config.box * box.sum()}


# --8<-- [end:strategy]


# --8<-- [start:variant]
@dataclass(frozen=True)
class CheapShareConfig(SynclConfig):
    """SynCL with another filter.

    Attributes:
        filter: none of SynCL's own.
        share: of an object's candidates, which stay, those of the lowest costs.
    """

    filter: Filter = "none"
    share: float = 0.5

    def build(self, dim: int) -> "CheapShare":
        self.check()
        return CheapShare(self, dim)


class CheapShare(SynCL):
    """Everything is SynCL's but which pairs of queries and objects stay."""

    syncl: CheapShareConfig

    def reliable_pairs(
        self, predictions: Predictions, annotations: Annotations, takes_part: Tensor
    ) -> Candidates:
        candidates = super().reliable_pairs(predictions, annotations, takes_part)  # costs [L, B, M, K]
        kept = max(1, round(self.syncl.share * candidates.costs.shape[-1]))
        limits = candidates.costs.sort(-1).values[..., kept - 1 : kept]
        return candidates.keep(candidates.costs <= limits)


# --8<-- [end:variant]


# --8<-- [start:recipe]
def near_first() -> Recipe:
    """The small MUTR3D on PETR, trained with this strategy."""
    base = small_tracker("mutr3d", "petr")
    return replace(
        base,
        name="mutr3d_petr_synthetic_near-first",
        summary=f"{base.summary}, near objects first",
        training=replace(base.training, strategy=NearFirstConfig(loss=TRACKER_LOSS)),
    )


def cheap_share() -> Recipe:
    """The small MUTR3D on PETR, trained with the variant of SynCL, its own costs and losses."""
    base = small_tracker("mutr3d", "petr")
    own = base.strategies["syncl"].config
    config = CheapShareConfig(own.cost, own.loss, release_m=own.release_m)
    return replace(
        base,
        name="mutr3d_petr_synthetic_cheap-share",
        summary=f"{base.summary}, SynCL that keeps the cheap candidates",
        training=replace(base.training, strategy=config),
    )


# --8<-- [end:recipe]


# --8<-- [start:run]
def run(data: Path, output: Path, version: str = "v1.0-mini", changes: tuple[str, ...] = ()) -> Path:
    """Train, load the file again, track; the path of the results."""
    train_recipe(near_first(), data=data, version=version, output=output, changes=changes)
    # Nothing of a strategy is in a model file, so that no class of ours has to be named.
    model = load_model(output / "model.safetensors")
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
