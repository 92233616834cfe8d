"""Compare likelihoods on common test points, where some families were scored on fewer points than others.

A family that was scored on a part of the test points is anchored to one that was scored on all of them. Both find the
same points hard, so that the anchor's mean over the part, against its mean over all, says how hard the part is:

    m = mean_S(x) - β (mean_S(a) - mean_T(a)),    β = cov_S(x, a) / var_S(a)

with the bits x of the family, a of the anchor, the part S and all points T. This is the regression estimator of
two-phase sampling, or a control variate (Cochran, Sampling Techniques, 1977, section 12.5).
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """Bits of one family: `rows` `[n]` of the split, in order, and `bits` `[S, n]` for each training seed."""

    rows: NDArray[np.int64]
    bits: Floats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchored:
    """The mean bits of one family over all points.

    Attributes:
        values: `[S]`, for each training seed.
        influence: `[T]`, the share of every point of the column in the deviation of the mean from its expectation. Its
            squares sum up to the squared standard error, and those of a difference to that of a difference.
        anchor: the family that it is anchored to; empty where it was scored on as many points as any other.
        shift: what the anchor has added to the mean.
        rest: the standard error that its own points leave; of several anchors the one that leaves least is taken.
    """

    values: Floats
    influence: Floats
    rest: float
    anchor: str = ""
    shift: float = 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean, as far as test points cause it."""
        return float(np.linalg.norm(self.influence))


def anchored(families: dict[str, Scored]) -> dict[str, Anchored]:
    """Return the mean bits of every family over the points of the one that was scored on most of them."""
    if not families:
        return {}
    points = np.unique(np.concatenate([scored.rows for scored in families.values()]))
    most = max(len(scored.rows) for scored in families.values())
    anchors = {name: scored for name, scored in families.items() if len(scored.rows) == most}
    found = {}
    for name, scored in families.items():
        places = np.searchsorted(points, scored.rows)
        own = influence(scored.bits.mean(axis=0), places, points)
        alone = Anchored(values=scored.bits.mean(axis=1), influence=own, rest=float(np.linalg.norm(own)))
        others = [on_anchor(scored, anchor, points, name=other) for other, anchor in anchors.items() if other != name]
        found[name] = min([alone, *filter(None, others)], key=lambda one: one.rest)
    return found


def on_anchor(scored: Scored, anchor: Scored, points: NDArray[np.int64], *, name: str) -> Anchored | None:
    """Return the mean bits of a family anchored to another one, or None if it cannot serve as an anchor."""
    places = np.searchsorted(anchor.rows, scored.rows)
    if len(anchor.rows) <= len(scored.rows) or not np.isin(scored.rows, anchor.rows).all():
        return None
    own, whole = scored.bits.mean(axis=0), anchor.bits.mean(axis=0)
    part = whole[places]
    if len(own) < 3 or not np.ptp(part):
        return None
    slope = float(np.cov(own, part)[0, 1] / part.var(ddof=1))
    shift = slope * float(whole.mean() - part.mean())
    rest = influence(own - slope * part, np.searchsorted(points, scored.rows), points, fitted=2)
    return Anchored(
        values=scored.bits.mean(axis=1) + shift,
        influence=rest + slope * influence(whole, np.searchsorted(points, anchor.rows), points),
        rest=float(np.linalg.norm(rest)),
        anchor=name,
        shift=shift,
    )


def influence(bits: Floats, places: NDArray[np.intp], points: NDArray[np.int64], *, fitted: int = 1) -> Floats:
    """Return the influence of every point on the mean of bits `[n]` at some places; 0 at all others.

    `fitted` is the number of fitted coefficients, for which the influence makes up.
    """
    found = np.zeros(len(points))
    # Differences to the first value: equal values have an influence of exactly 0.
    apart = bits - bits[0]
    found[places] = (apart - apart.mean()) / np.sqrt(len(bits) * max(1, len(bits) - fitted))
    return found


def resampled(influences: Floats, *, draws: int, seed: int = 0) -> Floats:
    """Return deviations `[draws, F]` of means whose influences `[T, F]` are given, under other test points.

    Every point gets a weight with an exponential distribution (Rubin, "The Bayesian bootstrap", 1981).
    """
    rng = np.random.default_rng(seed)
    blocks = np.array_split(np.arange(draws), -(-draws // 100))
    return np.concatenate([(rng.exponential(size=(len(block), len(influences))) - 1) @ influences for block in blocks])
