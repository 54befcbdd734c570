"""What `syncl train-motion` does: trajectories of detections and annotations; VeloLSTM trained on them."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from syncl.checkpoints.codec import encode_config
from syncl.checkpoints.model_file import load_model, save_model
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.errors import SynclError
from syncl.files import refuse_to_overwrite
from syncl.progress import progress_bar
from syncl.runs.track.given import DetectionFile
from syncl.trackers.cc_3dt import Cc3dt, Cc3dtConfig
from syncl.trackers.cc_3dt.tracker import moved
from syncl.trackers.cc_3dt.velo_lstm import VeloLstmMotion
from syncl.training.motion_model import MotionTrainingConfig, SeenObjects, train_motion

# A detection of its class this near to an object, on the ground, is one of it.
_NEAR_M = 2.0


@dataclass(frozen=True)
class TrainedMotion:
    """How it went.

    Attributes:
        path: of the model file that was written.
        trajectories: that were learned from.
        losses: of the last steps, in the mean.
    """

    path: Path
    trajectories: int
    losses: dict[str, float]


def gather_trajectories(
    index: NuScenesIndex, scenes: tuple[str, ...], detections: DetectionFile, shortest: int
) -> list[SeenObjects]:
    """SeenObjects [1, T, ...] of all annotated objects of `shortest` key frames or more."""
    rows: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)
    for row in (row for scene in scenes for row in index.scene_samples(scene)):
        sample = index.sample(row)
        pose = torch.from_numpy(sample.global_from_vehicle)
        truth = sample.annotations
        known = truth.labels >= 0
        boxes, _ = moved(pose, torch.from_numpy(truth.boxes[known]))
        labels, identities = torch.from_numpy(truth.labels[known]), truth.identities[known]
        found = detections.of(sample, index.dataset.classes)
        seen, _ = moved(pose, found.boxes[0].double())
        away = torch.cdist(boxes[:, :2], seen[:, :2])
        away = away.masked_fill(labels[:, None] != found.labels[0], torch.inf)
        for number, identity in enumerate(identities.tolist()):
            box, score = boxes[number], torch.ones(())
            if away.shape[1] and away[number].min() <= _NEAR_M:
                nearest = int(away[number].argmin())
                box, score = seen[nearest], found.scores[0, nearest]
            rows[identity].append((box, score, boxes[number]))
    whole = (tuple(map(torch.stack, zip(*parts))) for parts in rows.values() if len(parts) >= shortest)
    return [SeenObjects(*(part[None] for part in parts)) for parts in whole]


def train_model_motion(
    model: Path,
    detections: Path,
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    output: Path,
    config: MotionTrainingConfig,
    *,
    others: bool,
    overwrite: bool,
) -> TrainedMotion:
    """Train the motion model of a CC-3DT model file; see `syncl.commands.train_motion`.

    Raises:
        SynclError: on unusable input, or if no object is long enough in sight.
    """
    refuse_to_overwrite(output, overwrite)
    loaded = load_model(model)
    tracker = loaded.config.tracker
    if not isinstance(tracker, Cc3dtConfig) or not isinstance(loaded.tracker, Cc3dt):
        raise SynclError(f"{model}: is not a CC-3DT model, whose motion VeloLSTM could be")
    trajectories = gather_trajectories(
        index, scenes, DetectionFile(detections, index, scenes, others), config.window
    )
    if not trajectories:
        raise SynclError(f"no object of these scenes is annotated in {config.window} key frames or more")
    torch.manual_seed(config.seed)
    motion = VeloLstmMotion()
    if isinstance(loaded.tracker.motion, VeloLstmMotion):
        motion.load_state_dict(loaded.tracker.motion.state_dict())
    steps = train_motion(motion.network, trajectories, config)
    losses = list(progress_bar(steps, "training motion", total=config.steps))
    last = losses[-100:]
    weights = {n: t for n, t in loaded.tracker.state_dict().items() if not n.startswith("motion.")}
    weights |= {f"motion.{name}": tensor for name, tensor in motion.state_dict().items()}
    changed = replace(loaded.config, tracker=replace(tracker, motion="velo_lstm"))
    recipe = loaded.recipe
    if isinstance(recipe, dict):
        recipe = recipe | {"model": encode_config(changed)}
    notes = loaded.notes | {"motion": f"VeloLSTM, {config.steps} steps on {detections.name}"}
    detector = loaded.tracker.detector
    save_model(output, weights, changed, recipe, notes, detector.views, detector.rigs)
    means = {name: sum(step[name] for step in last) / len(last) for name in last[0]}
    return TrainedMotion(output, len(trajectories), means)
