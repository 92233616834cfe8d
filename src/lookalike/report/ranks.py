"""Simultaneous confidence sets for the ranks of the families in one metric.

The order of two families is certain if their difference is larger than what other samples, other test points and other
training seeds would change, for all pairs of the column together: with a probability of 95 %, no order in the whole
column is claimed wrongly. The critical value is that of the largest studentized difference over all pairs, found by
resampling (Mogstad, Romano, Shaikh & Wilhelm, "Inference for ranks with applications to mobility across neighbourhoods
and academic achievement across countries", Review of Economic Studies, 2024), in steps that drop the pairs which are
already certain (Romano & Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing", JASA, 2005).
"""

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Order = NDArray[np.bool_]
"""`[F, F]`: whether the family of the row is certainly ahead of the family of the column."""

CONFIDENCE = 0.95
"""Probability that no order of a column is claimed wrongly."""

POWER = 0.8
"""Probability with which a difference of the stated size would have been certain."""

SEED_DRAWS = 2000
"""Draws of the largest difference where training seeds vary."""

MANY = 1e6
"""Degrees of freedom of an error that is known well."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """The values of F families in one metric, and how far they would vary.

    Attributes:
        values: `[F]`, means over training seeds.
        deviations: `[B, F]`, deviations of resampled values from their mean; a row has the same test points for all.
        seed_variances: `[F]`, variance of each value over training seeds; 0 where there is one seed.
        seed_freedom: `[F]`, degrees of freedom of these variances.
        below: `[F]`, how far below the value the truth may lie because of the kind of a likelihood.
        above: `[F]`, how far above.
        more_is_better: whether more is better, if there is no goal.
        goal: the value that is best, if it is no end of the scale.
        goal_deviations: `[B]`, deviations of the goal, if it is a measured value.
    """

    values: Floats
    deviations: Floats
    seed_variances: Floats
    seed_freedom: Floats
    below: Floats
    above: Floats
    more_is_better: bool = False
    goal: float | None = None
    goal_deviations: Floats | None = None

    @property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Both families of every pair."""
        return np.triu_indices(len(self.values), 1)


