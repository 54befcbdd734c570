"""VeloLSTM: a learned motion model (QD-3DT, Hu et al. 2022; CC-3DT, section 3.3).

One LSTM foresees the next box from the last five steps, another says how far to trust a sighting.

Letters: N tracks, T steps of history, H hidden channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from syncl.trackers.cc_3dt.half_turns import normalised, turned_towards
from syncl.trackers.cc_3dt.motion import BOX, Motion, MotionState

_LAYERS = 2
_DROPOUT = 0.1

Hidden = tuple[Tensor, Tensor]
"""State and cell of an LSTM, [layers, N, H] each."""


class VeloLstm(nn.Module):
    """The networks. Boxes are x y z l w h yaw; their differences alone enter the networks."""

    def __init__(self, features: int = 64, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = hidden
        self.step_features = nn.Linear(BOX, features)
        self.score_features = nn.Linear(1, features, bias=False)
        self.foresight = nn.LSTM(features, hidden, _LAYERS, dropout=_DROPOUT)
        self.step_weights = nn.Linear(hidden, BOX, bias=False)
        self.judgement = nn.LSTM(3 * features, hidden, _LAYERS, dropout=_DROPOUT)
        self.trust = nn.Linear(hidden, BOX, bias=False)
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)
            elif parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def predict(self, history: Tensor, boxes: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """The boxes [N, 7] a frame on: by a step that is a weighted sum of those of the history [T, N, 7]."""
        states, hidden = self.foresight(self.step_features(history.to(self.dtype)), hidden)
        weights = self.step_weights(states).softmax(0)
        return boxes + (weights * history).sum(0), hidden

    def refine(
        self, expected: Tensor, seen: Tensor, before: Tensor, scores: Tensor, hidden: Hidden
    ) -> tuple[Tensor, Hidden]:
        """The boxes [N, 7] after a sighting: between the expected step and the one seen.

        Args:
            expected: [N, 7] foreseen boxes.
            seen: [N, 7] detected boxes.
            before: [N, 7] boxes after the sighting before.
            scores: [N] of the detections.
            hidden: of the judging network.
        """
        steps = torch.stack([expected - before, seen - before])
        features = self.step_features(steps.to(self.dtype))
        score = self.score_features(scores[:, None].to(self.dtype))
        states, hidden = self.judgement(torch.cat([*features, score], 1)[None], hidden)
        trust = self.trust(states[0]).sigmoid()
        return before + trust * steps[1] + (1 - trust) * steps[0], hidden

    def fresh(self, tracks: int) -> Hidden:
        """The hidden state of so many new tracks."""
        zeros = self.trust.weight.new_zeros(_LAYERS, tracks, self.hidden)
        return zeros, zeros

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks; boxes have float64."""
        return self.trust.weight.dtype


@dataclass(frozen=True)
class VeloLstmState(MotionState):
    """State of the learned motion model.

    Attributes:
        boxes: [N, 7] float64.
        refined: [N, 7] float64 after the last sighting.
        history: [N, T, 7] float64 steps between sightings, newest last.
        foreseeing: [N, 2, layers, H] hidden state and cell of the foreseeing network.
        judging: the same of the judging network.
        age: [N] int64 predictions so far.
        updates: [N] int64 sightings behind the first.
    """

    boxes: Tensor
    refined: Tensor
    history: Tensor
    foreseeing: Tensor
    judging: Tensor
    age: Tensor
    updates: Tensor


class VeloLstmMotion(Motion):
    """VeloLSTM as the tracker uses it.

    As published, a track's step is counted from its last sighting, also where it has coasted since; and the
    whole history is read anew with the hidden state of the frame before.
    """

    def __init__(self, history: int = 5) -> None:
        super().__init__()
        self.history = history
        self.network = VeloLstm()

    def start(self, boxes: Tensor) -> VeloLstmState:
        """See `Motion.start`."""
        count = len(boxes)
        hidden = _by_row(self.network.fresh(count))
        numbers = torch.zeros(count, dtype=torch.int64, device=boxes.device)
        history = boxes.new_zeros(count, self.history, BOX)
        return VeloLstmState(boxes, boxes, history, hidden, hidden, numbers, numbers)

    def predict(self, state: MotionState) -> tuple[VeloLstmState, Tensor]:
        """See `Motion.predict`; the first prediction of a track changes nothing but its age."""
        assert isinstance(state, VeloLstmState)
        boxes, hidden = self._foreseen(state, state.boxes)
        going = state.age > 0
        later = replace(
            state,
            boxes=torch.where(going[:, None], boxes, state.boxes),
            foreseeing=torch.where(going[:, None, None, None], hidden, state.foreseeing),
            age=state.age + 1,
        )
        return later, (boxes - state.refined)[:, :3]

    def update(self, state: MotionState, boxes: Tensor, scores: Tensor) -> VeloLstmState:
        """See `Motion.update`."""
        assert isinstance(state, VeloLstmState)
        expected = torch.where((state.age == 1)[:, None], boxes, state.boxes)
        yaw = normalised(boxes[:, 6])
        expected = _turned(expected, turned_towards(normalised(expected[:, 6]), yaw))
        seen = _turned(boxes, yaw)
        if not len(boxes):
            return state
        refined, hidden = self.network.refine(expected, seen, state.refined, scores, _by_layer(state.judging))
        refined = _turned(refined, normalised(refined[:, 6]))
        step = (refined - state.refined)[:, None]
        shifted = torch.cat([state.history[:, 1:], step], 1)
        first = (state.updates == 0)[:, None, None]
        return replace(
            state,
            boxes=refined,
            refined=refined,
            history=torch.where(first, step.expand_as(shifted), shifted),
            judging=_by_row(hidden),
            updates=state.updates + 1,
        )

    def steps(self, state: MotionState) -> Tensor:
        """See `Motion.steps`."""
        assert isinstance(state, VeloLstmState)
        boxes, _ = self._foreseen(state, state.boxes)
        return (boxes - state.refined)[:, :3]

    def _foreseen(self, state: VeloLstmState, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if not len(boxes):
            return boxes, state.foreseeing
        history = state.history.transpose(0, 1)
        boxes, hidden = self.network.predict(history, boxes, _by_layer(state.foreseeing))
        return _turned(boxes, normalised(boxes[:, 6])), _by_row(hidden)


def _turned(boxes: Tensor, yaw: Tensor) -> Tensor:
    return torch.cat([boxes[:, :6], yaw[:, None]], 1)


def _by_row(hidden: Hidden) -> Tensor:
    return torch.stack(hidden).permute(2, 0, 1, 3)


def _by_layer(rows: Tensor) -> Hidden:
    state, cell = rows.permute(1, 2, 0, 3).contiguous()
    return state, cell
