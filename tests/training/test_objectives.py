"""Objectives: a user's own, those that ask for queries, and all of them with several processes."""

import datetime
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import orjson
import pytest
import torch
from torch import Tensor
from torch.multiprocessing import start_processes

import rig
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.detectors import FocalHeadConfig
from syncl.errors import SynclError
from syncl.recipes import find_recipe
from syncl.recipes.recipe import recipe_from_json, recipe_to_json
from syncl.recipes.synthetic import small_pf_track, small_streampetr
from syncl.structures import Annotations, Outcome
from syncl.trackers import ClipNoise, Decoded
from syncl.training.objectives import DenoisingConfig, ImageLossConfig, Objective, ObjectiveConfig
from syncl.training.strategies import Baseline, BaselineConfig
from syncl.training.strategies.syncl.strategy import SynclConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

make_clip = partial(rig.make_clip, future=small_pf_track().horizon)


@dataclass(frozen=True)
class SurpriseConfig:
    """An objective of one's own: how many objects no track query holds, times a weight."""

    weight: float = 0.5

    def build(self) -> "Surprise":
        return Surprise(self.weight)


class Surprise(Objective):
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, decoded: Decoded, outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        born = (outcome.targets[:, : decoded.queries.object_count] >= 0).sum()
        anchored = decoded.standard.logits.sum() * 0
        return {"surprise": self.weight * born + anchored}


@dataclass(frozen=True)
class NamedConfig:
    """An objective whose loss has a name of choice."""

    name: str

    def build(self) -> "Named":
        return Named(self.name)


class Named(Objective):
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, decoded: Decoded, outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        return {self.name: decoded.standard.logits.sum() * 0}


class Nothing(Baseline):
    """A strategy whose forward forgot what to return."""

    def forward(self, decoded: Decoded, annotations: Annotations) -> None: ...


def module_with(*objectives: ObjectiveConfig, denoising: DenoisingConfig | None = None) -> ClipTraining:
    """PF-Track on StreamPETR with its image head, trained with SynCL: everything that reduces is in it."""
    torch.manual_seed(0)
    detector = replace(small_streampetr(), focal_head=FocalHeadConfig()).build()
    tracker = replace(small_pf_track(), noise=ClipNoise()).build(detector)
    unroll = UnrollConfig(denoising=denoising, objectives=objectives)
    return ClipTraining(tracker, SynclConfig().build(detector.dim), unroll)


def test_an_objective_of_ones_own_is_in_the_sums():
    clip = make_clip([0, 1], [0, 1, 2])
    with torch.no_grad():
        losses, plain = (module_with(*own)(clip) for own in ((SurpriseConfig(),), ()))
    # Two objects come in the first frame, one more in the second.
    assert losses["surprise"] == 0.5 * 3
    others = torch.stack([value for name, value in losses.items() if name != "total"]).sum()
    assert losses["total"] == pytest.approx(float(others), rel=1e-6)
    assert losses["total"] == pytest.approx(float(plain["total"]) + 1.5, rel=1e-6)
    assert plain.keys() == losses.keys() - {"surprise"}


def test_objectives_survive_a_recipes_json_form():
    base = find_recipe("streampetr_synthetic")
    unroll = replace(base.training.unroll, objectives=(SurpriseConfig(0.25), ImageLossConfig(box=1.0)))
    recipe = replace(base, training=replace(base.training, unroll=unroll))
    value = orjson.loads(orjson.dumps(recipe_to_json(recipe)))
    assert recipe_from_json(value, "here", (SurpriseConfig,)) == recipe
    with pytest.raises(SynclError, match="unknown configuration type 'SurpriseConfig'"):
        recipe_from_json(value, "here")


def test_two_objectives_that_ask_for_queries_are_refused():
    module = module_with(DenoisingConfig(groups=2), denoising=DenoisingConfig(groups=3))
    with pytest.raises(SynclError, match=r"two objectives of training\.unroll ask for queries of their own"):
        module(make_clip([0, 1]))


