"""Tests of bad input to metrics: every metric refuses it, or gives an answer that is stated here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.copying import data_copying
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import frechet, frechet_distance, frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.sliced import sliced_wasserstein
from lookalike.metrics.support import support
from lookalike.workspace.errors import UserError

METRICS: list[Callable[[NDArray[Any], NDArray[Any]], Any]] = [
    frechet_distances,
    kernel_distance,
    support,
    energy_distance,
    sliced_wasserstein,
    classifier_test,
    lambda samples, reference: authenticity(samples, reference).score,
    lambda samples, reference: data_copying(samples, reference, reference, cells=2),
]
NAMES = ["frechet", "kernel", "support", "energy", "sliced", "classifier", "authenticity", "copying"]

for_every_metric = pytest.mark.parametrize("metric", METRICS, ids=NAMES)


def draw(seed: int, rows: int, dimension: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, dimension))


def numbers(result: Any) -> list[float]:
    if result is None:
        return []
    return [result] if isinstance(result, float) else [number for part in result for number in numbers(part)]


@for_every_metric
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(metric: Callable[..., Any], bad: float) -> None:
    points = draw(0, 100)
    points[[3, 7], 1] = bad
    for sets in ((points, draw(1, 100)), (draw(1, 100), points)):
        with pytest.raises(UserError, match="2 of 100 rows hold NaN or infinity"):
            metric(*sets)


@for_every_metric
@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (draw(0, 100, 2), "different widths"),
        (draw(0, 100)[:, 0], r"not an array of shape \(100,\)"),
        (draw(0, 100).reshape(10, 10, 3), r"shape \(10, 10, 3\)"),
        (draw(0, 100)[:, :0], r"shape \(100, 0\)"),
        (draw(0, 100).astype(str), "an array of numbers is needed, not <U"),
        (draw(0, 100).astype(object), "not object"),
        (draw(0, 100) + 1j, "not complex128"),
        (draw(0, 100).tolist(), "not <class 'list'>"),
        (draw(0, 1), "1 rows, and this metric needs at least"),
        (draw(0, 0), "0 rows"),
    ],
)
def test_what_is_no_set_of_points_is_refused(metric: Callable[..., Any], samples: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        metric(samples, draw(1, 100))


@for_every_metric
def test_a_constant_feature_changes_nothing_that_distances_see(metric: Callable[..., Any]) -> None:
    samples, reference = draw(0, 120) * 0.8, draw(1, 130)
    wider = [np.hstack([points, np.full((len(points), 1), 3.5)]) for points in (samples, reference)]
    found = numbers(metric(*wider))
    assert np.isfinite(found).all()
    if metric in (support, energy_distance, frechet_distances):
        np.testing.assert_allclose(found, numbers(metric(samples, reference)), rtol=1e-4, atol=1e-6)


@for_every_metric
def test_duplicated_samples_give_numbers(metric: Callable[..., Any]) -> None:
    assert np.isfinite(numbers(metric(np.repeat(draw(0, 12), 10, axis=0), draw(1, 130)))).all()


@for_every_metric
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64, np.float16])
def test_the_type_of_numbers_does_not_matter(metric: Callable[..., Any], dtype: Any) -> None:
    generator = np.random.default_rng(0)
    samples, reference = generator.integers(0, 9, size=(120, 3)), generator.integers(1, 10, size=(130, 3))
    expected = numbers(metric(samples.astype(np.float64), reference.astype(np.float64)))
    np.testing.assert_allclose(numbers(metric(samples.astype(dtype), reference.astype(dtype))), expected, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS[1:], ids=NAMES[1:])
def test_fewer_samples_than_features_are_enough_without_a_covariance(metric: Callable[..., Any]) -> None:
    assert np.isfinite(numbers(metric(draw(0, 60, 200), draw(1, 70, 200)))).all()


def test_the_extrapolated_distance_has_lost_the_bias_of_few_samples() -> None:
    """N(0, I) and N(0, 1.2² I) in 8 dimensions are 8 · 0.04 apart."""
    reference = draw(99, 200_000, 8)
    found = [frechet_distances(1.2 * draw(i, 200, 8), reference) for i in range(60)]
    plain, infinite = (np.array([scores[i].value for scores in found]) for i in (0, 1))
    assert plain.mean() > 0.32 + 0.08
    assert infinite.mean() == pytest.approx(0.32, abs=0.02)


def test_the_extrapolation_is_the_end_of_the_line_through_subsets() -> None:
    """A regression on 1/N over random subsets, as in the paper, which is noisier, ends within its noise."""
    samples, reference = 1.1 * draw(0, 4000, 10), draw(1, 4000, 10)
    generator = np.random.default_rng(0)
    sizes = np.repeat(np.linspace(1000, 4000, 7).astype(int), 20)
    values = [frechet_distance(samples[generator.permutation(4000)[:n]], reference, groups=2).value for n in sizes]
    _, end = np.polyfit(1 / sizes, values, 1)
    assert frechet_distances(samples, reference).infinite.value == pytest.approx(end, rel=0.02)


def test_a_rank_deficient_covariance_has_a_root_too() -> None:
    """Σ₁ of rank 2 in 4 dimensions, in general position: no Cholesky factor."""
    basis = np.linalg.qr(draw(0, 4, 4))[0]
    singular = basis @ np.diag([2.0, 1, 0, 0]) @ basis.T
    m = np.zeros(4)
    expected = 3 + 4 - 2 * (np.sqrt(2) + 1)
    assert frechet(m, singular, m, np.eye(4)) == pytest.approx(expected, abs=1e-6)
    assert frechet(m, np.eye(4), m, singular) == pytest.approx(expected, abs=1e-6)
