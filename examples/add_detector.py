"""A detector of your own: object queries on a grid over the ground, looking at the images where they stand.

    python examples/add_detector.py world runs/grid

trains it on the scenes of `world` (any nuScenes-format folder), tracks the validation scenes and writes
`results.json`. Letters: B streams, C cameras, Q queries, L decoder layers, D channels, K classes.
"""

# --8<-- [start:imports]
import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from syncl.checkpoints.model_file import load_model
from syncl.data.nuscenes.index import open_nuscenes
from syncl.detectors import Detector, Features, ImageEncoderConfig
from syncl.detectors.interaction import Interaction, interact
from syncl.detectors.passed import DetectorMemory
from syncl.detectors.reference_range import NUSCENES_RANGE, PointRange, ReferenceRange
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import (
    STANDARD,
    DecoderLayer,
    Groups,
    apply_to_groups,
    repeat_groups,
    split_groups,
)
from syncl.layers.numerics import inverse_sigmoid, mlp, prior_bias
from syncl.layers.sampling import tables_of, taps_of, weighted_samples
from syncl.recipes import Recipe
from syncl.recipes.synthetic import CLASSES, DIM, IMAGE_SIZE, image_encoder
from syncl.runs.track.reports import Reports
from syncl.runs.track.run import track_to_file
from syncl.runs.train.run import train_recipe
from syncl.structures import Frame, Predictions, Queries, object_queries
from syncl.trackers import Mutr3dConfig
from syncl.trackers.model import InputConfig, ModelConfig
from syncl.training.config import DataConfig, TrainingConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

# --8<-- [end:imports]


# --8<-- [start:config]
@dataclass(frozen=True)
class GroundGridConfig:
    """Sizes of the detector.

    Attributes:
        image: backbone and neck.
        classes: class names in logit order.
        cells: object queries along x and along y.
        dim: channels of queries and features.
        layers: decoder layers.
        height_m: height of the grid above the ground.
        point_range: range of reference points, metres, vehicle frame.
    """

    image: ImageEncoderConfig
    classes: tuple[str, ...]
    cells: int = 12
    dim: int = 128
    layers: int = 2
    height_m: float = 0.8
    point_range: PointRange = NUSCENES_RANGE

    def build(self) -> "GroundGrid":
        return GroundGrid(self)


# --8<-- [end:config]


# --8<-- [start:features]
@dataclass(frozen=True)
class GridFeatures(Features):
    """Feature levels [B, C, D, H_l, W_l] to sample from."""

    levels: tuple[Tensor, ...]


# --8<-- [end:features]


