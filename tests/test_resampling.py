"""Tests of resampled scores: weights are repeats of points, the test set is common to all cells, intervals hold."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lookalike.evaluation.entries import entry
from lookalike.evaluation.resampling import REPLICATES, few_points, parted, resamples
from lookalike.metrics.classes import class_distance
from lookalike.metrics.copying import ranked
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import Moments, frechet_distances, frechet_to, linearized, resampled, root_of, transport
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.marginal import curves, kolmogorov_smirnov, mean_area, wasserstein_1
from lookalike.metrics.resamples import Resampled, Weights, crossed, mean_of_samples, weighted_mean

Floats = NDArray[np.float64]


def draw(seed: int, rows: int, features: int = 3, *, shift: float = 0.0, scale: float = 1.0) -> Floats:
    return shift + scale * np.random.default_rng(seed).normal(size=(rows, features))


X, Y = draw(0, 60, shift=0.4, scale=1.2), draw(1, 90)
WEIGHTS = resamples(60, 90, replicates=4)
AGAIN = [
    (np.repeat(X, ours.astype(int), axis=0), np.repeat(Y, theirs.astype(int), axis=0))
    for ours, theirs in zip(*WEIGHTS, strict=True)
]
"""Both sets as they are, and as each resample repeats their points."""


def test_weights_count_how_often_a_point_was_drawn_and_begin_with_the_set_itself() -> None:
    for side, count in zip(WEIGHTS, (60, 90), strict=True):
        assert side.shape == (5, count)
        assert (side[0] == 1).all()
        assert (side.sum(axis=1) == count).all()
        assert side[1:].max() > 1


def test_cells_share_the_resamples_of_their_test_set_and_two_sets_have_their_own() -> None:
    one, other = resamples(500, 187), resamples(777, 187)
    np.testing.assert_array_equal(one.reference, other.reference)
    assert abs(np.corrcoef(resamples(187, 187).samples[1], one.reference[1])[0, 1]) < 0.3
    assert not np.array_equal(resamples(187, 187).samples, one.reference)


def test_weighted_moments_are_those_of_repeated_points() -> None:
    moments = Moments.weighted(X, WEIGHTS.samples)
    for i, (x, _) in enumerate(AGAIN):
        np.testing.assert_allclose(moments.mean()[i], x.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(moments.covariance()[i], np.cov(x, rowvar=False), rtol=1e-6)


def test_weighted_curves_give_the_distances_of_repeated_points() -> None:
    (ours, theirs), *others = curves(X, Y, WEIGHTS)
    assert len(others) == 2
    for i, (x, y) in enumerate(AGAIN):
        area = np.abs(ours.areas[i] - theirs.areas[i]).sum()
        assert area == pytest.approx(stats.wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-5)
        gap = np.abs(ours.below[i] - theirs.below[i]).max()
        assert gap == pytest.approx(stats.ks_2samp(x[:, 0], y[:, 0], method="asymp").statistic, rel=1e-6)


def test_fewer_knots_change_areas_only_where_distribution_functions_cross() -> None:
    many, more = draw(0, 9000, 1, shift=0.4), draw(1, 9000, 1)
    exact = stats.wasserstein_distance(many[:, 0], more[:, 0])
    assert mean_area(many, more, None).value == pytest.approx(exact, rel=1e-4)


def test_weighted_ranks_are_those_of_repeated_points() -> None:
    near, far = (np.round(np.abs(points[:, 0]), 1).astype(np.float64) for points in (X, Y))
    found = ranked(near, far, WEIGHTS)
    for i, (ours, theirs) in enumerate(zip(*WEIGHTS, strict=True)):
        a, b = np.repeat(near, ours.astype(int)), np.repeat(far, theirs.astype(int))
        z = (stats.mannwhitneyu(a, b).statistic - 60 * 90 / 2) / np.sqrt(60 * 90 * 151 / 12)
        assert found.joint[i] == pytest.approx(z, rel=1e-9)
    assert found.samples[0] == found.reference[0] == found.joint[0]


def test_weighted_means_are_those_of_repeated_points_and_of_equal_values_without_error() -> None:
    means = weighted_mean(X[:, 0], WEIGHTS.samples)
    np.testing.assert_allclose(means, [x[:, 0].mean() for x, _ in AGAIN], rtol=1e-6)
    assert mean_of_samples(np.full(60, 0.3), WEIGHTS.samples).error == 0


@pytest.mark.parametrize("metric", [kernel_distance, energy_distance])
def test_squares_over_pairs_are_those_of_the_kernel_matrix(metric: Callable[..., Resampled]) -> None:
    """Replicates of the samples alone, recomputed from the whole matrix of pairs."""
    weights = resamples(60, 90, replicates=50)
    found = metric(X, Y, weights)
    points = np.concatenate([X, Y])
    if metric is kernel_distance:
        k = (points @ points.T / 3 + 1) ** 3
    else:
        k = -np.linalg.norm(points[:, None] - points[None], axis=2)
    own = np.diag(k).copy()
    u, v = np.repeat([1 / 60, -1 / 90], [60, 90]), np.zeros((50, 150))
    v[:, :60] = (weights.samples[1:] - 1) / 60
    np.fill_diagonal(k, 0)
    unbiased = np.repeat([60 / 59, 1.0], [60, 90])
    linear, square = v @ (k @ (u * unbiased)), np.einsum("bi,ij,bj->b", v, k, v)
    within = [k[:60, :60].sum() / (60 * 59), k[60:, 60:].sum() / (90 * 89)]
    noise = (own[:60].mean() - within[0]) / 60 + (own[60:].mean() - within[1]) / 90
    wanted = found.value + 0.5 * np.std(2 * linear + square, ddof=1)
    expected = 2 * np.sqrt(wanted / (found.value + noise)) * linear + square
    np.testing.assert_allclose(found.samples - found.value, expected - expected.mean(), atol=1e-5 * np.abs(k).max())


def test_the_way_from_one_gaussian_to_another_ends_there() -> None:
    one, other = np.cov(X, rowvar=False), np.cov(Y, rowvar=False)
    way = transport(one, other)
    np.testing.assert_allclose(way @ one @ way, other, rtol=1e-9)
    np.testing.assert_allclose(way, way.T, rtol=1e-9)


def test_what_single_points_add_to_a_frechet_distance_is_its_error_far_from_zero() -> None:
    x, y = draw(0, 2000, 5, shift=1.0, scale=1.5), draw(1, 1500, 5)
    weights = resamples(2000, 1500, replicates=200)
    whole, linear = resampled(x, y, weights), linearized(x, y, weights)
    assert linear.value == pytest.approx(whole.value, rel=1e-6)
    for part in ("joint", "samples", "reference"):
        assert np.corrcoef(getattr(whole, part), getattr(linear, part))[0, 1] > 0.97
        assert getattr(linear, part).std() == pytest.approx(getattr(whole, part).std(), rel=0.1)


def test_both_sets_make_more_error_than_one_and_replicates_lie_around_the_value() -> None:
    weights = resamples(60, 90)
    for metric in (wasserstein_1, kolmogorov_smirnov, energy_distance, lambda *a: frechet_distances(*a).distance):
        found = metric(X, Y, weights)
        assert found.joint.shape == found.samples.shape == found.reference.shape == (REPLICATES,)
        assert found.joint.mean() == pytest.approx(found.value, rel=1e-6)
        assert found.joint.std() > max(found.samples.std(), found.reference.std())


def test_a_score_that_is_no_distance_is_taken_as_it_is_in_every_resample() -> None:
    found = crossed(lambda a, b: a - b, np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.0, 1.0]))
    assert found.value == 0.5
    assert (found.joint.tolist(), found.samples.tolist(), found.reference.tolist()) == ([2, 3], [1.5, 3.5], [1, 0])


def test_entries_say_what_their_errors_are_of_and_hand_over_their_replicates() -> None:
    weights = resamples(60, 90)
    entries = {
        "wasserstein_1": entry(wasserstein_1(X, Y, weights), {"reference": "validation"}),
        "authenticity": entry(mean_of_samples(X[:, 0], weights.samples), {}, error_of="samples"),
        "recall": entry(mean_of_samples(X[:, 0], weights.samples), {}, why_not_ranked="too few points"),
    }
    plain, arrays = parted(entries)
    assert plain["wasserstein_1"]["error_of"] == "samples and validation points, joint bootstrap of 400"
    assert plain["authenticity"]["error_of"] == "samples, bootstrap of 400"
    assert plain["authenticity"]["error_reference"] == 0
    assert (plain["recall"]["rankable"], plain["recall"]["why_not_ranked"]) == (False, "too few points")
    assert {name.split("/")[0] for name in arrays} == {"wasserstein_1", "authenticity"}
    assert plain["wasserstein_1"]["standard_error"] == pytest.approx(arrays["wasserstein_1/joint"].std(ddof=1))
    assert "60 points in 30 features" in few_points(np.zeros((60, 30)), np.zeros((900, 30)))
    assert few_points(np.zeros((60, 3)), np.zeros((900, 3))) == ""


def of_classes(x: Floats, y: Floats, weights: Weights) -> Resampled:
    counts = (side @ (np.clip(points[:, :1] + 2, 0, 3.99).astype(int) == np.arange(4)).astype(float)
              for points, side in zip((x, y), weights, strict=True))  # fmt: skip
    return class_distance(*counts)


def of_mean(x: Floats, _: Floats, weights: Weights) -> Resampled:
    return mean_of_samples(x[:, 0], weights.samples)


COVERED: dict[str, Callable[[Floats, Floats, Weights], Resampled]] = {
    "wasserstein_1": wasserstein_1,
    "kolmogorov_smirnov": kolmogorov_smirnov,
    "class_distance": of_classes,
    "energy_distance": energy_distance,
    "frechet_distance": lambda x, y, weights: frechet_distances(x, y, weights).distance,
    "mean": of_mean,
}


@pytest.mark.parametrize("name", COVERED)
def test_intervals_hold(name: str) -> None:
    """About 95 of 100 contain the expectation; 300 repeats have a standard error of 1.3 %.

    benchmarks/coverage.py has more sizes, metrics and repeats.
    """
    weights, scores = resamples(187, 187, replicates=60), []
    for seed in range(300):
        x, y = draw(2 * seed, 187, 2, shift=0.5, scale=1.2), draw(2 * seed + 1, 187, 2)
        scores.append(COVERED[name](x, y, weights))
    values, errors = (np.array([getattr(score, part) for score in scores]) for part in ("value", "error"))
    held = float((np.abs(values - values.mean()) < 1.96 * errors).mean())
    assert 0.92 - 3 * 0.0157 < held < 0.97 + 3 * 0.0098
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.2)


def test_errors_of_one_distribution_are_not_those_of_the_plain_bootstrap() -> None:
    """Two sets of one distribution are apart by noise alone, to which a resample adds as much again."""
    weights, values, errors, plain = resamples(187, 187, replicates=60), [], [], []
    for seed in range(60):
        x, y = draw(2 * seed, 187, 8), draw(2 * seed + 1, 187, 8)
        found = frechet_distances(x, y, weights).distance
        values.append(found.value)
        errors.append(found.error)
        ours, theirs = Moments.weighted(x, weights.samples[1:]), Moments.weighted(y, weights.reference[1:])
        of_ours, of_theirs = (ours.mean(), ours.covariance()), (theirs.mean(), theirs.covariance())
        plain.append(frechet_to(*of_ours, root_of(of_ours[1]), *of_theirs).std(ddof=1))
    assert np.std(values, ddof=1) < np.mean(errors) < 0.85 * np.mean(plain)
