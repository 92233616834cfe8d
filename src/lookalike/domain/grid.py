"""The integer grid that every likelihood is stated on: bits, noise per observation, averages of likelihoods.

A grid point k owns the interval [k - 1/2, k + 1/2]. A density p on the reals gives it the probability
P(k) = ∫ p(k + u - 1/2) du over u in [0, 1]. By Jensen's inequality E_u[log p(k + u - 1/2)] is a lower bound on
log P(k); averaging p over several u before the logarithm tightens it (Theis et al., A note on the evaluation of
generative models, 2016, arXiv:1511.01844; Burda et al., Importance weighted autoencoders, 2016, arXiv:1509.00519).
"""

import hashlib
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lookalike.domain.domain import Domain

LikelihoodKind = Literal["exact", "lower bound", "estimate"]


def bits_per_dimension(nats: Tensor, domain: Domain) -> Tensor:
    """Return log-likelihoods in nats per observation `[N]` as bits per dimension; fewer are better."""
    return -nats / (math.log(2) * domain.dimensions)


def row_noise(
    x: Tensor, shape: tuple[int, ...], *, distribution: Literal["normal", "uniform", "sign"], seed: int
) -> Tensor:
    """Draw noise `[N, *shape]` that depends on each observation's own grid points and the seed alone.

    A likelihood that is estimated with it is a function of the observation: it depends neither on the batch that the
    observation came in nor on its place there. The generator is NumPy's Philox, keyed by a hash of the row.
    """
    rows = x.detach().cpu().contiguous().to(torch.uint8 if x.dtype == torch.uint8 else torch.int32).numpy()
    noise = np.empty((len(rows), *shape), dtype=np.float32)
    for row, out in zip(rows, noise, strict=True):
        key = hashlib.blake2b(row.tobytes(), digest_size=8, salt=seed.to_bytes(8, "little")).digest()
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        if distribution == "normal":
            generator.standard_normal(out=out, dtype=np.float32)
        elif distribution == "uniform":
            generator.random(out=out, dtype=np.float32)
        else:
            out[...] = generator.integers(0, 2, size=shape) * 2.0 - 1.0
    return torch.from_numpy(noise).to(x.device)


def log_mean_exp(log_weights: Tensor, dim: int) -> Tensor:
    """Return log of the mean of exp along a dimension: an importance-weighted bound from its log-weights."""
    return torch.logsumexp(log_weights, dim=dim) - math.log(log_weights.shape[dim])
