"""How far a model is from the truth, where the truth is known: data sets whose reader has a `log_prob`.

All is a comparison of two probabilities on the same grid, P of the data and Q of the model, in nats an observation:

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

from lookalike.core.config import target
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.metrics import Score

Floats = NDArray[np.float64]
LogProb = Callable[[NDArray[Any]], Floats]

MOST = 2**20
"""Grid points that are summed over at most."""


def known(reader: dict[str, Any]) -> LogProb | None:
    """log P of grid points `[N, *shape]` in nats `[N]`, of the data that a configured reader draws.

    None where the reader reads what nobody knows the distribution of.
    """
    module = importlib.import_module(target(reader, package="lookalike.data").__module__)
    log_prob = getattr(module, "log_prob", None)
    return None if log_prob is None else functools.partial(log_prob, density=reader["density"])


def whole_grid(domain: Domain) -> NDArray[np.int64]:
    """Every grid point `[levels ** D, D]` of a domain of vectors, the last dimension fastest.

    Raises:
        UserError: images, or more grid points than can be summed over.
    """
    if domain.kind != "vector" or domain.levels**domain.dimensions > MOST:
        raise UserError(f"{domain.name}: no sum over {domain.levels}^{domain.dimensions} grid points; draw instead")
    return np.indices((domain.levels,) * domain.dimensions).reshape(domain.dimensions, -1).T


def forward_kl(log_p: Floats, log_q: Floats) -> Score:
    """KL(P || Q) from log P and log Q of draws from P `[N]`: held-out data, that the model has not seen.

    The standard error is that of the mean. Infinite, without error, where a draw has probability 0 under Q.
    """
    return mean_difference(log_p, log_q, drawn_from="P")


def reverse_kl(log_p: Floats, log_q: Floats) -> Score:
    """KL(Q || P) from log P and log Q of draws from Q `[N]`: samples of the model.

    The standard error is that of the mean. Infinite, without error, where a draw has probability 0 under P:
    `share_outside` says how many have.
    """
    return mean_difference(log_q, log_p, drawn_from="Q")


def mean_difference(own: Floats, other: Floats, *, drawn_from: str) -> Score:
    """Mean of own - other `[N]` and its standard error."""
    check(own, other)
    check_drawn(own, drawn_from)
    if np.isneginf(other).any():
        return Score(math.inf, math.nan)
    difference = own - other
    return Score(float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference))))


def share_outside(log_p: Floats) -> Score:
    """Share of draws `[N]` that have probability 0 under P, and its binomial standard error."""
    share = float(np.isneginf(log_p).mean())
    return Score(share, math.sqrt(share * (1 - share) / len(log_p)))


def kl_on_grid(log_p: Floats, log_q: Floats) -> float:
    """KL(P || Q) from log P and log Q of every grid point, exact if these are; P must sum to 1."""
    check(log_p, log_q)
    check_sum(log_p, "P")
    held = ~np.isneginf(log_p)
    return float((np.exp(log_p[held]) * (log_p[held] - log_q[held])).sum())


def total_variation_on_grid(log_p: Floats, log_q: Floats) -> float:
    """TV(P, Q) from log P and log Q of every grid point.

    Exact if both are and sum to 1. A Q that sums to less, a lower bound, has the missing probability counted as
    misplaced, so TV is as large as it can be.
    """
    check(log_p, log_q)
    check_sum(log_p, "P")
    p, q = np.exp(log_p), np.exp(log_q)
    return float(0.5 * (np.abs(p - q).sum() + max(0.0, 1.0 - q.sum())))


def total_variation_from_draws(log_p: Floats, log_q: Floats) -> Score:
    """TV(P, Q) = E_P[max(0, 1 - Q / P)] from log P and log Q of draws from P `[N]`, and its standard error.

    Exact on average where log Q is, in any number of dimensions; a lower bound in its place makes it an upper one.
    """
    check(log_p, log_q)
    check_drawn(log_p, "P")
    lacking = -np.expm1(np.minimum(log_q - log_p, 0.0))
    return Score(float(lacking.mean()), float(lacking.std(ddof=1) / math.sqrt(len(lacking))))


def entropy_on_grid(log_p: Floats) -> float:
    """H(P) in nats from log P of every grid point: what no model's likelihood gets below."""
    check_sum(log_p, "P")
    held = ~np.isneginf(log_p)
    return float(-(np.exp(log_p[held]) * log_p[held]).sum())


def check(log_p: Floats, log_q: Floats) -> None:
    """Both `[N]`, neither NaN nor plus infinity."""
    if log_p.shape != log_q.shape or log_p.ndim != 1:
        raise UserError(f"log-probabilities of shapes {log_p.shape} and {log_q.shape}: give one each an observation")
    for name, values in (("P", log_p), ("Q", log_q)):
        if bad := int((np.isnan(values) | np.isposinf(values)).sum()):
            raise UserError(f"{bad} log-probabilities under {name} are NaN or infinite")


def check_drawn(own: Floats, name: str) -> None:
    """That there are draws enough for a standard error, of which none has probability 0 where it comes from."""
    if len(own) < 2:
        raise UserError(f"{len(own)} draws from {name}: a standard error takes two")
    if impossible := int(np.isneginf(own).sum()):
        raise UserError(f"{impossible} draws have probability 0 under {name}, that they are of")


def check_sum(log_p: Floats, name: str) -> None:
    """That probabilities sum to 1 within 1e-6, as those of a whole grid do."""
    if abs((total := float(np.exp(log_p).sum())) - 1) > 1e-6:
        raise UserError(f"{name} sums to {total:.6g}: give every point of the grid once")
