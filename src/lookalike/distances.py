"""How close samples come to the test set, by what a data set is compared by: features of images, values of vectors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.data import Prepared
from lookalike.extractor import Extractor

Entry = dict[str, Any]


def compare_vectors(samples: NDArray[Any], reference: NDArray[Any]) -> dict[str, Entry]:
    """Distances of values `[N, D]` to the test values `[M, D]`."""
    from lookalike.metrics.marginal import BOOTSTRAPS, kolmogorov_smirnov, wasserstein_1

    metrics = {"wasserstein_1": wasserstein_1, "kolmogorov_smirnov": kolmogorov_smirnov}
    protocol = {
        "samples": len(samples),
        "reference": "test",
        "reference_count": len(reference),
        "extractor": "values",
        "error_of": f"samples, bootstrap of {BOOTSTRAPS}",
    }
    return {
        name: {**dict(zip(("value", "standard_error"), metric(samples, reference), strict=True)), **protocol}
        for name, metric in metrics.items()
    }


def compare_images(features: NDArray[Any], reference: NDArray[Any], *, extractor: dict[str, Any]) -> dict[str, Entry]:
    """Distances of features `[N, D]` to those of the test images `[M, D]`."""
    from lookalike.metrics.frechet import frechet_distance

    score = frechet_distance(features, reference)
    return {
        "frechet_distance": {
            "value": score.value,
            "standard_error": score.error,
            "samples": len(features),
            "reference": "test",
            "reference_count": len(reference),
            "extractor": extractor["name"],
            "extractor_digest": extractor["digest"],
            "error_of": "samples, jackknife over 20 groups",
        }
    }


def score_real(prepared: Prepared, extractor: Extractor, *, count: int) -> tuple[NDArray[Any], dict[str, Entry]]:
    """Score real data outside the test set: the values used `[N, *shape]` and their metrics.

    Held-out data come first; a data set too small to hold out as many as asked for adds its training data.
    """
    values, features = prepared.values("validation")[:count], extractor.stored("validation")[:count]
    source = "validation"
    if len(values) < count and extractor.is_identity:
        values = np.concatenate([values, prepared.values("train")[: count - len(values)]])
        features, source = values, "validation and train"
    return values, {name: entry | {"source": source} for name, entry in compare(features, extractor).items()}


def compare(features: NDArray[Any], extractor: Extractor) -> dict[str, Entry]:
    """Distances of features `[N, D]` to those of the test set."""
    reference = extractor.stored("test")
    if extractor.is_identity:
        return compare_vectors(features, reference)
    return compare_images(features, reference, extractor=extractor.record)
