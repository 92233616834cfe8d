"""Measure how far a model is from the truth, where the truth is known: for data drawn from a known density.

Every measure compares two probabilities on the same grid, P of the data and Q of the model, in nats per observation:

    KL(P || Q) = E_P[log P - log Q]      what a coder that believes in the model wastes; finds what the model lacks
    KL(Q || P) = E_Q[log Q - log P]      finds what the model makes up
    TV(P, Q) = ½ Σ |P - Q|               the largest error in the probability of any event, from 0 to 1

Over the whole grid, in one and two dimensions, these are sums: exact if both probabilities are. In more dimensions an
expectation is a mean over draws, and its standard error is theirs. With a lower bound in place of log Q the first is
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
from lookalike.metrics import Score
from lookalike.workspace.arguments import target
from lookalike.workspace.errors import UserError

Floats = NDArray[np.float64]

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


def forward_kl(log_p: Floats, log_q: Floats) -> Score:
    """Return KL(P || Q) from log P and log Q of draws from P `[N]`, which are held-out data.

    The standard error is that of the mean. The value is infinite, without an error, where a draw has probability 0
    under Q.
    """
    return mean_difference(log_p, log_q, drawn_from="P")


def reverse_kl(log_p: Floats, log_q: Floats) -> Score:
    """Return KL(Q || P) from log P and log Q of draws from Q `[N]`, which are samples of the model.

    The standard error is that of the mean. The value is infinite, without an error, where a draw has probability 0
    under P: `share_outside` says how many have.
    """
    return mean_difference(log_q, log_p, drawn_from="Q")


def mean_difference(own: Floats, other: Floats, *, drawn_from: str) -> Score:
    """Return the mean of own - other `[N]` and its standard error."""
    check(own, other)
    check_drawn(own, drawn_from)
    if np.isneginf(other).any():
        return Score(math.inf, math.nan)
    difference = own - other
    return Score(float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference))))


def share_outside(log_p: Floats) -> Score:
    """Return the share of draws `[N]` that have probability 0 under P, and its binomial standard error."""
    share = float(np.isneginf(log_p).mean())
    return Score(share, math.sqrt(share * (1 - share) / len(log_p)))


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


def total_variation_from_draws(log_p: Floats, log_q: Floats) -> Score:
    """Return TV(P, Q) = E_P[max(0, 1 - Q / P)] and its standard error, from log P and log Q of draws from P `[N]`.

    Exact on average where log Q is, in any number of dimensions; a lower bound in its place makes it an upper one.
    """
    check(log_p, log_q)
    check_drawn(log_p, "P")
    lacking = -np.expm1(np.minimum(log_q - log_p, 0.0))
    return Score(float(lacking.mean()), float(lacking.std(ddof=1) / math.sqrt(len(lacking))))


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
