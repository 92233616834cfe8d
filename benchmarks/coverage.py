"""Check 95 % intervals of metrics by repeats on known distributions, and print a table in Markdown.

    python benchmarks/coverage.py [--repeats 300] [--sizes 187 1000 5000] [--replicates 100] [--processes 2]

Every repeat draws samples and a reference of one size anew. The truth is the mean of a metric over all repeats: its
expectation at these numbers of points. An interval of ±1.96 standard errors must contain it in 92 to 97 % of the
repeats, up to the noise of their number: ±1.3 % for 300. The mean error must be close to the deviation over repeats.

Where two sets have one distribution, intervals of distances are too wide, which is safe: --equal shows by how much.
"""

import argparse
import functools
import os
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation import truth
from lookalike.evaluation.classes import weighted_counts
from lookalike.evaluation.resampling import resamples
from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.classes import class_distance, class_gap
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.copying import data_copying
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.marginal import kolmogorov_smirnov, mean_area, wasserstein_1
from lookalike.metrics.resamples import Resampled, Weights
from lookalike.metrics.sliced import directions

Array = NDArray[Any]
Scores = dict[str, Callable[[Array, Array, Weights], Resampled]]

SHIFT, SCALE = 0.4, 1.2
"""Mean and standard deviation of the samples in every feature; those of the reference are 0 and 1."""

CLASSES = np.linspace(0.16, 0.04, 10)
"""Shares of the classes among the samples; those of the reference are equal."""

FEATURES = 4

QUADRATIC = 1000
"""Largest number of points at which metrics over all pairs of points have all repeats; more points have a fifth."""


def classes_of(distance: Callable[[Array, Array], Resampled]) -> Callable[[Array, Array, Weights], Resampled]:
    """Return a distance of classes as a function of numbers from 0 to 1, of which each tenth is a class."""

    def of_points(x: Array, y: Array, weights: Weights) -> Resampled:
        seen = [np.searchsorted(np.cumsum(CLASSES)[:-1], x[:, 0]), (10 * y[:, 0]).astype(np.int64)]
        return distance(*(weighted_counts(of, side, classes=10) for of, side in zip(seen, weights, strict=True)))

    return of_points


def divergence(x: Array, y: Array, weights: Weights) -> Resampled:
    """Return KL(P || Q) from draws y of P, the reference's distribution, where Q is that of the samples."""
    log_p, log_q = -0.5 * (y**2).sum(axis=1), -0.5 * (((y - SHIFT) / SCALE) ** 2).sum(axis=1)
    return truth.forward_kl(log_p, log_q - y.shape[1] * np.log(SCALE), weights.reference)


LINES = directions(FEATURES).T

TRAINING = np.random.default_rng(10**6).normal(size=(2000, FEATURES))

LINE: Scores = {"wasserstein_1": wasserstein_1, "kolmogorov_smirnov": kolmogorov_smirnov}
SHARES: Scores = {"class_distance": classes_of(class_distance), "class_gap": classes_of(class_gap)}
POINTS: Scores = {
    "frechet_distance": lambda x, y, weights: frechet_distances(x, y, weights).distance,
    "frechet_distance_infinite": lambda x, y, weights: frechet_distances(x, y, weights).infinite,
    "classifier_accuracy": classifier_test,
    "data_copying": lambda x, y, weights: data_copying(x, y, TRAINING, weights, cells=3),
    "authenticity": lambda x, _, weights: authenticity(x, TRAINING, weights).score,
    "kl": divergence,
}
PAIRS: Scores = {
    "kernel_distance": kernel_distance,
    "energy_distance": energy_distance,
    "sliced_wasserstein": lambda x, y, weights: mean_area(x @ LINES, y @ LINES, weights),  # without its p-value
}


def once(seed: int, *, size: int, replicates: int, pairs: bool, equal: bool) -> dict[str, tuple[float, float]]:
    """Return value and error of every metric in one repeat; metrics over pairs of points only if asked for."""
    generator, weights = np.random.default_rng(seed), resamples(size, size, replicates=replicates)
    shift, scale = (0.0, 1.0) if equal else (SHIFT, SCALE)
    found: dict[str, Resampled] = {}
    groups: list[tuple[Scores, int]] = [(LINE, 1), (POINTS, FEATURES), *([(PAIRS, FEATURES)] if pairs else [])]
    for scores, features in groups:
        x, y = shift + scale * generator.normal(size=(size, features)), generator.normal(size=(size, features))
        found |= {name: score(x, y, weights) for name, score in scores.items()}
    x, y = generator.random((2, size, 1))
    if equal:
        x = np.cumsum(CLASSES)[(10 * x).astype(np.int64)] - 1e-9
    found |= {name: score(x, y, weights) for name, score in SHARES.items()}
    return {name: (score.value, score.error) for name, score in found.items()}


def coverage(size: int, *, repeats: int, replicates: int, equal: bool, pool: Any) -> dict[str, tuple[float, ...]]:
    """Return mean, deviation, mean error, share of intervals that contain the mean, and repeats of every metric."""
    few = repeats if size <= QUADRATIC else max(2, repeats // 5)
    jobs = functools.partial(once, size=size, replicates=replicates, equal=equal)
    every = pool.map(functools.partial(jobs, pairs=True), range(few), chunksize=1)
    every += pool.map(functools.partial(jobs, pairs=False), range(few, repeats), chunksize=1)
    found: dict[str, tuple[float, ...]] = {}
    for name in every[0]:
        values, errors = np.array([repeat[name] for repeat in every if name in repeat]).T
        held = np.abs(values - values.mean()) < 1.96 * errors
        deviation, share = float(values.std(ddof=1)), float(held.mean())
        found[name] = (float(values.mean()), deviation, float(errors.mean()), share, len(values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals.")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[187, 1000, 5000])
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--equal", action="store_true", help="draw both sets from one distribution")
    a = parser.parse_args()
    print("| points of each set | metric | expectation | deviation | mean error | intervals that hold | repeats |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with get_context("spawn").Pool(a.processes) as pool:
        for size in a.sizes:
            found = coverage(size, repeats=a.repeats, replicates=a.replicates, equal=a.equal, pool=pool)
            for name, (mean, deviation, error, held, count) in found.items():
                print(
                    f"| {size:,} | {name} | {mean:.4g} | {deviation:.2g} | {error:.2g} | {held:.1%} | {count} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
