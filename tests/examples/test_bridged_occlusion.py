"""The tool that finds and films bridged occlusions, on tracks that repeat a tiny world's ground truth."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from syncl.classes import DETECTION_CLASSES
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.geometry.poses import move_boxes
from syncl.rendering import RenderStyle, render_video
from syncl.rendering.output import write_png

FRAMES = 7


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "bridged_occlusion.py"
    spec = importlib.util.spec_from_file_location("bridged_occlusion", path)
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> NuScenesIndex:
    root = tmp_path_factory.mktemp("bridge") / "world"
    generate_world(root, WorldConfig(1, 0, keyframes=FRAMES, width=160, height=96, seed=4), workers=1)
    return open_nuscenes(root, "v1.0-mini")


def perfect(tool: ModuleType, index: NuScenesIndex, scene: str) -> tuple[list, list]:
    """Samples, and tracks that repeat their annotations."""
    samples = [index.sample(row) for row in index.scene_samples(scene)]
    frames = []
    for sample in samples:
        truth = sample.annotations
        rows = np.flatnonzero(truth.labels >= 0)
        boxes = np.nan_to_num(truth.boxes[rows])
        frames.append(
            tool.TrackedFrame(
                sample.token,
                move_boxes(sample.global_from_vehicle, boxes),
                tuple(DETECTION_CLASSES[label] for label in truth.labels[rows]),
                np.full(len(rows), 0.9),
                truth.identities[rows],
                np.ones(len(rows), np.bool_),
            )
        )
    return samples, frames


def persistent(samples: list) -> int:
    """An object of an evaluated class that is annotated all the time, and close."""
    held = set.intersection(*(set(sample.annotations.identities.tolist()) for sample in samples))
    truth = samples[0].annotations
    rows = [
        row for row in range(len(truth.tokens)) if truth.identities[row] in held and truth.labels[row] >= 0
    ]
    return int(truth.identities[min(rows, key=lambda row: np.linalg.norm(truth.boxes[row, :2]))])


def silenced(frame, identity: int):
    return dataclasses.replace(frame, reported=frame.reported & (frame.identities != identity))


def test_a_gap_in_reports_is_found_and_filmed(tool: ModuleType, index: NuScenesIndex, tmp_path: Path) -> None:
    (scene,) = index.split_scenes("mini_train")
    samples, frames = perfect(tool, index, scene)
    assert not list(tool.find_bridges(samples, frames, scene, 1, 2.0))
    identity = persistent(samples)
    gap = (2, 3, 4)
    broken = [silenced(frame, identity) if at in gap else frame for at, frame in enumerate(frames)]
    (bridge,) = tool.find_bridges(samples, broken, scene, 2, 2.0)
    assert (bridge.identity, bridge.last_seen, bridge.seen_again, bridge.gap) == (identity, 2, 6, 3)
    assert not list(tool.find_bridges(samples, broken, scene, 4, 2.0))
    # Hidden is what the annotations say can hardly be seen.
    hard = [
        dataclasses.replace(s.annotations, visibility=np.ones_like(s.annotations.visibility)) for s in samples
    ]
    dark = [
        dataclasses.replace(sample, annotations=hard[at]) if at in (2, 3) else sample
        for at, sample in enumerate(samples)
    ]
    (hidden,) = tool.find_bridges(dark, broken, scene, 2, 2.0)
    seen = sum(identity in tool.seen_objects(samples[at]) for at in gap)
    assert bridge.hidden == len(gap) - seen
    assert hidden.hidden == 2 + (identity not in tool.seen_objects(samples[4]))

    style = RenderStyle(width=640)
    clip, past = tool.scene_frames(index, bridge, broken, 1, style)
    assert [frame.number for frame in clip] == [1, 2, 3, 4, 5, 6, 7]
    said = ["reported"] * 2 + ["unseen, carried on"] * 3 + ["reported"] * 2
    assert [frame.title.partition(": ")[2] for frame in clip] == said
    assert all(str(identity) in frame.objects.identities for frame in clip)
    assert render_video(clip, tmp_path / "bridge.mp4", style) == 7
    picture = tool.sheet(clip, past, bridge, style)
    write_png(picture, tmp_path / "bridge.png")
    # Tiles are as tall as images of this shape are.
    tall = tool.TILE_WIDTH * 96 // 160
    assert picture.shape == (2 * (tool.CAPTION + tall), 4 * tool.TILE_WIDTH, 3) and picture.std() > 10


def test_another_identity_behind_the_gap_is_no_bridge(tool: ModuleType, index: NuScenesIndex) -> None:
    (scene,) = index.split_scenes("mini_train")
    samples, frames = perfect(tool, index, scene)
    identity = persistent(samples)
    switched = [
        silenced(frame, identity)
        if at in (2, 3)
        else dataclasses.replace(
            frame,
            identities=np.where(frame.identities == identity, 999 if at > 3 else identity, frame.identities),
        )
        for at, frame in enumerate(frames)
    ]
    assert not list(tool.find_bridges(samples, switched, scene, 1, 2.0))
