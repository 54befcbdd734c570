"""Dynamic query filtering: a Gaussian mixture over matching costs sets the threshold (method, section 3.3).

The costs of a frame's one-to-many candidates fall into reliable and unreliable ones. A two-component
mixture is fitted to them without supervision; the lower mean is the threshold. It follows the state of
training by itself.

The paper leaves the scope of one fit, its initialisation and the degenerate cases open. Here: one fit for
each decoder layer and stream of a frame; the means start at the lowest and the highest cost, with equal
weights and the whole set's variance; a fixed number of EM steps. No candidate: nothing is kept. One
candidate, or all costs equal: the threshold is that cost, so all are kept.
"""

import math

import torch
from torch import Tensor

EM_STEPS = 20


def fit_mixture(values: Tensor, valid: Tensor, steps: int = EM_STEPS) -> tuple[Tensor, Tensor, Tensor]:
    """Fit many two-component 1-D Gaussian mixtures at once by expectation maximisation.

    Args:
        values: [..., Z] samples.
        valid: [..., Z] bool, which of them exist.
        steps: EM iterations, a fixed number so that nothing waits on the host.

    Returns:
        Weights, means and variances, each [..., 2]. Where no sample exists all are 0.
    """
    values = values.double()
    weight = valid.to(values.dtype)
    count = weight.sum(-1, keepdim=True).clamp(min=1)
    known = torch.where(valid, values, 0.0)
    centre = known.sum(-1, keepdim=True) / count
    variance = ((known - centre) ** 2 * weight).sum(-1, keepdim=True) / count
    some = valid.any(-1, keepdim=True)
    low = torch.where(valid, values, math.inf).amin(-1, keepdim=True)
    high = torch.where(valid, values, -math.inf).amax(-1, keepdim=True)
    means = torch.where(some, torch.cat([low, high], dim=-1), 0.0)
    # The floor keeps a component that holds a single sample, or equal ones, from becoming a spike.
    floor = 1e-6 + 1e-4 * variance
    variances = (variance + floor).expand_as(means)
    weights = torch.full_like(means, 0.5)
    for _ in range(steps):
        deviation = known[..., :, None] - means[..., None, :]
        log_density = -0.5 * (deviation**2 / variances[..., None, :] + variances.log()[..., None, :])
        responsibility = (log_density + weights.clamp(min=1e-12).log()[..., None, :]).softmax(-1)
        responsibility = responsibility * weight[..., None]
        mass = responsibility.sum(-2)
        held = mass.clamp(min=1e-9)
        updated = (responsibility * known[..., None]).sum(-2) / held
        means = torch.where(mass > 1e-9, updated, means)
        deviation = known[..., :, None] - means[..., None, :]
        variances = (responsibility * deviation**2).sum(-2) / held + floor
        weights = mass / count
    return torch.where(some, weights, 0.0), means, torch.where(some, variances, 0.0)


def mixture_threshold(costs: Tensor, valid: Tensor) -> Tensor:
    """Threshold [...]: the lower mean of the mixture fitted to costs [..., Z]; -inf where there is none.

    Where all costs are equal it is that cost, so that rounding cannot drop them.
    """
    if costs.shape[-1] == 0:
        return costs.new_full(costs.shape[:-1], -math.inf)
    _, means, _ = fit_mixture(costs, valid)
    low = torch.where(valid, costs, math.inf).amin(-1)
    high = torch.where(valid, costs, -math.inf).amax(-1)
    threshold = means.amin(-1).to(costs.dtype)
    spread = high - low
    threshold = torch.where(spread <= 1e-6 * low.abs().clamp(min=1), high, threshold)
    # EM cannot leave the data's range; rounding to the costs' precision could.
    threshold = torch.maximum(threshold, low)
    return torch.where(valid.any(-1), threshold, -math.inf)