def over_seeds(variances: Floats, counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return variances of single values over training seeds, and their degrees of freedom, from few seeds.

    Three seeds can agree by chance. Each variance is therefore averaged with the mean variance of the column, which
    counts as one more degree of freedom (after Smyth, "Linear models and empirical Bayes methods for assessing
    differential expression in microarray experiments", 2004). A variance of exactly 0 stays, because nothing in the
    family depends on the seed.

    Args:
        variances: `[F]`, variances of the values over the seeds; 0 where there is one seed.
        counts: `[F]`, numbers of seeds.
    """
    freedom, varies = np.maximum(1.0, counts - 1.0), variances > 0
    if not varies.any():
        return variances, freedom
    shrunk = (freedom * variances + variances[varies].mean()) / (freedom + 1)
    return np.where(varies, shrunk, 0.0), freedom + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrasts:
    """Differences that decide the order of every pair, C of them per pair, and their errors.

    Without a goal there is one: the second value less the first. With a goal g, a is closer to it than b exactly if
    b - a and a + b - 2g have the same sign, so that the order is certain if both signs are.

    Attributes:
        gaps: `[C, P]`.
        errors: `[C, P]`, standard errors.
        freedom: `[C, P]`, degrees of freedom of the errors, by Welch and Satterthwaite.
        null: `[K, C, P]`, p-values of draws in which all families are equal.
    """

    gaps: Floats
    errors: Floats
    freedom: Floats
    null: Floats


def contrasts(column: Column) -> Contrasts:
    """Return the differences of all pairs of a column, their errors, and what chance alone would show."""
    first, second = column.pairs
    signs = np.array([-1.0] if column.goal is None else [-1.0, 1.0])[:, None]
    goals = 2 * (column.goal or 0.0) * (signs > 0)
    drawn = column.deviations[:, second][:, None] + signs * column.deviations[:, first][:, None]
    if column.goal_deviations is not None:
        drawn = drawn - 2 * column.goal_deviations[:, None, None] * (signs > 0)
    fixed = np.broadcast_to(drawn.var(axis=0, ddof=1), (len(signs), len(first)))
    variances, freedom = column.seed_variances, column.seed_freedom
    if variances.any():
        rng = np.random.default_rng(0)
        size = (SEED_DRAWS, len(variances))
        noise = rng.normal(size=size) * np.sqrt(variances)
        found = variances * rng.chisquare(freedom, size=size) / freedom
        rows = np.arange(SEED_DRAWS) % len(drawn)
        drawn = drawn[rows] + noise[:, None, second] + signs * noise[:, None, first]
    else:
        found = np.zeros((1, len(variances)))
    return Contrasts(
        gaps=column.values[second] + signs * column.values[first] - goals,
        errors=np.sqrt(fixed + variances[first] + variances[second]),
        freedom=welch(fixed, variances[first], variances[second], freedom[first], freedom[second]),
        null=p_values(
            drawn,
            np.sqrt(fixed + (found[:, first] + found[:, second])[:, None]),
            welch(fixed, found[:, None, first], found[:, None, second], freedom[first], freedom[second]),
        ),
    )


def welch(fixed: Floats, one: Floats, other: Floats, one_freedom: Floats, other_freedom: Floats) -> Floats:
    """Return the degrees of freedom of a sum of variances, of which those of the seeds are known from few seeds."""
    rough = one**2 / one_freedom + other**2 / other_freedom
    whole = (fixed + one + other) ** 2
    found: Floats = np.divide(whole, rough, out=np.full(np.shape(whole), MANY), where=rough > 0)
    return np.minimum(MANY, found)


def p_values(gaps: Floats, errors: Floats, freedom: Floats) -> Floats:
    """Return the two-sided p-values of Student's t; a difference without an error is certain, unless it is zero."""
    from scipy.special import ndtr, stdtr

    gaps, errors = np.broadcast_arrays(np.abs(gaps), errors)
    ratio = np.divide(gaps, errors, out=np.where(gaps > 0, np.inf, 0.0), where=errors > 0)
    found: Floats = 2 * (ndtr(-ratio) if np.min(freedom) >= MANY else stdtr(freedom, -ratio))
    return found


def critical(null: Floats) -> float:
    """Return the p-value that the smallest of some pairs `[K, C, P]` stays above with the stated confidence.

    It lies one standard error of the quantile on the safe side, because the draws are few.
    """
    smallest, missed = np.sort(null.min(axis=(1, 2))), 1 - CONFIDENCE
    place = missed * (len(smallest) + 1) - math.sqrt(missed * CONFIDENCE * len(smallest))
    return float(smallest[max(1, int(place)) - 1])


def certain(column: Column, found: Contrasts, *, kinds: bool) -> Order:
    """Return which families are certainly ahead of which.

    Args:
        column: the values.
        found: its contrasts.
        kinds: whether the truth behind a bound or an estimate is meant, and not the number as it is stated.
    """
    first, second = column.pairs
    gaps = np.abs(found.gaps)
    if kinds and column.goal is None:
        # If the second value is larger, the truth of the first may lie above its value, that of the second below.
        slack = np.where(
            found.gaps[0] > 0,
            column.above[first] + column.below[second],
            column.below[first] + column.above[second],
        )
        gaps = np.maximum(0.0, gaps - slack)
    p = p_values(gaps, found.errors, found.freedom).max(axis=0)
    sure = np.zeros(len(first), dtype=bool)
    while not sure.all():
        new = ~sure & (p <= critical(found.null[:, :, ~sure]))
        if not new.any():
            break
        sure |= new
    wins = np.sign(found.gaps).prod(axis=0) * (-1 if column.more_is_better and column.goal is None else 1)
    ahead = np.zeros((len(column.values), len(column.values)), dtype=bool)
    ahead[first, second] = sure & (wins > 0)
    ahead[second, first] = sure & (wins < 0)
    return ahead


def rank_sets(ahead: Order) -> list[tuple[int, int]]:
    """Return the lowest and the highest rank that each family may have."""
    count = len(ahead)
    return [(1 + int(ahead[:, i].sum()), count - int(ahead[i].sum())) for i in range(count)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks of the families of a column.

    Attributes:
        truth: the lowest and the highest rank of each family.
        stated: the same for the numbers as they are stated, whatever the truth behind bounds and estimates.
        resolution: the difference between two families that would have been certain with a probability of 80 %, for a
            pair in the middle; None where there is no pair.
    """

    truth: list[tuple[int, int]]
    stated: list[tuple[int, int]]
    resolution: float | None


def ranks(column: Column) -> Ranks:
    """Return the ranks of all families of a column."""
    if len(column.values) < 2:
        alone = [(1, 1)] * len(column.values)
        return Ranks(truth=alone, stated=alone, resolution=None)
    found = contrasts(column)
    return Ranks(
        truth=rank_sets(certain(column, found, kinds=True)),
        stated=rank_sets(certain(column, found, kinds=False)),
        resolution=resolution(found),
    )


def resolution(found: Contrasts) -> float:
    """Return the difference that a pair in the middle needs to be certain with a probability of 80 %."""
    from scipy.special import stdtrit

    needed = -stdtrit(found.freedom[0], critical(found.null) / 2) + stdtrit(found.freedom[0], POWER)
    return float(np.median(needed * found.errors[0]))


Kind = Literal["exact", "lower bound", "at least", "estimate"]


def slack(kind: Kind, solver_error: float | None = None) -> tuple[float, float]:
    """Return how far below and above a number of bits, or a divergence, the truth may lie, by the kind of likelihood.

    A lower bound on a likelihood makes bits too high. How much too high is unknown, so that two bounds settle nothing.
    An estimate takes a likelihood from a differential equation. With uniform noise on the data it estimates a lower
    bound, so that the truth lies above it by no more than the error of the solver, if that was measured.

    Args:
        kind: the kind of the likelihood in the number.
        solver_error: how much finer steps of the solver would change the number at most; None where it is unknown.
    """
    return {
        "exact": (0.0, 0.0),
        "lower bound": (np.inf, 0.0),
        "at least": (0.0, np.inf),
        "estimate": (np.inf, np.inf if solver_error is None else solver_error),
    }[kind]
