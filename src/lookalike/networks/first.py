"""Where training starts: at every dimension's own distribution, whatever the network is shown."""

import torch
from torch import Tensor, nn

from lookalike.core.likelihood import WorkingUnits


def marginal_mixture(x: Tensor, units: WorkingUnits, *, components: int, ends: bool) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture in every dimension of the training set `[N, *shape]`: logits, means, standard deviations.

    Args:
        x: grid points.
        units: of the domain; means and deviations are in working units.
        components: for what is not at an end, side by side.
        ends: whether the two ends of the grid, where most pixels are, have a component each, the first two. Their means
            are exact and their deviations a tenth of a grid step.

    Returns:
        Each `[components (+ 2), *shape]`.
    """
    y = units(x)
    levels = [0, units.levels - 1] if ends else []
    parts = [x == level for level in levels]
    rest = ~torch.stack(parts).any(0) if parts else torch.ones_like(x, dtype=torch.bool)
    count = rest.float().sum(0)
    # A little of all dimensions' distribution for those that say little.
    centre, spread = (y[rest].mean(), y[rest].std()) if count.sum() > 1 else (y.mean(), y.std())
    mean = ((y * rest).sum(0) + 10 * centre) / (count + 10)
    deviation = (((y - mean) ** 2 * rest).sum(0) + 10 * spread**2).div(count + 10).sqrt()
    places = torch.special.ndtri((torch.arange(components) + 0.5) / components)
    shares = [part.float().sum(0) for part in parts] + [count / components] * components
    means = [units(torch.full_like(x[0], level)) for level in levels] + [mean + place * deviation for place in places]
    narrow = (0.1 / units.scale).expand(mean.shape)
    deviations = [narrow] * len(levels) + [deviation / components**0.5] * components
    return torch.log((torch.stack(shares) + 1) / len(x)), torch.stack(means), torch.stack(deviations)


def zero_last_layer(network: nn.Module) -> None:
    """Let a network begin as a constant 0."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