# --8<-- [start:layer]
class GroundLayer(DecoderLayer):
    """Self-attention, a look at the images, feed-forward."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, heads=4, hidden=256, dropout=0.0)
        self.cross_attention = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, groups: Groups, shown: list[Tensor]
    ) -> Tensor:
        parts, _ = self.among_themselves(x, positions, mask, groups)
        return self.concluded(parts, [self.cross_attention(images) for images in shown])


# --8<-- [end:layer]


# --8<-- [start:detector]
class GroundGrid(Detector):
    """Queries start on the ground grid; every layer looks at the images there and moves them."""

    positions_follow_references = True

    def __init__(self, config: GroundGridConfig) -> None:
        super().__init__()
        self.config, self.classes, self.dim = config, config.classes, config.dim
        self.query_count = config.cells**2
        self.point_range = ReferenceRange(config.point_range)
        self.image_encoder = config.image.build()
        self.place = mlp(3, config.dim, config.dim)
        self.layers = nn.ModuleList(GroundLayer(config.dim) for _ in range(config.layers))
        self.class_branches = nn.ModuleList([mlp(config.dim, config.dim, len(config.classes))])
        self.regress = mlp(config.dim, config.dim, CODE_SIZE)
        x0, y0, _, x1, y1, _ = config.point_range
        middles = (torch.arange(config.cells) + 0.5) / config.cells
        x, y = torch.meshgrid(x0 + middles * (x1 - x0), y0 + middles * (y1 - y0), indexing="ij")
        grid = torch.stack([x, y, torch.full_like(x, config.height_m)], dim=-1).flatten(0, 1)
        self.register_buffer("grid", grid, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        nn.init.constant_(self.class_branches[0][-1].bias, prior_bias(0.01))

    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> GridFeatures:
        frame = self.image_encoder.pad(frame)
        projections = frame.rig.image_from_vehicle
        levels = self.image_encoder(frame)
        return GridFeatures(projections, frame.camera_valid, frame.image_size, (), levels)

    def initial_queries(self, features: Features) -> Queries:
        references = self.grid.expand(features.camera_valid.shape[0], -1, -1)
        positions = self.track_positions(references, references)
        return object_queries(torch.zeros_like(positions), positions, references)

    def queries_at(self, codes: Tensor, contents: Tensor | None = None) -> Queries:
        positions = self.track_positions(codes, codes[..., :3])
        contents = torch.zeros_like(positions) if contents is None else contents
        return object_queries(contents, positions, codes[..., :3])

    def track_positions(self, positions: Tensor, references: Tensor) -> Tensor:
        return self.place(self.point_range.normalise(references))

    def decode(
        self,
        queries: Queries,
        features: GridFeatures,
        groups: Groups = STANDARD,
        interaction: Interaction | None = None,
    ) -> tuple[Predictions, ...]:
        x, positions = repeat_groups(queries.embeddings, groups), repeat_groups(queries.positions, groups)
        references = [queries.references] * len(groups)
        outputs = [[] for _ in groups]
        for number, layer in enumerate(self.layers):
            mask = interaction.mask(number) if interaction else None
            mask = queries.looked_at if mask is None else mask
            x = layer(x, positions, mask, groups, [self._shown(points, features) for points in references])
            refined = [self._boxes(*each) for each in zip(self._offsets(x, groups), references)]
            if interaction:
                standard = groups.index("standard")
                x = interact(interaction, number, x, refined[standard], groups)
            logits = apply_to_groups(self.class_branches[0], x, groups)
            for group, offsets in enumerate(self._offsets(x, groups)):
                code = self._boxes(offsets, references[group])
                state = split_groups(x, groups)[group]
                outputs[group].append((logits[group], code, state, references[group]))
            references = [code[..., :3].detach() for code in refined]
        stacked = [[torch.stack(part) for part in zip(*layers)] for layers in outputs]
        return tuple(Predictions(*parts, queries.valid, queries.object_count) for parts in stacked)

    def _offsets(self, x: Tensor, groups: Groups) -> tuple[Tensor, ...]:
        return apply_to_groups(self.regress, x, groups)

    def _boxes(self, offsets: Tensor, references: Tensor) -> Tensor:
        """[B, Q, 10] codes; centres are offsets from the references, in logits of the range."""
        logit = inverse_sigmoid(self.point_range.normalise(references)) + offsets[..., :3]
        return torch.cat([self.point_range.to_metres(logit.sigmoid()), offsets[..., 3:]], dim=-1)

    def _shown(self, points: Tensor, features: GridFeatures) -> Tensor:
        """[B, Q, D] mean of all features that show the points [B, Q, 3]."""
        levels = features.levels
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        taps = taps_of(
            points, features.image_from_vehicle, features.camera_valid, features.image_size, shapes
        )
        shown = taps.visible.transpose(1, 2)[..., None].to(points.dtype).expand(-1, -1, -1, len(levels))
        shares = shown / shown.sum((2, 3), keepdim=True).clamp(min=1)
        return weighted_samples(tables_of(levels, points.dtype), taps, shares)


# --8<-- [end:detector]


# --8<-- [start:recipe]
def ground_grid() -> Recipe:
    """MUTR3D on the detector, trained with SynCL: any tracker and any strategy takes it."""
    detector = GroundGridConfig(image_encoder(), CLASSES, dim=DIM)
    return Recipe(
        "mutr3d_ground-grid_syncl",
        "MUTR3D on a ground grid, clips of three frames",
        ModelConfig(InputConfig(IMAGE_SIZE, exact_resize=False), detector, Mutr3dConfig(heads=4)),
        TrainingConfig(steps=2000, data=DataConfig(clip_length=3), strategy=SynclConfig()),
    )


# --8<-- [end:recipe]


# --8<-- [start:run]
def run(data: Path, output: Path, version: str = "v1.0-mini", changes: tuple[str, ...] = ()) -> Path:
    """Train, load the file again, track; the path of the results."""
    train_recipe(ground_grid(), data=data, version=version, output=output, changes=changes)
    model = load_model(output / "model.safetensors", types=(GroundGridConfig,))
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
