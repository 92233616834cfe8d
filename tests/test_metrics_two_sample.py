"""Tests of two-sample metrics against definitions, other libraries, closed forms and repeated draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from lookalike.evaluation.resampling import resamples
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.marginal import wasserstein_1
from lookalike.metrics.sliced import directions, sliced_wasserstein
from lookalike.workspace.errors import UserError

Floats = NDArray[np.float64]
Metric = Callable[..., Any]

ALL: list[Metric] = [kernel_distance, energy_distance, sliced_wasserstein, classifier_test]


def two_sets(n: int, m: int, dimension: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(0)
    return generator.normal(0.4, 0.8, size=(n, dimension)), generator.normal(size=(m, dimension))


def mean_of_pairs(values: Floats) -> float:
    """Over all pairs of different points."""
    return float((values.sum() - np.trace(values)) / (len(values) * (len(values) - 1)))


@pytest.mark.parametrize(("n", "m"), [(3, 7), (50, 60), (301, 300), (40, 900)])
def test_kernel_and_energy_distance_are_those_of_the_definitions(n: int, m: int) -> None:
    x, y = two_sets(n, m, 5)
    inner = {"xx": x @ x.T, "yy": y @ y.T, "xy": x @ y.T}
    k = {name: (values / 5 + 1) ** 3 for name, values in inner.items()}
    expected = mean_of_pairs(k["xx"]) + mean_of_pairs(k["yy"]) - 2 * k["xy"].mean()
    assert kernel_distance(x, y).value == pytest.approx(expected, rel=1e-9)
    expected = 2 * cdist(x, y).mean() - mean_of_pairs(cdist(x, x)) - mean_of_pairs(cdist(y, y))
    assert energy_distance(x, y).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dimension", [2, 64])
def test_kernel_distance_agrees_with_torchmetrics(dimension: int) -> None:
    kid = pytest.importorskip("torchmetrics.image.kid")
    torch = pytest.importorskip("torch")
    x, y = two_sets(400, 400, dimension)
    expected = float(kid.poly_mmd(torch.from_numpy(y), torch.from_numpy(x)))
    assert kernel_distance(x, y).value == pytest.approx(expected, rel=1e-6)


def test_energy_distance_agrees_with_scipy() -> None:
    """Which takes the root of the estimate in which points are paired with themselves as well."""
    x, y = two_sets(120, 90, 1)
    paired = mean_of_pairs(cdist(x, x)) / len(x) + mean_of_pairs(cdist(y, y)) / len(y)
    expected = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_distance(x, y).value + paired == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (150, 310)])
def test_sliced_wasserstein_agrees_with_pot(n: int, m: int) -> None:
    ot = pytest.importorskip("ot")
    x, y = two_sets(n, m, 6)
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions(6).T, p=1)
    assert sliced_wasserstein(x, y).value == pytest.approx(float(expected), rel=1e-6)


def test_sliced_wasserstein_is_the_mean_over_directions() -> None:
    x, y = two_sets(150, 210, 4)
    expected = np.mean([stats.wasserstein_distance(x @ line, y @ line) for line in directions(4)])
    assert sliced_wasserstein(x, y).value == pytest.approx(float(expected), rel=1e-9)
    assert sliced_wasserstein(x[:, :1], y[:, :1]).value == pytest.approx(wasserstein_1(x[:, :1], y[:, :1]).value)


def test_the_energy_distance_of_two_points_of_mass_is_twice_their_distance() -> None:
    score = energy_distance(np.zeros((50, 3)), np.tile([3.0, 0, 4], (60, 1)), resamples(50, 60, replicates=20))
    assert score.value == pytest.approx(10)
    assert score.error == pytest.approx(0, abs=1e-9)
    assert score.p_value == 0.001


@pytest.mark.parametrize("metric", ALL)
def test_a_set_and_itself_cannot_be_told_apart(metric: Metric) -> None:
    points = np.random.default_rng(0).normal(size=(300, 3))
    score = metric(points, points.copy())
    assert score.p_value > 0.4
    if metric is classifier_test:
        assert score.value == 0.5
    else:
        assert score.value <= 1e-12


@pytest.mark.parametrize("metric", ALL)
def test_sets_that_never_meet_are_told_apart(metric: Metric) -> None:
    x, y = two_sets(300, 300, 3)
    score = metric(x + 100, y)
    assert score.p_value <= 0.005
    if metric is classifier_test:
        assert score.value == 1


@pytest.mark.parametrize("metric", ALL)
def test_constants_are_one_distribution(metric: Metric) -> None:
    score = metric(np.ones((50, 2)), np.ones((60, 2)))
    assert score.p_value > 0.4
    assert score.value == pytest.approx(0.5 if metric is classifier_test else 0, abs=1e-12)


@pytest.mark.parametrize("metric", [energy_distance, sliced_wasserstein, classifier_test])
def test_a_difference_of_shape_alone_is_seen(metric: Metric) -> None:
    """A ring and a blob of the same mean and covariance: what a Fréchet distance cannot see."""
    generator = np.random.default_rng(0)
    ring = generator.normal(size=(600, 2))
    ring *= np.sqrt(2) / np.linalg.norm(ring, axis=1, keepdims=True)
    assert metric(ring, generator.normal(size=(600, 2))).p_value <= 0.005


def test_a_classifier_without_a_constant_feature_is_the_same() -> None:
    x, y = two_sets(1000, 1000, 2)
    constant = np.full((1000, 1), 7.3)
    assert classifier_test(np.hstack([x, constant]), np.hstack([y, constant])).value > 0.6


def test_a_classifier_takes_as_much_of_both() -> None:
    x, y = two_sets(400, 5000, 2)
    score = classifier_test(x, y, resamples(400, 5000))
    assert 0.6 < score.value < 0.9
    assert score.error == pytest.approx(np.sqrt(score.value * (1 - score.value) / 400), rel=0.1)


def test_the_classifiers_p_value_is_exact() -> None:
    """On labels without meaning, the law of hits given the number of calls is the hypergeometric one."""
    x, y = two_sets(64, 64, 2)
    score = classifier_test(x, y)
    binomial = stats.binomtest(round(score.value * 64), 64, alternative="greater").pvalue
    assert score.p_value == pytest.approx(binomial, rel=0.6)


@pytest.mark.parametrize("metric", ALL)
def test_p_values_on_one_distribution_are_uniform(metric: Metric) -> None:
    """Also for sets of different sizes; benchmarks/calibration.py has more repeats."""
    draws = [np.random.default_rng(seed) for seed in range(60)]
    found = [metric(g.normal(size=(60, 3)), g.normal(size=(90 - 30 * (i % 2), 3))).p_value for i, g in enumerate(draws)]
    assert stats.kstest(found, "uniform").pvalue > 0.003
    assert np.mean(np.array(found) < 0.1) < 0.25


@pytest.mark.parametrize("metric", ALL)
def test_a_metric_is_a_pure_function(metric: Metric) -> None:
    x, y = two_sets(60, 80, 2)
    before = x.copy(), y.copy()
    np.random.seed(1)  # noqa: NPY002
    first = metric(x, y)
    np.random.seed(2)  # noqa: NPY002
    assert (metric(x, y).value, metric(x, y).p_value) == (first.value, first.p_value)
    assert (x == before[0]).all()
    assert (y == before[1]).all()


def test_the_order_of_samples_does_not_matter_to_the_error() -> None:
    """Sorted by class, a group would be of one class."""
    x, y = two_sets(400, 400, 2)
    weights = resamples(400, 400, replicates=100)
    shuffled, ordered = kernel_distance(x, y, weights), kernel_distance(x[x[:, 0].argsort()], y, weights)
    assert ordered.value == pytest.approx(shuffled.value, rel=1e-9)
    assert ordered.error == pytest.approx(shuffled.error, rel=0.3)


@pytest.mark.parametrize("metric", [kernel_distance, energy_distance])
def test_sets_too_uneven_to_permute_are_refused(metric: Metric) -> None:
    x, y = two_sets(3, 3500, 2)
    with pytest.raises(UserError, match="3 samples against 3500: a permutation test needs at least 4 of each"):
        metric(x, y)
