"""Start training at every place's own distribution, whatever the network sees."""

import torch
from torch import Tensor, nn

SHRINKAGE = 10
"""Observations that the pooled moments of all places count for in the moments of one place."""


def marginal_mixture(
    counts: Tensor, values: Tensor, *, components: int, ends: bool, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a mixture for every place of the training set: logits, means and standard deviations.

    Args:
        counts: how often each grid point occurs at each place, `[places, levels]`.
        values: working units of the grid points, `[places, levels]` or `[1, levels]`.
        components: components side by side for what is not at an end of the grid.
        ends: whether the two ends of the grid, where most pixels of ink and paper are, have one narrow component each;
            these come first.
        step: width of a grid step in working units, `[places]` or `[1]`.

    Returns:
        Three tensors `[components (+ 2), places]`.
    """
    n = counts[0].sum()
    rest = counts.double().clone()
    if ends:
        rest[:, 0] = rest[:, -1] = 0
    values = values.double().expand(rest.shape)
    count = rest.sum(1)
    if count.sum() > 1:
        centre = (rest * values).sum() / count.sum()
        std = ((rest * (values - centre) ** 2).sum() / (count.sum() - 1)).sqrt()
    else:
        centre = (counts * values).sum() / counts.sum()
        std = ((counts * (values - centre) ** 2).sum() / (counts.sum() - 1)).sqrt()
    # Shrink sparse places towards the pooled moments.
    mean = ((rest * values).sum(1) + SHRINKAGE * centre) / (count + SHRINKAGE)
    squares = (rest * (values - mean[:, None]) ** 2).sum(1)
    deviation = ((squares + SHRINKAGE * std**2) / (count + SHRINKAGE)).sqrt()
    quantiles = (torch.arange(components, device=counts.device, dtype=torch.float64) + 0.5) / components
    at_ends = [0, counts.shape[1] - 1] if ends else []
    shares = [counts[:, level].double() for level in at_ends] + [count / components] * components
    means = [values[:, level] for level in at_ends]
    means += [mean + place * deviation for place in torch.special.ndtri(quantiles)]
    stds = [(0.1 * step.double()).expand(mean.shape)] * len(at_ends) + [deviation / components**0.5] * components
    logits = torch.log((torch.stack(shares) + 1) / n)
    return logits.float(), torch.stack(means).float(), torch.stack(stds).float()


def zero_last_layer(network: nn.Module) -> None:
    """Let a network begin as the constant 0."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
