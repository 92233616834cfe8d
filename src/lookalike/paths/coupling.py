"""Couplings: the assignment of noise to the observations of a batch."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def optimal_coupling(noise: Tensor, x: Tensor, labels: Tensor | None) -> Tensor:
    """Return the order of the noise `[N]` that minimizes its summed squared distance to the data: `noise[order]`.

    Every class gets noise of its own. An assignment over the whole batch would make the noise depend on the class, and
    samples that start from any noise would not follow the distribution of a class.

    Args:
        noise, x: `[N, *shape]`.
        labels: class numbers `[N]`, or None.
    """
    rows = torch.arange(len(x), device=x.device)
    order = rows.clone()
    for group in [rows] if labels is None else [rows[labels == label] for label in labels.unique()]:
        distances = torch.cdist(x[group].flatten(1), noise[group].flatten(1)).square().double()
        _, columns = linear_sum_assignment(distances.cpu().numpy())
        order[group] = group[torch.from_numpy(columns).to(x.device)]
    return order
