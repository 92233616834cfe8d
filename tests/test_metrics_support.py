"""Tests of neighbours, precision, recall, density and coverage against definitions, `prdc` and repeated draws."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lookalike.metrics import jackknife
from lookalike.metrics.neighbours import COLUMNS, ROWS, nearest, squared_distances
from lookalike.metrics.support import Support, in_radii, support, support_and_gaps

Floats = NDArray[np.float64]


def two_sets(n: int, m: int, dimension: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(0)
    return generator.normal(0.4, 0.8, size=(n, dimension)), generator.normal(size=(m, dimension))


def test_squared_distances_are_those_of_scipy_far_from_the_origin_too() -> None:
    a, b = two_sets(30, 40, 7)
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), rtol=1e-10)
    np.testing.assert_allclose(squared_distances(a + 1e4, b + 1e4), cdist(a, b, "sqeuclidean"), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_equal_points_are_at_distance_zero_and_no_others(dtype: Any) -> None:
    points = np.unique(np.random.default_rng(0).integers(0, 255, size=(200, 50)).astype(dtype), axis=0)
    assert ((squared_distances(points, points[::-1]) == 0)[:, ::-1] == np.eye(len(points))).all()


@pytest.mark.parametrize("k", [1, 5])
def test_nearest_is_what_sorting_all_distances_gives(k: int) -> None:
    """Across the borders of tiles, with and without the points themselves."""
    a, b = two_sets(ROWS + 10, 2 * COLUMNS + 50, 3)
    distances, indices = nearest(a, b, k=k)
    expected = cdist(a, b)
    assert (indices == expected.argsort(axis=1)[:, :k]).all()
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :k], rtol=1e-9)
    expected = cdist(b, b) + np.diag(np.full(len(b), np.inf))
    distances, indices = nearest(b, b, k=k, others=True)
    assert (indices == expected.argsort(axis=1)[:, :k]).all()
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :k], rtol=1e-9)


@pytest.mark.parametrize(("n", "m", "dimension"), [(300, 400, 2), (700, 600, 16)])
def test_scores_are_those_of_prdc(n: int, m: int, dimension: int) -> None:
    prdc = pytest.importorskip("prdc")
    samples, reference = two_sets(n, m, dimension)
    for name, value in prdc.compute_prdc(reference, samples, nearest_k=5).items():
        assert getattr(support(samples, reference, k=5), name).value == pytest.approx(value, rel=1e-9), name


def by_definition(samples: Floats, reference: Floats, k: int) -> dict[str, float]:
    across = cdist(samples, reference)
    to_others = [
        np.sort(cdist(x, x) + np.diag(np.full(len(x), np.inf)), axis=1)[:, k - 1] for x in (samples, reference)
    ]
    own, real = to_others
    return {
        "precision": float((across < real).any(axis=1).mean()),
        "recall": float((across < own[:, None]).any(axis=0).mean()),
        "density": float((across < real).sum(axis=1).mean() / k),
        "coverage": float((across < real).any(axis=0).mean()),
        "nearest_sample_distance": float(across.min(axis=0).mean()),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m"), [(40, 60), (600, 530)])
def test_scores_are_those_of_the_definitions(n: int, m: int, k: int) -> None:
    samples, reference = two_sets(n, m, 4)
    scores = support(samples, reference, k=k)
    for name, value in by_definition(samples, reference, k).items():
        assert getattr(scores, name).value == pytest.approx(value, rel=1e-9), name


def test_a_set_and_itself_are_alike_in_everything() -> None:
    points = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    scores = support(points, points[::-1])
    assert [score.value for score in scores] == [1, 1, 1, 1, 0]
    assert scores.precision.error == 0


def test_sets_that_never_meet_have_nothing_in_common() -> None:
    samples, reference = two_sets(100, 100, 3)
    scores = support(samples + 1000, reference)
    assert [score.value for score in scores[:4]] == [0, 0, 0, 0]
    assert scores.nearest_sample_distance.value > 1000


def test_a_collapsed_model_is_precise_and_recalls_nothing() -> None:
    """Its balls are empty: every sample has more than k copies."""
    reference = np.random.default_rng(0).normal(size=(300, 2))
    scores = support(np.zeros((200, 2)), reference)
    assert scores.precision.value == 1
    assert scores.recall == (0, 0)
    assert scores.coverage.value < 0.1


def test_a_lost_mode_costs_diversity_and_not_fidelity() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(1000, 2)) + 20 * generator.integers(0, 4, size=(1000, 1))
    samples = generator.normal(size=(1000, 2)) + 20 * generator.integers(0, 3, size=(1000, 1))
    scores = support(samples, reference)
    left = float((reference[:, 0] < 50).mean())
    assert scores.precision.value > 0.95
    assert scores.recall.value == pytest.approx(left, abs=0.04)
    assert scores.coverage.value == pytest.approx(left, abs=0.04)


def test_leaving_a_group_out_is_scoring_without_it() -> None:
    """The jackknife's own numbers, through the one place that they are seen in: the error."""
    samples, reference = two_sets(200, 150, 3)
    left_out = [np.delete(samples, rows, axis=0) for rows in jackknife.split(len(samples))]
    brute = [by_definition(kept, reference, 5) for kept in left_out]
    scores = support(samples, reference)
    for name in ("recall", "coverage", "nearest_sample_distance"):
        expected = jackknife.error(np.array([scored[name] for scored in brute]))
        assert getattr(scores, name).error == pytest.approx(float(expected), rel=1e-9), name


