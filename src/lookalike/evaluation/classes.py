"""Compare the classes of samples with those of the test data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from lookalike.evaluation.entries import Entry, entry
from lookalike.features.extractor import Extractor
from lookalike.metrics.classes import class_distance, class_gap, differences_error, shares
from lookalike.metrics.resamples import Weights
from lookalike.workspace.errors import UserError

SHORT = 0.05
"""A class is short if its share is smaller than in the test data by more than this."""

VOTERS = 25
"""Minimum number of training points that vote for the class of a sample."""


def compare_classes(
    features: NDArray[Any], reference: NDArray[Any], weights: Weights, *, extractor: Extractor, protocol: Entry
) -> dict[str, Entry]:
    """Compare the class shares of features `[N, D]` of samples and `[M, D]` of test data, and of their resamples.

    The same classifier counts both, so that its mistakes occur on both sides. Without a classifier the nearest training
    points vote. A class is short if its share is too small by more than `SHORT` and by more than chance explains.
    """
    labels = extractor.prepared.domain.labels
    ours, theirs = (
        weighted_counts(classes_of(points, extractor), side, classes=len(labels))
        for points, side in zip((features, reference), weights, strict=True)
    )
    counts, expected = ours[0].astype(np.int64), theirs[0].astype(np.int64)
    differences, chance = shares(counts) - shares(expected), differences_error(counts, expected)
    lacking = (differences < -SHORT) & (differences < -2 * chance)
    furthest = int(abs(differences).argmax())
    protocol = {"unit": "share of the samples", **protocol}
    both: Entry = {"counts": counts.tolist(), "reference_counts": expected.tolist()}
    detail: Entry = {
        "class": labels[furthest],
        "chance": float(chance[furthest]),
        "short": [label for label, lack in zip(labels, lacking, strict=True) if lack],
    }
    return {
        "class_distance": entry(class_distance(ours, theirs), protocol, **both),
        "class_gap": entry(class_gap(ours, theirs), protocol, **detail),
    }


def classes_of(features: NDArray[Any], extractor: Extractor) -> NDArray[Any]:
    """Return the class numbers `[N]` of features `[N, D]`, by the extractor or by the nearest training points."""
    if extractor.is_identity:
        return nearest_labels(features, extractor)
    found: NDArray[Any] = class_logits(features, extractor).argmax(1)
    return found


def weighted_counts(seen: NDArray[Any], weights: NDArray[Any], *, classes: int) -> NDArray[np.float64]:
    """Return the number of points `[1 + B, classes]` in each class under weights `[1 + B, N]`."""
    counts: NDArray[np.float64] = weights @ (seen[:, None] == np.arange(classes)).astype(np.float64)
    return counts


def nearest_labels(values: NDArray[Any], extractor: Extractor) -> NDArray[Any]:
    """Return the class numbers that most of the `VOTERS` training points nearest to values `[N, D]` have.

    Equal training points vote together, because one of many points with the same rounded value is no neighbourhood.
    """
    training = extractor.training()
    labels = np.asarray(extractor.prepared.labels("train"))[training.rows]
    places, of = np.unique(training.points, axis=0, return_inverse=True)
    votes = np.zeros((len(places), len(extractor.prepared.domain.labels)), dtype=np.int64)
    np.add.at(votes, (of.ravel(), labels), 1)
    nearest = KDTree(places).query(values, k=np.arange(1, min(VOTERS, len(places)) + 1))[1]
    cast = votes[nearest].cumsum(axis=1)
    last = (cast.sum(axis=2) >= min(VOTERS, len(labels))).argmax(axis=1)
    found: NDArray[Any] = cast[np.arange(len(values)), last].argmax(axis=1)
    return found


def class_logits(features: NDArray[Any], extractor: Extractor) -> NDArray[Any]:
    """Return the class logits `[N, C]` that the last layer of the extractor gives features `[N, D]`.

    Raises:
        UserError: its weights are damaged.
    """
    from safetensors.numpy import load_file

    path = extractor.folder / "weights.safetensors"
    try:
        weights = load_file(path)
        logits: NDArray[Any] = features @ weights["head.1.weight"].T + weights["head.1.bias"]
    except Exception as error:  # The type that safetensors raises has no public base.
        raise UserError(f"weights damaged: {path} ({error}). Run the features stage again") from None
    return logits