def _train_in_one_of_two(rank: int, folder: Path, clips: tuple[tuple[list[int], ...], ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=20),
    )
    with torch.no_grad():
        losses = module_with(denoising=DenoisingConfig(groups=10))(make_clip(*clips[rank]))
    torch.save(losses, folder / f"losses_{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_process_without_objects_takes_part_in_every_reduction(tmp_path):
    busy, idle = ([0, 1], [0, 1, 2]), ([], [])
    # Forked, since a new interpreter would not find this module by its name.
    start_processes(_train_in_one_of_two, (tmp_path, (busy, idle)), nprocs=2, start_method="fork")
    ours, theirs = (torch.load(tmp_path / f"losses_{rank}.pt", weights_only=True) for rank in range(2))
    assert ours.keys() == theirs.keys()
    assert all(torch.isfinite(value) for losses in (ours, theirs) for value in losses.values())
    with torch.no_grad():
        alone = module_with(denoising=DenoisingConfig(groups=10))(make_clip(*busy))
    # The mean count over both processes is half of what the one with objects has, whatever the loss.
    for name in ("noised_class", "noised_box", "box", "refined_box", "depth", "cross_box"):
        assert ours[name].item() == pytest.approx(2 * alone[name].item(), rel=1e-3), name
        assert name == "noised_class" or theirs[name] == 0


@pytest.mark.slow
def test_training_ends_when_a_process_has_a_scene_without_annotations(tmp_path):
    """Where it did not, both processes waited for ever."""
    root = tmp_path / "world"
    generate_world(root, WorldConfig(2, 1, keyframes=4, width=96, height=64, seed=3), workers=1)
    empty, _ = open_nuscenes(root, "v1.0-mini").split_scenes("mini_train")
    take_annotations_of(root / "v1.0-mini", empty)
    # A process has a stream, and the streams of the first epoch's start are of different scenes.
    changes = ("model.input.image_size=[64,96]", "training.steps=2", "training.data.batch_size=1",
               "training.log_every=1", "training.optimiser.warmup_steps=0")  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29519"]
    command = ["-m", "syncl", "train", "streampetr_synthetic", "--data", str(root), "--set", *changes]
    finished = subprocess.run(
        [sys.executable, *launch, *command, "--output", str(tmp_path / "run")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    log = [orjson.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_bytes().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(entry["noised_class"] > 0 for entry in log)


def take_annotations_of(tables: Path, scene: str) -> None:
    """Leave a scene of the tables without annotations."""

    def read(name: str) -> list[dict]:
        return orjson.loads((tables / f"{name}.json").read_bytes())

    (token,) = [row["token"] for row in read("scene") if row["name"] == scene]
    samples = {row["token"] for row in read("sample") if row["scene_token"] == token}
    annotations = read("sample_annotation")
    left = [row for row in annotations if row["sample_token"] not in samples]
    instances = {row["instance_token"] for row in left}
    assert len(left) < len(annotations)
    (tables / "sample_annotation.json").write_bytes(orjson.dumps(left))
    kept = [row for row in read("instance") if row["token"] in instances]
    (tables / "instance.json").write_bytes(orjson.dumps(kept))


@pytest.mark.parametrize("name", ["class", "total"])
def test_an_objective_takes_no_other_losss_place(name):
    with pytest.raises(SynclError, match=f"Named returned a loss called '{name}', which there is already"):
        module_with(NamedConfig(name))(make_clip([0, 1], [0, 1]))


def test_a_strategy_that_returns_no_outcome_is_named():
    module = module_with()
    module.strategy = Nothing(BaselineConfig())
    with pytest.raises(SynclError, match=r"strategy: Nothing returned a NoneType; .*docs/add-strategy\.md"):
        module(make_clip([0, 1], [0, 1]))
