"""Tests of distances against closed forms and other libraries, and of their errors against repeated draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from lookalike.evaluation.resampling import resamples
from lookalike.metrics.classes import class_distance, class_gap, differences_error, shares
from lookalike.metrics.frechet import Moments, frechet, frechet_distance, frechet_distances
from lookalike.metrics.marginal import kolmogorov_smirnov, wasserstein_1
from lookalike.metrics.resamples import Resampled
from lookalike.workspace.errors import UserError

Floats = NDArray[np.float64]


def gaussian(seed: int, dimension: int) -> tuple[Floats, Floats]:
    """A random mean and covariance."""
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(dimension, dimension))
    return generator.normal(size=dimension), root @ root.T / dimension


def test_frechet_of_diagonal_gaussians_is_the_distance_of_means_and_deviations() -> None:
    generator = np.random.default_rng(0)
    m1, m2 = generator.normal(size=(2, 6))
    s1, s2 = generator.uniform(0.1, 3, size=(2, 6))
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert frechet(m1, np.diag(s1**2), m2, np.diag(s2**2)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dimension", [1, 5, 40])
def test_frechet_of_full_gaussians_is_what_the_matrix_square_root_gives(dimension: int) -> None:
    (m1, c1), (m2, c2) = gaussian(0, dimension), gaussian(1, dimension)
    root = scipy.linalg.sqrtm(c1 @ c2)
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(root))
    assert frechet(m1, c1, m2, c2) == pytest.approx(float(expected), rel=1e-6)
    assert frechet(m2, c2, m1, c1) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("dimension", [2, 64])
def test_frechet_agrees_with_torchmetrics(dimension: int) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    a = generator.normal(size=(500, dimension)) @ generator.normal(size=(dimension, dimension))
    b = generator.normal(size=(400, dimension)) + 0.3
    ours = frechet_distance(a, b)
    parts = [torch.from_numpy(part) for x in (a, b) for part in (x.mean(axis=0), np.cov(x, rowvar=False))]
    assert ours.value == pytest.approx(float(fid._compute_fid(*parts)), rel=1e-4)


def test_frechet_of_a_set_and_itself_is_zero() -> None:
    features = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    assert frechet_distance(features, features).value < 1e-9


def test_frechet_sees_a_set_that_lost_a_dimension() -> None:
    """A singular covariance, as of features that a collapsed model never moves."""
    m, c = np.zeros(3), np.eye(3)
    flat = np.diag([1.0, 1.0, 0.0])
    assert frechet(m, flat, m, c) == pytest.approx(1)
    assert frechet(m, c, m, flat) == pytest.approx(1)


def test_moments_add_up_over_batches() -> None:
    features = np.random.default_rng(0).normal(3, 2, size=(1000, 5)).astype(np.float32)
    whole = sum((Moments.of(part) for part in np.array_split(features, 7)), start=Moments.of(features[:0]))
    assert whole.rows == 1000
    np.testing.assert_allclose(whole.mean(), features.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance(), np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)
    without = whole - Moments.of(features[:300])
    np.testing.assert_allclose(without.covariance(), np.cov(features[300:].astype(np.float64), rowvar=False), rtol=1e-8)


@pytest.mark.parametrize(("samples", "reference"), [(10, 100), (100, 10), (4, 4)])
def test_too_few_samples_for_a_covariance_are_refused(samples: int, reference: int) -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(UserError, match=f"{samples} samples against {reference} in 10 features"):
        frechet_distance(generator.normal(size=(samples, 10)), generator.normal(size=(reference, 10)))


def test_the_error_of_few_samples_is_a_number() -> None:
    """Fewer samples than groups to leave out, and resamples of one point alone."""
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(100, 1))
    for count in (12, 5):
        scores = frechet_distances(generator.normal(size=(count, 1)), reference, resamples(count, 100, replicates=50))
        assert 0 < scores.distance.error < 20
        assert scores.infinite.error == pytest.approx(scores.distance.error)


def test_wasserstein_is_the_area_between_quantile_functions() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(200, 2)), generator.exponential(size=(200, 2))
    by_hand = np.mean([np.abs(np.sort(a[:, d]) - np.sort(b[:, d])).mean() for d in range(2)])
    assert wasserstein_1(a, b).value == pytest.approx(by_hand, rel=1e-10)
    # Sets of 200 and 300: each quantile of a step of 1/600.
    c = generator.normal(size=(300, 2))
    by_hand = np.mean([np.abs(np.repeat(np.sort(a[:, d]), 3) - np.repeat(np.sort(c[:, d]), 2)).mean() for d in (0, 1)])
    assert wasserstein_1(a, c).value == pytest.approx(by_hand, rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.25, 1.5])
def test_shifted_uniforms_are_as_far_apart_as_the_shift(shift: float) -> None:
    reference = ((np.arange(2000) + 0.5) / 2000)[:, None]
    assert wasserstein_1(reference + shift, reference).value == pytest.approx(shift, abs=1e-9)
    assert kolmogorov_smirnov(reference + shift, reference).value == pytest.approx(min(1, shift), abs=1e-3)


def test_kolmogorov_smirnov_is_the_largest_gap_of_distribution_functions_in_any_dimension() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 9, (150, 3)) * 0.1, generator.integers(1, 12, (220, 3)) * 0.1
    gaps = [
        max(abs((a[:, d] <= v).mean() - (b[:, d] <= v).mean()) for v in np.union1d(a[:, d], b[:, d])) for d in range(3)
    ]
    assert kolmogorov_smirnov(a, b).value == pytest.approx(max(gaps), rel=1e-12)


@pytest.mark.parametrize("metric", [frechet_distance, wasserstein_1, kolmogorov_smirnov])
def test_a_metric_is_a_pure_function(metric: Callable[[NDArray[Any], NDArray[Any]], Resampled]) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(60, 2)), generator.normal(size=(80, 2))
    before = a.copy(), b.copy()
    np.random.seed(1)  # noqa: NPY002
    first = metric(a, b)
    np.random.seed(2)  # noqa: NPY002
    assert metric(a, b).value == first.value
    assert (a == before[0]).all()
    assert (b == before[1]).all()


# Classes


def test_class_distances_of_known_counts() -> None:
    counts, reference = np.array([[10, 30, 60, 0]]), np.array([[200, 400, 300, 100]])
    assert class_distance(counts, reference).value == pytest.approx(0.3)
    assert class_gap(counts, reference).value == pytest.approx(0.3)
    counts = np.array([[10, 30, 45, 15]])
    assert class_distance(counts, reference).value == pytest.approx(0.2)
    assert class_gap(counts, reference).value == pytest.approx(0.15)


def test_the_same_shares_are_no_distance_apart_however_many_are_counted() -> None:
    reference = np.array([[300, 500, 200]])
    assert class_distance(7 * reference, reference).value == pytest.approx(0, abs=1e-12)
    assert class_gap(7 * reference, reference).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("only", range(4))
def test_one_class_alone_is_off_by_all_that_the_others_have(only: int) -> None:
    reference = np.array([[100, 400, 300, 200]])
    counts = np.zeros((1, 4), dtype=np.int64)
    counts[:, only] = 50
    for metric in (class_distance, class_gap):
        assert metric(counts, reference).value == pytest.approx(1 - reference[0, only] / 1000)


def test_the_error_of_two_classes_is_that_of_a_share() -> None:
    """Both distances are |p - q| then."""
    generator = np.random.default_rng(0)
    counts, reference = (
        np.vstack([counted, generator.multinomial(1000, np.array(counted) / 1000, 500)])
        for counted in ([700, 300], [500, 500])
    )
    for metric in (class_distance, class_gap):
        score = metric(counts, reference)
        assert score.value == pytest.approx(0.2)
        assert score.samples.std() == pytest.approx((0.7 * 0.3 / 1000) ** 0.5, rel=0.1)
        assert score.reference.std() == pytest.approx((0.5 * 0.5 / 1000) ** 0.5, rel=0.1)


def test_the_error_of_a_share_s_difference_is_its_deviation_over_draws_of_both() -> None:
    generator, p = np.random.default_rng(0), [0.1, 0.3, 0.6]
    pairs = [(generator.multinomial(500, p), generator.multinomial(100, p)) for _ in range(2000)]
    deviation = np.std([shares(one) - shares(other) for one, other in pairs], axis=0, ddof=1)
    assert np.mean([differences_error(*pair) for pair in pairs], axis=0) == pytest.approx(deviation, rel=0.05)
