"""Training of VeloLSTM on trajectories of detections (QD-3DT, as CC-3DT uses it).

It sees what a detector made of an object frame by frame, and learns to say where the object is and will be.

Letters: B trajectories, T frames of a window.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from syncl.structures.tensors import TensorStructure
from syncl.trackers.cc_3dt.half_turns import normalised, turned_towards
from syncl.trackers.cc_3dt.velo_lstm import VeloLstm

# At these parts of the training the learning rate is halved.
_HALVINGS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class MotionTrainingConfig:
    """Settings; the defaults but for `steps` are those published for BEVFormer's detections.

    Attributes:
        steps: optimiser steps; the original's 100 epochs are about 10,000.
        batch_size: windows a step.
        window: frames of a window.
        learning_rate: of Adam with amsgrad.
        weight_decay: of all parameters.
        clip_norm: gradients are clipped to this L2 norm.
        weight: of all losses.
        smoothness: of the second differences of what is foreseen, beside it.
        history: steps between sightings that the network reads.
        seed: of weights and windows.
    """

    steps: int = 2000
    batch_size: int = 128
    window: int = 10
    learning_rate: float = 0.005
    weight_decay: float = 1e-4
    clip_norm: float = 3.0
    weight: float = 10.0
    smoothness: float = 0.001
    history: int = 5
    seed: int = 0


@dataclass(frozen=True)
class SeenObjects(TensorStructure):
    """What a detector made of objects, one frame behind the other.

    Attributes:
        seen: [B, T, 7] float64 x y z l w h yaw, global frame; the object itself where it was not detected.
        scores: [B, T] of the detections; 1 where there was none.
        truth: [B, T, 7] float64 the annotated boxes.
    """

    seen: Tensor
    scores: Tensor
    truth: Tensor


def unrolled(network: VeloLstm, seen: Tensor, scores: Tensor, history: int) -> tuple[Tensor, Tensor]:
    """Boxes after each sighting but the first, and foreseen from each for the next: [B, T - 1, 7] both.

    Hidden states carry gradients; boxes that go on do not.
    """
    batch, frames = scores.shape
    yaws = normalised(seen[..., 6])
    seen = torch.cat([seen[..., :6], yaws[..., None]], -1)
    before, expected = seen[:, 0], seen[:, 1]
    foreseeing, judging = network.fresh(batch), network.fresh(batch)
    refined: list[Tensor] = []
    foreseen: list[Tensor] = []
    steps = seen.new_zeros(history, batch, 7)
    for frame in range(1, frames):
        now = seen[:, frame]
        expected = _turned(expected, turned_towards(normalised(expected[:, 6]), now[:, 6]))
        if foreseen:
            foreseen[-1] = expected
        box, judging = network.refine(expected.detach(), now, before.detach(), scores[:, frame], judging)
        box = _turned(box, normalised(box[:, 6]))
        step = (box - before)[None]
        steps = step.expand(history, -1, -1) if frame == 1 else torch.cat([steps[1:], step])
        expected, foreseeing = network.predict(steps, box.detach(), foreseeing)
        expected = _turned(expected, normalised(expected[:, 6]))
        refined.append(box)
        foreseen.append(expected)
        before = box
    return torch.stack(refined, 1), torch.stack(foreseen, 1)


def _turned(boxes: Tensor, yaw: Tensor) -> Tensor:
    return torch.cat([boxes[:, :6], yaw[:, None]], 1)


def motion_losses(network: VeloLstm, window: SeenObjects, config: MotionTrainingConfig) -> dict[str, Tensor]:
    """`refined`, `foreseen` and `smoothness` of a window.

    As published, headings are compared as they are, also across the turn.
    """
    refined, foreseen = unrolled(network, window.seen, window.scores, config.history)
    ahead = foreseen[:, :-1]
    bends = ahead[:, 2:] - 2 * ahead[:, 1:-1] + ahead[:, :-2]
    bend = bends.abs().mean((0, 2)).sum() / max(bends.shape[1], 1)
    return {
        "refined": config.weight * functional.smooth_l1_loss(refined, window.truth[:, 1:]),
        "foreseen": config.weight * functional.smooth_l1_loss(ahead, window.truth[:, 2:]),
        "smoothness": config.weight * config.smoothness * bend,
    }


def train_motion(
    network: VeloLstm, trajectories: list[SeenObjects], config: MotionTrainingConfig
) -> Iterator[dict[str, float]]:
    """Train a network in place.

    Args:
        network: fresh or to go on with.
        trajectories: [1, T, ...] each, of `config.window` frames or more.
        config: settings.

    Yields:
        The losses of every step.
    """
    generator = torch.Generator().manual_seed(config.seed)
    optimiser = torch.optim.Adam(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay, amsgrad=True
    )
    milestones = [int(part * config.steps) for part in _HALVINGS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.5)
    network.train()
    for _ in range(config.steps):
        window = _windows(trajectories, config, generator)
        losses = motion_losses(network, window, config)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        clip_grad_norm_(network.parameters(), config.clip_norm)
        optimiser.step()
        schedule.step()
        yield {name: float(value.detach()) for name, value in losses.items()}
    network.eval()


def _windows(
    trajectories: list[SeenObjects], config: MotionTrainingConfig, generator: torch.Generator
) -> SeenObjects:
    """A batch of windows, each of a trajectory drawn at random, from a frame drawn at random."""
    chosen = torch.randint(len(trajectories), (config.batch_size,), generator=generator).tolist()
    windows = []
    for number in chosen:
        trajectory = trajectories[number]
        # As published, the last window is never drawn, unless it is the only one.
        starts = max(trajectory.scores.shape[1] - config.window, 1)
        start = int(torch.randint(starts, (), generator=generator))
        windows.append(trajectory.map(lambda values, s=start: values[:, s : s + config.window]))
    return SeenObjects(
        torch.cat([window.seen for window in windows]),
        torch.cat([window.scores for window in windows]),
        torch.cat([window.truth for window in windows]),
    )