def test_errors_are_the_deviations_over_repeated_draws() -> None:
    reference = np.random.default_rng(99).normal(size=(400, 4))
    draws = [support(np.random.default_rng(seed).normal(0.3, 0.9, size=(400, 4)), reference) for seed in range(60)]
    for name in Support._fields:
        scores = [getattr(draw, name) for draw in draws]
        deviation, reported = np.std([s.value for s in scores], ddof=1), np.mean([s.error for s in scores])
        # Of recall it is too large: balls that grow where others are left out count for more than they should.
        assert (0.7 < reported / deviation < 1.4) or (name == "recall" and 1 < reported / deviation < 2.5), name


def test_the_largest_gaps_are_a_cluster_that_is_missed_and_one_that_is_made_up_not_outliers() -> None:
    """Each set has a cluster of its own and an outlier; what they share is between."""
    generator = np.random.default_rng(0)
    shared, own = generator.normal(size=(2, 300, 2)), generator.normal(0, 0.1, size=(2, 60, 2))
    far = [[0.0, 60.0]]
    reference = np.concatenate([shared[0], own[0] + 20, far])
    samples = np.concatenate([shared[1], own[1] - 20, far])
    scores, gaps = support_and_gaps(samples, reference, k=5)
    for ratios in gaps:
        assert set(np.argsort(-ratios)[:60]) == set(range(300, 360))
        assert ratios[360] == 0
    assert scores == support(samples, reference, k=5)
    assert scores.coverage.value == (gaps.missed < 1).mean()


def test_gaps_are_distances_to_the_other_set_over_those_to_the_kth_of_the_own() -> None:
    samples, reference = two_sets(ROWS + 40, COLUMNS + 30, 3)
    gaps = support_and_gaps(samples, reference, k=4)[1]
    across = cdist(samples, reference)
    for ratios, near, own in (
        (gaps.missed, across.min(axis=0), reference),
        (gaps.made_up, across.min(axis=1), samples),
    ):
        radii = np.sort(cdist(own, own), axis=1)[:, 4]
        np.testing.assert_allclose(ratios, near / radii, rtol=1e-6)


def test_a_gap_from_an_empty_ball_is_infinite_and_none_is_no_gap() -> None:
    assert in_radii(np.array([4.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])).tolist() == [2.0, np.inf, 0.0]
