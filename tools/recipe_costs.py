"""Writes what `syncl recipes` lists, costs too: python tools/recipe_costs.py, when recipes or models change.

The file it writes is part of the package, since counting takes half a minute; tests count anew.
"""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import orjson
import torch
from torch.utils.flop_counter import FlopCounterMode

import syncl
from syncl.detectors import DetectorConfig
from syncl.detectors.base import Detector
from syncl.progress import progress_bar
from syncl.recipes import RECIPES
from syncl.recipes.cost import COSTS_FILE, Cost
from syncl.recipes.listing import LISTING_FILE, entries_of
from syncl.structures import CameraRig, Frame
from syncl.trackers.model import InputConfig, ModelConfig

_DEFAULT_CAMERAS = 6


@cache
def model_cost(config: ModelConfig) -> Cost:
    """Parameters and operations of a model, on torch's meta device, where tensors have shapes only.

    The operations are counted one by one, which takes seconds for a large model.
    """
    with torch.device("meta"):
        tracker = config.tracker.build(_detector(config.detector))
    return Cost(
        sum(parameter.numel() for parameter in tracker.parameters()),
        _frame_flops(config.input, config.detector),
    )


@cache
def _detector(config: DetectorConfig) -> Detector:
    # The counter stumbles over parameters that want gradients where none are recorded.
    with torch.device("meta"):
        return config.build().eval().requires_grad_(False)


@cache
def _frame_flops(input_config: InputConfig, config: DetectorConfig) -> int:
    detector, frame = _detector(config), _empty_frame(input_config)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = detector.encode(frame)
        detector.decode(detector.initial_queries(features), features)
    return int(counter.get_total_flops())


def _empty_frame(config: InputConfig) -> Frame:
    """A frame of one stream on the meta device, with past images where the model sees them."""
    height, width = config.image_size
    names = config.cameras or tuple(f"camera {index}" for index in range(_DEFAULT_CAMERAS))
    with torch.device("meta"):
        frame = _frame(names, height, width)
    return frame if config.past is None else replace(frame, past=frame)


def _frame(names: tuple[str, ...], height: int, width: int) -> Frame:
    cameras = len(names)
    return Frame(
        images=torch.zeros(1, cameras, 3, height, width, dtype=torch.uint8),
        rig=CameraRig(
            names,
            torch.zeros(1, cameras, 3, 3, dtype=torch.float64),
            torch.zeros(1, cameras, 4, 4, dtype=torch.float64),
        ),
        camera_valid=torch.ones(1, cameras, dtype=torch.bool),
        content_size=torch.tensor([height, width]).expand(1, cameras, 2),
        global_from_vehicle=torch.zeros(1, 4, 4, dtype=torch.float64),
        timestamp_s=torch.zeros(1, dtype=torch.float64),
        scenes=("",),
        samples=("",),
    )


def main() -> None:
    costs = {name: asdict(model_cost(RECIPES[name]().model)) for name in progress_bar(RECIPES, "counting")}
    path = Path(syncl.__file__).parent / "recipes" / COSTS_FILE
    path.write_bytes(orjson.dumps(costs, option=orjson.OPT_INDENT_2) + b"\n")
    print(f"wrote {path}: {len(costs)} recipes")
    entries = [entry for name, function in RECIPES.items() for entry in entries_of(name, function())]
    path = path.parent / LISTING_FILE
    path.write_bytes(orjson.dumps([asdict(entry) for entry in entries], option=orjson.OPT_INDENT_2) + b"\n")
    print(f"wrote {path}: {len(entries)} names")


if __name__ == "__main__":
    main()
