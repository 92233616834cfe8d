"""Measure how far a model is from the truth, where the truth is known: for data drawn from a known density.

Every measure compares two probabilities on the same grid, P of the data and Q of the model, in nats per observation:

    KL(P || Q) = E_P[log P - log Q]      what a coder that believes in the model wastes; finds what the model lacks
    KL(Q || P) = E_Q[log Q - log P]      finds what the model makes up
    TV(P, Q) = ½ Σ |P - Q|               the largest error in the probability of any event, from 0 to 1

Over the whole grid, in one and two dimensions, these are sums: exact if both probabilities are. In more dimensions an
expectation is a mean over draws, which are resampled for its error. With a lower bound in place of log Q the first is
an upper bound and the second a lower one (it may be negative); with an estimate both are estimates.
"""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.metrics.resamples import Floats, Resampled, equal, mean_of_reference, mean_of_samples
from lookalike.workspace.arguments import target
from lookalike.workspace.errors import UserError

LogProb = Callable[[NDArray[Any]], Floats]

DENSITIES = "lookalike.readers.densities"
"""The package of the readers that draw from a known density."""

MAX_GRID_POINTS = 2**20
"""Largest number of grid points that are summed over."""


def known(reader: dict[str, Any]) -> LogProb | None:
    """Return the function from grid points `[N, *shape]` to log P `[N]` in nats, of the data that a reader draws.

    Only the known densities have one; for data of an unknown distribution the answer is None.
    """
    if not str(reader["_target_"]).startswith(f"{DENSITIES}."):
        return None
    module = importlib.import_module(target(reader, package=DENSITIES).__module__)
    return functools.partial(module.log_prob, density=reader["density"])


def whole_grid(domain: Domain) -> NDArray[np.int64]:
    """Return every grid point `[levels ** D, *shape]` of a domain, the last place fastest.

    Raises:
        UserError: there are more grid points than can be summed over.
    """
    if domain.levels**domain.dimensions > MAX_GRID_POINTS:
        raise UserError(f"{domain.name}: no sum over {domain.levels}^{domain.dimensions} grid points; draw instead")
    return np.indices((domain.levels,) * domain.dimensions).reshape(domain.dimensions, -1).T.reshape(-1, *domain.shape)


def forward_kl(log_p: Floats, log_q: Floats, weights: NDArray[Any] | None = None) -> Resampled:
    """Return KL(P || Q) from log P and log Q of draws from P `[N]`, which are held-out data with weights `[1 + B, N]`.

    The value and all replicates are infinite where a draw has probability 0 under Q.
    """
    difference = differences(log_p, log_q, drawn_from="P")
    return mean_of_reference(difference, equal(len(log_p)).samples if weights is None else weights)


def reverse_kl(log_p: Floats, log_q: Floats, weights: NDArray[Any] | None = None) -> Resampled:
    """Return KL(Q || P) from log P and log Q of draws from Q `[N]`, samples of the model with weights `[1 + B, N]`.

    The value and all replicates are infinite where a draw has probability 0 under P; `share_outside` counts them.
    """
    difference = differences(log_q, log_p, drawn_from="Q")
    return mean_of_samples(difference, equal(len(log_q)).samples if weights is None else weights)


def differences(own: Floats, other: Floats, *, drawn_from: str) -> Floats:
    """Return own - other `[N]`, all infinite if one is."""
    check(own, other)
    check_drawn(own, drawn_from)
    difference: Floats = own - other
    return np.full(len(own), math.inf) if np.isposinf(difference).any() else difference


def share_outside(log_p: Floats, weights: NDArray[Any] | None = None) -> Resampled:
    """Return the share of draws `[N]`, of weights `[1 + B, N]`, that have probability 0 under P."""
    outside = np.isneginf(log_p).astype(np.float64)
    return mean_of_samples(outside, equal(len(log_p)).samples if weights is None else weights)


def kl_on_grid(log_p: Floats, log_q: Floats) -> float:
    """Return KL(P || Q) from log P and log Q of every grid point, exact if these are; P must sum to 1."""
    check(log_p, log_q)
    check_sum(log_p, "P")
    held = ~np.isneginf(log_p)
    return float((np.exp(log_p[held]) * (log_p[held] - log_q[held])).sum())


def total_variation_on_grid(log_p: Floats, log_q: Floats) -> float:
    """Return TV(P, Q) from log P and log Q of every grid point.

    Exact if both are and sum to 1. A Q that sums to less, a lower bound, has the missing probability counted as
    misplaced, so TV is as large as it can be.
    """
    check(log_p, log_q)
    check_sum(log_p, "P")
    p, q = np.exp(log_p), np.exp(log_q)
    return float(0.5 * (np.abs(p - q).sum() + max(0.0, 1.0 - q.sum())))


def total_variation_from_draws(log_p: Floats, log_q: Floats, weights: NDArray[Any] | None = None) -> Resampled:
    """Return TV(P, Q) = E_P[max(0, 1 - Q / P)] from log P and log Q of draws from P `[N]`, of weights `[1 + B, N]`.

    Exact on average where log Q is, in any number of dimensions; a lower bound in its place makes it an upper one.
    """
    check(log_p, log_q)
    check_drawn(log_p, "P")
    lacking = -np.expm1(np.minimum(log_q - log_p, 0.0))
    return mean_of_reference(lacking, equal(len(log_p)).samples if weights is None else weights)


def entropy_on_grid(log_p: Floats) -> float:
    """Return H(P) in nats from log P of every grid point: no model needs fewer nats on average."""
    check_sum(log_p, "P")
    held = ~np.isneginf(log_p)
    return float(-(np.exp(log_p[held]) * log_p[held]).sum())


def check(log_p: Floats, log_q: Floats) -> None:
    """Raise a UserError unless both are `[N]` and neither holds NaN or plus infinity."""
    if log_p.shape != log_q.shape or log_p.ndim != 1:
        raise UserError(f"log-probabilities of shapes {log_p.shape} and {log_q.shape}: give one each per observation")
    for name, values in (("P", log_p), ("Q", log_q)):
        if bad := int((np.isnan(values) | np.isposinf(values)).sum()):
            raise UserError(f"{bad} log-probabilities under {name} are NaN or infinite")


def check_drawn(own: Floats, name: str) -> None:
    """Raise a UserError if draws are too few for a standard error, or impossible under their own distribution."""
    if len(own) < 2:
        raise UserError(f"{len(own)} draws from {name}: a standard error needs at least two")
    if impossible := int(np.isneginf(own).sum()):
        raise UserError(f"{impossible} draws from {name} have probability 0 under it")


def check_sum(log_p: Floats, name: str) -> None:
    """Raise a UserError unless the probabilities of a whole grid sum to 1 within 1e-6."""
    if abs((total := float(np.exp(log_p).sum())) - 1) > 1e-6:
        raise UserError(f"{name} sums to {total:.6g}: give every point of the grid once")
