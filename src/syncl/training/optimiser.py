"""Parameter groups, schedule and weight averaging."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from syncl.training.config import OptimiserConfig

_BACKBONE = "image_encoder.backbone."


def build_optimiser(module: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over trainable parameters: backbone and others apart; biases and norms without weight decay
    unless configured.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed = config.decay_all or parameter.dim() > 1
            groups.setdefault((_BACKBONE in name, decayed), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config.learning_rate * (config.backbone_scale if in_backbone else 1.0),
                "weight_decay": config.weight_decay if decayed else 0.0,
            }
            for (in_backbone, decayed), parameters in groups.items()
        ],
        fused=True,
    )


def learning_rate_factor(config: OptimiserConfig, steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at each step: linear warm-up, then cosine to `final_scale`."""

    def factor(step: int) -> float:
        progress = min(step / max(steps, 1), 1.0)
        cosine = config.final_scale + (1 - config.final_scale) * (1 + math.cos(math.pi * progress)) / 2
        if step < config.warmup_steps:
            ramp = config.warmup_start + (1 - config.warmup_start) * step / config.warmup_steps
            return cosine * ramp
        return cosine

    return factor


class WeightAverage:
    """Exponential moving average of a module's floating point state; other entries are copied.

    The decay starts low and rises to its final value, so that the first weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present state into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = [(self.average[name], tensor) for name, tensor in module.state_dict().items()]
        for average, tensor in pairs:
            if not average.dtype.is_floating_point:
                average.copy_(tensor)
        averages, tensors = zip(*(pair for pair in pairs if pair[0].dtype.is_floating_point))
        torch._foreach_lerp_(averages, tensors, 1 - decay)

    def load_state_dict(self, average: Mapping[str, Tensor], updates: int) -> None:
        """Go on from a saved average.

        Raises:
            ValueError: if it is of another module.
        """
        if {name: tensor.shape for name, tensor in average.items()} != {
            name: tensor.shape for name, tensor in self.average.items()
        }:
            raise ValueError("the average is of other weights")
        for name, tensor in average.items():
            self.average[name].copy_(tensor)
        self.updates = updates
