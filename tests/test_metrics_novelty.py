"""Tests of authenticity, data copying and duplicates against definitions and on deliberate copies."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from lookalike.evaluation.resampling import resamples
from lookalike.metrics import ScoredTest
from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.confidence import classifier_confidence
from lookalike.metrics.copying import data_copying, ranked
from lookalike.metrics.duplicates import copies, duplicates
from lookalike.metrics.neighbours import apart
from lookalike.metrics.resamples import Resampled, equal
from lookalike.workspace.errors import UserError


def draw(seed: int, rows: int, dimension: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, dimension))


def test_authenticity_is_that_of_the_definition() -> None:
    samples, training = draw(0, 300), draw(1, 700)
    across, within = cdist(samples, training), cdist(training, training) + np.diag(np.full(700, np.inf))
    nearest = across.argmin(axis=1)
    found = authenticity(samples, training, resamples(300, 0))
    assert (found.nearest == nearest).all()
    np.testing.assert_allclose(found.distance, across.min(axis=1), rtol=1e-9)
    expected = (across.min(axis=1) > within.min(axis=1)[nearest]).mean()
    assert found.score.value == pytest.approx(expected, abs=1e-12)
    assert found.score.error == pytest.approx(np.sqrt(expected * (1 - expected) / 299), rel=0.1)


def test_distances_that_are_known_change_no_authenticity() -> None:
    samples, training = draw(0, 200), draw(1, 1200)
    training[7] = training[3]
    distances = apart(training)
    within = cdist(training, training) + np.diag(np.full(1200, np.inf))
    np.testing.assert_allclose(distances, within.min(axis=1), rtol=1e-9)
    assert distances[3] == distances[7] == 0
    known, found = authenticity(samples, training, apart=distances), authenticity(samples, training)
    assert known.score.value == found.score.value
    with pytest.raises(UserError, match=r"one distance for each of 1200 training points, not \(1199,\)"):
        authenticity(samples, training, apart=distances[1:])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_copies_are_not_authentic(share: float) -> None:
    training, samples = draw(1, 1000), draw(0, 400)
    copied = int(share * 400)
    samples[:copied] = training[:copied]
    found = authenticity(samples, training)
    assert (found.distance[:copied] == 0).all()
    assert (found.nearest[:copied] == np.arange(copied)).all()
    fresh = authenticity(draw(0, 400)[copied:], training).score.value if share < 1 else 0
    assert found.score.value == pytest.approx((1 - share) * fresh, abs=1e-12)


def test_samples_far_away_are_authentic() -> None:
    assert authenticity(draw(0, 50) + 100, draw(1, 90)).score.value == 1


def test_training_data_that_repeat_do_not_hide_copies() -> None:
    training = np.repeat(draw(1, 100), 2, axis=0)
    assert authenticity(training[:50], training).score.value == 0


def test_the_rank_score_is_that_of_scipy() -> None:
    a, b = np.round(draw(0, 90, 1)[:, 0], 1), np.round(draw(1, 70, 1)[:, 0], 1)
    (z,) = ranked(a, b, equal(90, 70)).joint
    u = stats.mannwhitneyu(a, b).statistic
    assert z == pytest.approx((u - 90 * 70 / 2) / np.sqrt(90 * 70 * 161 / 12), rel=1e-12)


def test_one_cell_is_the_global_test() -> None:
    samples, test, training = draw(0, 300) * 0.9, draw(1, 250), draw(2, 400)
    near, far = cdist(samples, training).min(axis=1), cdist(test, training).min(axis=1)
    u = stats.mannwhitneyu(near, far, alternative="less", method="asymptotic", use_continuity=False)
    score = data_copying(samples, test, training, cells=1)
    assert score.value == pytest.approx((u.statistic - 300 * 250 / 2) / np.sqrt(300 * 250 * 551 / 12), rel=1e-9)
    assert score.p_value == pytest.approx(u.pvalue, rel=0.01)


def whole(score: Resampled) -> ScoredTest:
    """Return a score that has a p-value."""
    assert score.p_value is not None
    return ScoredTest(score.value, score.error, score.p_value)


def test_copies_score_far_below_zero_and_noise_above() -> None:
    test, training = draw(1, 1000), draw(2, 2000)
    near = training[:1000] + 0.01 * draw(3, 1000)
    copied, noisy, fresh = (whole(data_copying(x, test, training)) for x in (near, draw(4, 1000) * 1.5, draw(5, 1000)))
    assert copied.value < -10
    assert copied.p_value < 1e-10
    assert noisy.value > 3
    assert noisy.p_value > 0.99
    assert abs(fresh.value) < 1.5


def test_p_values_of_fresh_data_are_uniform() -> None:
    training = draw(99, 500)
    found = [whole(data_copying(draw(2 * i, 300), draw(2 * i + 1, 300), training, cells=4)).p_value for i in range(60)]
    assert stats.kstest(found, "uniform").pvalue > 0.003


def test_cells_with_too_few_points_are_an_error_if_there_are_no_others() -> None:
    with pytest.raises(UserError, match="15 samples and 500 test points in 10 cells: none has 20 of each"):
        data_copying(draw(0, 15), draw(1, 500), draw(2, 500))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_duplicates_and_copies_are_counted(dtype: Any) -> None:
    training = np.arange(100 * 12, dtype=np.int64).reshape(100, 1, 3, 4) % 251
    samples = training[[0, 0, 0, 5, 6, 7, 8, 9]].copy()
    samples[4:, 0, 0, 0] += 1
    training, samples = training.astype(dtype), samples.astype(dtype)
    assert duplicates(samples).value == pytest.approx(2 / 8)
    assert copies(samples, training).value == pytest.approx(4 / 8)
    assert duplicates(training) == (0, 0)


def test_the_error_of_duplicates_is_the_deviation_over_repeated_draws() -> None:
    scores = [duplicates(np.random.default_rng(i).integers(0, 400, size=(300, 1))) for i in range(200)]
    deviation, reported = np.std([s.value for s in scores], ddof=1), np.mean([s.error for s in scores])
    assert deviation < reported < 2.5 * deviation


def test_zero_has_no_sign() -> None:
    assert duplicates(np.array([[0.0], [-0.0], [1.0]])).value == pytest.approx(1 / 3)


def test_what_cannot_be_equal_is_not_looked_up() -> None:
    with pytest.raises(UserError, match="bring both onto one grid"):
        copies(np.zeros((5, 2), dtype=np.float32), np.zeros((5, 2), dtype=np.uint8))


def test_confidence_is_the_mean_of_the_largest_probability() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0, 1, 0]])
    score = classifier_confidence(probabilities, resamples(3, 0))
    assert score.value == pytest.approx(0.7)
    assert score.error == pytest.approx(probabilities.max(axis=1).std() / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("bad", [[[2.0, -1.0], [0.5, 0.5]], [[3.0, 4.0], [0.1, 0.2]]])
def test_logits_are_not_probabilities(bad: list[list[float]]) -> None:
    with pytest.raises(UserError, match="softmax"):
        classifier_confidence(np.array(bad))
