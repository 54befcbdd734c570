"""Boxes from a bird's-eye view: heat maps of centres, and at a centre the rest of the box (CenterPoint, Yin
et al., CVPR 2021). Classes that look alike share a task; every task has heads of its own.

Letters: B streams, D channels, Y X cells, T tasks, K classes, Q candidates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.bevdepth.view_transform import BevGrid
from syncl.errors import SynclError
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.numerics import at_full_precision
from syncl.structures.tensors import TensorStructure

# Place in the cell, height, sizes, heading and velocity, each with a branch of its own; heat comes last.
BOX_BRANCHES = (2, 1, 3, 2, 2)
# The logit of classes that a candidate is not: its probability is 0 to the last bit.
IMPOSSIBLE = -1e4
_FIRST_HEAT = -2.19


@dataclass(frozen=True)
class CentreTask:
    """Classes that share heads, and which of their boxes suppress each other.

    Attributes:
        classes: their names.
        scales: factor of each class's boxes before their overlap is looked at: small objects are made larger.
        overlap: the less sure of two boxes goes where they overlap by more (intersection over union).
        radius_m: the less sure of two boxes goes where their centres are no farther apart; 0 = overlap alone
            counts.
    """

    classes: tuple[str, ...]
    scales: tuple[float, ...] = ()
    overlap: float = 0.2
    radius_m: float = 0.0

    def __post_init__(self) -> None:
        if len(self.scales) not in (0, len(self.classes)):
            raise SynclError(
                f"task of {', '.join(self.classes)}: {len(self.scales)} scales; give none, or one a class"
            )


NUSCENES_TASKS = (
    CentreTask(("car",), (1.0,)),
    CentreTask(("truck", "construction_vehicle"), (0.7, 0.7)),
    CentreTask(("bus", "trailer"), (0.4, 0.55)),
    CentreTask(("barrier",), (0.0,), radius_m=1.0),
    CentreTask(("motorcycle", "bicycle"), (1.0, 1.0)),
    CentreTask(("pedestrian", "traffic_cone"), (4.5, 9.0), overlap=0.5),
)


@dataclass(frozen=True)
class CentreHeadConfig:
    """Sizes of the head; the defaults are the published ones.

    Attributes:
        tasks: of all classes.
        shared: channels of what all tasks read.
        hidden: channels of each branch.
        task_candidates: cells of each task that become candidates.
        candidates: candidates of all tasks together.
        min_score: cells with less heat are none.
        peaks_only: only cells that are the hottest of the nine around them are candidates; published heads
            take all and leave the rest to suppression.
    """

    tasks: tuple[CentreTask, ...] = NUSCENES_TASKS
    shared: int = 64
    hidden: int = 64
    task_candidates: int = 500
    candidates: int = 3000
    min_score: float = 0.1
    peaks_only: bool = False

    def check(self, classes: tuple[str, ...]) -> None:
        """Refuse tasks that do not have every class exactly once.

        Raises:
            SynclError: naming the classes.
        """
        found = [name for task in self.tasks for name in task.classes]
        if sorted(found) != sorted(classes):
            raise SynclError(
                f"detector.head.tasks have {', '.join(found)}; they must have each of {', '.join(classes)} "
                "once"
            )


@dataclass(frozen=True)
class CentreMaps(TensorStructure):
    """What the head says of every cell.

    Attributes:
        labels: per task its classes, in the order of its heat maps.
        heat: per task [B, K_t, Y, X] logits.
        boxes: [B, T, 10, Y, X] box codes, x and y from the cell's lower corner in cells.
        low: [2] x and y of the first cell's lower corner, metres.
        cell_m: side of a cell.
    """

    labels: tuple[tuple[int, ...], ...]
    heat: tuple[Tensor, ...]
    boxes: Tensor
    low: Tensor
    cell_m: float


@dataclass(frozen=True)
class Candidates(TensorStructure):
    """Boxes that the head proposes, surest first.

    Attributes:
        codes: [B, Q, 10] box codes, vehicle frame, metres.
        labels: [B, Q] int64.
        tasks: [B, Q] int64.
        logits: [B, Q] of their own class.
        valid: [B, Q] bool; False = not sure enough.
    """

    codes: Tensor
    labels: Tensor
    tasks: Tensor
    logits: Tensor
    valid: Tensor


class CentreHead(nn.Module):
    """See the module's docstring. The branches of all tasks begin with one convolution for all."""

    low: Tensor

    def __init__(
        self, config: CentreHeadConfig, classes: tuple[str, ...], channels: int, grid: BevGrid
    ) -> None:
        super().__init__()
        config.check(classes)
        self.config, self.grid = config, grid
        self.labels = tuple(tuple(classes.index(name) for name in task.classes) for task in config.tasks)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, config.shared, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.shared),
            nn.ReLU(inplace=True),
        )
        sizes = [size for task in config.tasks for size in (*BOX_BRANCHES, len(task.classes))]
        width = config.hidden * len(sizes)
        self.branches = nn.Sequential(
            nn.Conv2d(config.shared, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.outputs = nn.ModuleList(nn.Conv2d(config.hidden, size, 3, padding=1) for size in sizes)
        self.register_buffer("low", torch.tensor([grid.low_x, grid.low_y]), persistent=False)
        # Of each task its classes; a list would be copied to the device in every frame.
        for task, own in enumerate(self.labels):
            self.register_buffer(f"labels_{task}", torch.tensor(own), persistent=False)
        for heat in list(self.outputs)[len(BOX_BRANCHES) :: len(BOX_BRANCHES) + 1]:
            nn.init.constant_(heat.bias, _FIRST_HEAT)  # type: ignore[arg-type]

    def forward(self, bev: Tensor) -> tuple[Tensor, CentreMaps]:
        """What all tasks read [B, shared, Y, X] and what they say of a view [B, D, Y, X]."""
        shared = self.shared(bev)
        branches = self.branches(shared).chunk(len(self.outputs), dim=1)
        said = [at_full_precision(output, branch) for output, branch in zip(self.outputs, branches)]
        count = len(BOX_BRANCHES) + 1
        boxes = [torch.cat(said[start : start + count - 1], dim=1) for start in range(0, len(said), count)]
        maps = CentreMaps(
            self.labels,
            tuple(said[count - 1 :: count]),
            torch.stack(boxes, dim=1),
            self.low,
            self.grid.cell_m,
        )
        return shared, maps

    @torch.no_grad()
    def candidates(self, maps: CentreMaps) -> Candidates:
        """The hottest cells of each task as boxes, the surest of all tasks first."""
        config = self.config
        heats, labels, tasks, codes = [], [], [], []
        for task, heat in enumerate(maps.heat):
            hottest = _peaks(heat) if config.peaks_only else heat
            count = min(config.task_candidates, hottest[0].numel())
            top, flat = _hottest(hottest.flatten(1), count)
            cells = heat.shape[-2] * heat.shape[-1]
            heats.append(top)
            labels.append(getattr(self, f"labels_{task}")[flat // cells])
            tasks.append(torch.full_like(flat, task))
            codes.append(codes_at(maps, task, flat % cells))
        together = torch.cat(heats, dim=1)
        heat, order = _hottest(together, min(config.candidates, together.shape[1]))
        return Candidates(
            torch.cat(codes, dim=1).gather(1, order[..., None].expand(-1, -1, CODE_SIZE)),
            torch.cat(labels, dim=1).gather(1, order),
            torch.cat(tasks, dim=1).gather(1, order),
            heat,
            heat.sigmoid() > config.min_score,
        )


def codes_at(maps: CentreMaps, task: int, cells: Tensor) -> Tensor:
    """Box codes [B, Q, 10], vehicle frame, metres, that a task has at cells [B, Q] (row by row)."""
    columns = maps.boxes.shape[-1]
    flat = maps.boxes[:, task].flatten(2).transpose(1, 2)
    codes = flat.gather(1, cells[..., None].expand(-1, -1, CODE_SIZE))
    corner = torch.stack([cells % columns, cells // columns], dim=-1)
    places = (codes[..., :2] + corner) * maps.cell_m + maps.low
    return torch.cat([places, codes[..., 2:]], dim=-1)


def _hottest(heat: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of heat [B, N] and their places [B, count], highest first, and of equal ones the first.

    Where no camera looks all cells are equal, and which of them are candidates must not depend on the device
    or the runtime. ONNX has no stable sort, and its TopK keeps this order by definition.
    """
    if torch.compiler.is_exporting():
        top, places = heat.topk(count, dim=1)
        return top, places
    top, places = heat.sort(dim=1, descending=True, stable=True)
    return top[:, :count], places[:, :count]


def _peaks(heat: Tensor) -> Tensor:
    """Heat [B, K, Y, X] where it is the highest of nine cells, elsewhere none."""
    highest = functional.max_pool2d(heat, 3, stride=1, padding=1)
    return torch.where(heat == highest, heat, IMPOSSIBLE)
