"""First guess at the component of each observation, from which the fit of a mixture starts."""

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor


def clusters(y: Tensor, count: int) -> Tensor:
    """Return a first guess at which of `count` components each row of `[N, D]` comes from, by k-means."""
    seed = int(torch.randint(2**31, ()))
    few = min(count, len(y))
    _, labels = kmeans2(y.cpu().numpy(), few, iter=10, minit="++", missing="warn", rng=np.random.default_rng(seed))
    return torch.from_numpy(labels).long().to(y.device)
