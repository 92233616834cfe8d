"""Which noise goes to which observation of a batch."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def optimal_coupling(noise: Tensor, x: Tensor, labels: Tensor | None) -> Tensor:
    """The order of the noise `[N]` in which its summed squared distance to the data is least: `noise[order]`.

    Every class is dealt noise of its own. Dealt out over the whole batch, noise would tell of the class, and what
    starts from any noise would be no sample of a class.

    Args:
        noise, x: `[N, *shape]`.
        labels: class numbers `[N]`, or None.
    """
    rows = torch.arange(len(x), device=x.device)
    order = rows.clone()
    for group in [rows] if labels is None else [rows[labels == label] for label in labels.unique()]:
        distances = torch.cdist(x[group].flatten(1), noise[group].flatten(1)).square().double()
        _, chosen = linear_sum_assignment(distances.cpu().numpy())
        order[group] = group[torch.from_numpy(chosen).to(x.device)]
    return order
