"""Measure how close samples come to the test set, by their features or by their values.

Every entry carries its protocol: the number of points and the settings that it was measured with.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Split
from lookalike.evaluation.classes import VOTERS, class_logits, compare_classes
from lookalike.evaluation.entries import OF_SAMPLES, Arrays, Entry, attempt, check_enough, entry, named
from lookalike.evaluation.resampling import few_points, resamples
from lookalike.features.extractor import Extractor
from lookalike.metrics import marginal, pairs, sliced
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.confidence import classifier_confidence
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import FrechetScores, frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.resamples import Weights
from lookalike.metrics.support import support_and_gaps

NEIGHBOURS = 5
"""The neighbour that the ball of a point reaches to, for precision, recall, density and coverage."""

WHY_NOT_NEIGHBOURS = (
    "resamples repeat points, and repeats are nearest neighbours, so that no error of the test set is known"
)
"""Why scores of nearest neighbours get no rank."""

MAX_GAPS = 64
"""Largest number of samples and of test points that are kept to show where the two sets differ."""


def compare(features: NDArray[Any], extractor: Extractor, *, split: Split = "test") -> dict[str, Entry]:
    """Return the entries of `compare_with_gaps` alone."""
    return compare_with_gaps(features, extractor, split=split)[0]


def compare_with_gaps(
    features: NDArray[Any], extractor: Extractor, *, split: Split = "test"
) -> tuple[dict[str, Entry], Arrays]:
    """Return distances of features `[N, D]` to those of the test set, or of another split, and two-sample tests.

    Returns:
        Entries by metric. The rows of the test points farthest from any sample, as `missed_rows`, and of the samples
        farthest from any test point, as `made_up_rows`, farthest first; distances are in radii of a point's own ball.

    Raises:
        UserError: too few samples or test points.
    """
    reference = extractor.stored(split)
    check_enough(samples=features, **{split: reference})
    counts = {"samples": len(features), "reference": split, "reference_count": len(reference)}
    protocol = counts | named(extractor)
    weights = resamples(len(features), len(reference))
    if extractor.is_identity:
        own = compare_values(features, reference, weights, protocol=protocol)
        if extractor.prepared.domain.labels:
            by_vote = protocol | {"classes_by": f"vote of the {VOTERS} nearest training points"}
            own |= compare_classes(features, reference, weights, extractor=extractor, protocol=by_vote)
    else:
        own = compare_features(features, reference, weights, extractor=extractor, protocol=protocol)
    domain = extractor.prepared.domain if extractor.is_identity else None
    shared, gaps = compare_points(features, reference, weights, domain=domain, protocol=protocol)
    return own | shared, gaps


def compare_values(
    samples: NDArray[Any], reference: NDArray[Any], weights: Weights, *, protocol: Entry
) -> dict[str, Entry]:
    """Return distances of values `[N, D]` to test values `[M, D]`, one column at a time."""
    return {
        metric.__name__: entry(metric(samples, reference, weights), protocol)
        for metric in (marginal.wasserstein_1, marginal.kolmogorov_smirnov)
    }


def compare_features(
    features: NDArray[Any], reference: NDArray[Any], weights: Weights, *, extractor: Extractor, protocol: Entry
) -> dict[str, Entry]:
    """Return distances of features `[N, D]` to those of the test data `[M, D]`, and of classes, if there are any."""
    frechet = attempt(frechet_distances, features, reference, weights)
    distance, infinite = frechet if isinstance(frechet, FrechetScores) else (frechet, frechet)
    known_as = {name: {"known_as": other} for name, other in extractor.record.get("known_as", {}).items()}
    classes, sure = {}, {}
    if extractor.has_classes:
        classes = compare_classes(features, reference, weights, extractor=extractor, protocol=protocol)
        logits = class_logits(features, extractor).astype(np.float64)
        confidence = classifier_confidence(softmax(logits, axis=1), weights)
        sure = {"classifier_confidence": entry(confidence, protocol, error_of=OF_SAMPLES)}
    extrapolated = {"extrapolated_to": "infinitely many samples", "reference_is": "as large as it is"}
    kernel = {"kernel": "(x·y/D + 1)³", "permutations": pairs.PERMUTATIONS}
    few = {"why_not_ranked": few_points(features, reference)}
    return {
        "frechet_distance": entry(distance, protocol, **few, **known_as.get("frechet_distance", {})),
        **classes,
        "frechet_distance_infinite": entry(infinite, protocol, **few, **extrapolated),
        "kernel_distance": entry(
            attempt(kernel_distance, features, reference, weights), protocol, settings=kernel,
            **known_as.get("kernel_distance", {}),
        ),
        **sure,
    }  # fmt: skip


def dequantized(values: NDArray[Any], domain: Domain, *, seed: int) -> NDArray[Any]:
    """Return values `[N, D]`, each moved to a random place of its grid step, so that no two points are equal."""
    places = np.random.default_rng(seed).uniform(-0.5, 0.5, size=values.shape)
    moved: NDArray[Any] = values + places * np.array([variable.step for variable in domain.ordered])
    return moved


def compare_points(
    features: NDArray[Any], reference: NDArray[Any], weights: Weights, *, domain: Domain | None, protocol: Entry
) -> tuple[dict[str, Entry], Arrays]:
    """Return fidelity, diversity and two-sample tests of points `[N, D]` against test points `[M, D]`.

    Args:
        features: the points of the samples.
        reference: the points of the test set.
        weights: resamples of both.
        domain: the grid that the points lie on; None for features, which lie on none.
        protocol: what all entries have in common.

    Returns:
        Entries by metric, and the rows of the points where the two sets differ most, as `compare_with_gaps` does.
    """
    points, against, settings = features, reference, {}
    if domain is not None:
        points, against = dequantized(features, domain, seed=0), dequantized(reference, domain, seed=1)
        settings = {"dequantized": "uniformly over a grid step"}
    scores, gaps = support_and_gaps(points, against, k=NEIGHBOURS)
    rows = {f"{name}_rows": np.argsort(-far, kind="stable")[:MAX_GAPS] for name, far in gaps._asdict().items()}
    found = {
        name: entry(
            score,
            protocol,
            error_of=f"samples, {'mean over them' if name in ('precision', 'density') else 'jackknife over 20 groups'}",
            why_not_ranked=WHY_NOT_NEIGHBOURS,
            settings=({} if name == "nearest_sample_distance" else {"neighbours": NEIGHBOURS}) | settings,
        )
        for name, score in scores._asdict().items()
    }
    smaller = min(len(features), len(reference))
    directions = 1 if features.shape[1] == 1 else sliced.DIRECTIONS
    tests: dict[str, tuple[Any, Entry]] = {
        "classifier_accuracy": (
            classifier_test, {"of_each_set": smaller, "trained_on": smaller // 2, "p_value": "exact, hypergeometric"}
        ),
        "energy_distance": (energy_distance, {"permutations": pairs.PERMUTATIONS}),
        "sliced_wasserstein": (
            sliced.sliced_wasserstein, {"directions": directions, "permutations": sliced.PERMUTATIONS}
        ),
    }  # fmt: skip
    for name, (test, how) in tests.items():
        found[name] = entry(attempt(test, features, reference, weights), protocol, settings=how)
    return found, rows
