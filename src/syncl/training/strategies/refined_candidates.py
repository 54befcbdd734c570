"""Supervision of detectors whose candidates a centre head proposes, and turns refine (BEVDepth, DORT).

The head's maps are an objective of their own (`training.objectives.centres`). Here candidates are tied to
objects, and each turn of a recurrence learns to bring its boxes nearer.

Letters: L layers (the candidates, then the turns), B streams, Q candidates, M objects.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Outcome, Predictions
from syncl.trackers.look import Decoded
from syncl.training.losses import mean_over_processes, sigmoid_focal_loss
from syncl.training.strategies.base import Strategy


@dataclass(frozen=True)
class TurnLossConfig:
    """Weights of a turn's losses.

    Attributes:
        box: of the L1 loss of the box code.
        code_weights: of each of its ten numbers; velocity counts four times as much as the rest, because the
            next turn looks along it.
        classification: of the focal loss of the candidates' own class.
        decay: every turn counts so much of the one after it.
    """

    box: float = 0.25
    code_weights: tuple[float, ...] = (1.0,) * 8 + (4.0, 4.0)
    classification: float = 2.0
    decay: float = 0.8


@dataclass(frozen=True)
class RefinedCandidatesConfig:
    """How candidates are tied to objects, and what turns lose.

    Attributes:
        gate_m: a candidate whose centre is farther from an object has nothing to do with it.
        loss: of the turns.
    """

    gate_m: float = 2.0
    loss: TurnLossConfig = field(default_factory=TurnLossConfig)

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            SynclError: with the reason.
        """
        if self.gate_m <= 0 or not 0 < self.loss.decay <= 1:
            raise SynclError("training.strategy: gate_m must be positive, loss.decay above 0 and at most 1")

    def build(self, _dim: int, /) -> "RefinedCandidates":
        """Build the strategy, which has no parameters and so needs no channels."""
        return RefinedCandidates(self)


class RefinedCandidates(Strategy):
    """See the module's docstring."""

    def __init__(self, config: RefinedCandidatesConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, decoded: Decoded, annotations: Annotations) -> Outcome:
        """See `Strategy.forward`; there are losses where there are turns."""
        predictions = decoded.standard
        targets = surest_candidates(predictions, annotations, self.config.gate_m)
        losses = {}
        if len(predictions.codes) > 1:
            losses = {
                "turn_box": turn_box_loss(predictions.codes, targets, annotations, self.config.loss),
                "turn_class": turn_class_loss(predictions, targets, self.config.loss),
            }
        identities = torch.full_like(targets, -1)
        if annotations.identities.shape[1]:
            held = annotations.identities.gather(1, targets.clamp(min=0))
            identities = torch.where(targets >= 0, held, -1)
        return Outcome(losses, identities, targets.expand(len(predictions.codes), -1, -1))


@torch.no_grad()
def surest_candidates(predictions: Predictions, annotations: Annotations, gate_m: float) -> Tensor:
    """The object of each candidate, [B, Q] int64, -1 = none.

    Every object goes to the surest candidate of its class within the gate, by the base's own boxes and
    scores; a candidate that two objects want takes the nearer.
    """
    codes, logits = predictions.codes[0], predictions.logits[0]
    streams, candidates = codes.shape[:2]
    if not annotations.labels.shape[1]:
        return torch.full((streams, candidates), -1, dtype=torch.int64, device=codes.device)
    distance = torch.cdist(codes[..., :2].float(), annotations.boxes[..., :2].float())
    label = logits.argmax(-1)
    allowed = (distance < gate_m) & (label[..., None] == annotations.labels[:, None])
    allowed = allowed & predictions.valid[..., None] & annotations.valid[:, None]
    score = torch.where(allowed, logits.amax(-1)[..., None], -torch.inf)
    wanted = torch.zeros_like(allowed).scatter(1, score.argmax(1, keepdim=True), True) & allowed
    nearest = torch.where(wanted, distance, torch.inf).min(-1)
    return torch.where(torch.isfinite(nearest.values), nearest.indices, -1)


def turn_weights(layers: int, config: TurnLossConfig, like: Tensor) -> Tensor:
    """[L - 1, 1, 1] how much each turn counts; the last counts 1."""
    turns = torch.arange(layers - 2, -1, -1, device=like.device, dtype=like.dtype)
    return (config.decay**turns)[:, None, None]


def turn_box_loss(codes: Tensor, targets: Tensor, annotations: Annotations, config: TurnLossConfig) -> Tensor:
    """L1 loss of the turns among codes [L, B, Q, 10] with targets [B, Q], in the mean over those tied."""
    turns = codes[1:].float()
    positive = targets >= 0
    count = mean_over_processes(positive.sum().to(turns.dtype)).clamp(min=1)
    if not annotations.labels.shape[1]:
        return turns.sum() * 0
    goal = encode_boxes(annotations.boxes)
    goal = goal.gather(1, targets.clamp(min=0)[..., None].expand(-1, -1, goal.shape[-1]))
    usable = positive[..., None] & torch.isfinite(goal)
    difference = (turns - torch.where(usable, goal, turns)).abs() * turns.new_tensor(config.code_weights)
    weighted = difference.sum(-1) * turn_weights(len(codes), config, turns)
    return config.box * weighted.sum() / count


def turn_class_loss(predictions: Predictions, targets: Tensor, config: TurnLossConfig) -> Tensor:
    """Focal loss of the turns' logits of each candidate's own class, by the number of those tied."""
    turns = predictions.logits.amax(-1)[1:].float()
    wanted = (targets >= 0).to(turns.dtype)
    count = mean_over_processes(wanted.sum()).clamp(min=1)
    focal = sigmoid_focal_loss(turns, wanted.expand_as(turns), 0.25, 2.0) * predictions.valid
    return config.classification * (focal * turn_weights(len(turns) + 1, config, turns)).sum() / count
