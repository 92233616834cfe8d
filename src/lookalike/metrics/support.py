"""Fidelity and diversity: do samples lie where real points lie, and does every real point have samples near it?

B(x) is the open ball around x that reaches to its k-th nearest neighbour in its own set. For samples Y and reference X:

    precision = share of Y in any B(x)                 recall   = share of X in any B(y)
    density   = mean over Y of the number of balls B(x) around it, divided by k
    coverage  = share of X whose B(x) holds any of Y

(Kynkäänniemi et al., Improved precision and recall metric, 2019, arXiv:1904.06991; Naeem et al., Reliable fidelity and
diversity metrics, 2020, arXiv:2002.09797.) The ball of a point with more than k copies is empty.

The nearest-sample distance is the mean distance from a reference point to the nearest sample.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import Score, jackknife
from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import COLUMNS, ROWS, Floats, nearest, pieces, squared_distances

INSIDE = 1 - 1e-10
"""Factor of squared radii, so that a point on the edge is outside in spite of rounding errors."""


class Gaps(NamedTuple):
    """Where the two sets differ: distances to the nearest point of the other set, in radii of a point's own ball.

    A reference point with more than one is not covered. The largest values belong to places where one set is dense and
    the other one is absent, not to outliers, whose balls are wide. A value is infinite where the ball of a point is
    empty and no point of the other set equals it.

    Attributes:
        missed: distances `[M]` of reference points to the nearest sample.
        made_up: distances `[N]` of samples to the nearest reference point.
    """

    missed: Floats
    made_up: Floats


class Support(NamedTuple):
    """Scores of one pass over the distances between samples and reference; the last one in units of the features."""

    precision: Score
    recall: Score
    density: Score
    coverage: Score
    nearest_sample_distance: Score


def support(samples: NDArray[Any], reference: NDArray[Any], *, k: int = 5) -> Support:
    """Return the scores of `support_and_gaps` alone."""
    return support_and_gaps(samples, reference, k=k)[0]


def support_and_gaps(samples: NDArray[Any], reference: NDArray[Any], *, k: int = 5) -> tuple[Support, Gaps]:
    """Return scores of samples `[N, D]` against a reference `[M, D]`, and where the two sets differ.

    Errors are those of drawing new samples with the reference fixed: of a mean over samples, or of a jackknife over
    groups where samples act together, which for recall is up to twice too large. Memory grows with N and M, not with
    their product.

    Raises:
        UserError: a set has no more than k points.
    """
    check(min_rows=k + 1, samples=samples, reference=reference)
    groups = jackknife.split(len(samples))
    radii = INSIDE * nearest(reference, reference, k=k, others=True)[0][:, -1] ** 2
    own_radii, wider = sample_radii(samples, groups, k=k)
    widest = wider.max(axis=0)
    balls = np.zeros(len(samples))
    # For every reference point: distance to the nearest sample of each group; whether it is in the ball of a sample.
    near = np.full((len(groups), len(reference)), np.inf)
    close = np.full(len(samples), np.inf)
    held, held_without = np.zeros(len(reference), dtype=bool), np.zeros(near.shape, dtype=bool)
    for g, members in enumerate(groups):
        for part in pieces(len(members), ROWS):
            rows = members[part]
            for columns in pieces(len(reference), COLUMNS):
                squared = squared_distances(samples[rows], reference[columns])
                balls[rows] += np.bincount(np.nonzero(squared < radii[columns])[0], minlength=len(rows))
                near[g, columns] = np.minimum(near[g, columns], squared.min(axis=0))
                close[rows] = np.minimum(close[rows], squared.min(axis=1))
                sample, point = np.nonzero(squared < widest[rows, None])
                distance, sample, point = squared[sample, point], rows[sample], point + columns.start
                held[point[distance < own_radii[sample]]] = True
                without, pair = np.nonzero(distance < wider[:, sample])
                held_without[without, point[pair]] = True
    near_without = np.array([np.delete(near, g, axis=0).min(axis=0) for g in range(len(groups))])
    nearest_of_all = near.min(axis=0)
    scores = Support(
        precision=mean_over_samples(balls > 0),
        recall=mean_over_reference(held, held_without),
        density=mean_over_samples(balls / k),
        coverage=mean_over_reference(np.less(nearest_of_all, radii), near_without < radii),
        nearest_sample_distance=mean_over_reference(np.sqrt(nearest_of_all), np.sqrt(near_without)),
    )
    return scores, Gaps(missed=in_radii(nearest_of_all, radii), made_up=in_radii(close, own_radii))


def in_radii(squared: Floats, radii: Floats) -> Floats:
    """Return the square roots `[N]` of squared distances divided by squared radii; 0 / 0 counts as 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: Floats = np.sqrt(squared / radii)
    return np.where(squared == 0, 0.0, ratios)


def sample_radii(samples: NDArray[Any], groups: list[NDArray[np.int64]], *, k: int) -> tuple[Floats, Floats]:
    """Return squared radii `[N]` of balls around samples, and without each group `[groups, N]`; zero for its own."""
    group_of = np.empty(len(samples), dtype=np.int64)
    for g, members in enumerate(groups):
        group_of[members] = g
    # Of three times as many neighbours, k nearly always remain; else use the farthest one that is known.
    distances, indices = nearest(samples, samples, k=min(3 * k, len(samples) - 1), others=True)
    squared = INSIDE * distances**2
    wider = np.empty((len(groups), len(samples)))
    for g, members in enumerate(groups):
        left = (group_of[indices] != g).cumsum(axis=1)
        kth = np.where(left[:, -1] >= k, (left >= k).argmax(axis=1), -1)
        wider[g] = squared[np.arange(len(samples)), kth]
        wider[g, members] = 0
    return squared[:, k - 1], wider


def mean_over_samples(values: NDArray[Any]) -> Score:
    """Return the mean of a value per sample `[N]` and its standard error."""
    return Score(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def mean_over_reference(values: NDArray[Any], left_out: NDArray[Any]) -> Score:
    """Return the mean of a value per reference point `[M]`, and its jackknife error from values `[groups, M]`."""
    return Score(float(values.mean()), float(jackknife.error(left_out.mean(axis=1))))
