"""Where a mixture's fit begins: a first guess at which component each observation is of."""

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor


def clusters(y: Tensor, count: int) -> Tensor:
    """A first guess at which of `count` components each row of `[N, D]` is of, by k-means."""
    seed = int(torch.randint(2**31, ()))
    few = min(count, len(y))
    _, labels = kmeans2(y.numpy(), few, iter=10, minit="++", missing="warn", rng=np.random.default_rng(seed))
    return torch.from_numpy(labels).long()
