"""How close samples come to the test set, by what a data set is compared by: features of images, values of vectors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.data import Prepared
from lookalike.extractor import Extractor

Entry = dict[str, Any]

SHORT = 0.05
"""A class is short if its share is smaller than among the test images by more than this."""


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


def compare_images(features: NDArray[Any], reference: NDArray[Any], *, extractor: Extractor) -> dict[str, Entry]:
    """Distances of features `[N, D]` to those of the test images `[M, D]`, and of the classes they are taken for."""
    from lookalike.metrics.frechet import frechet_distance

    score = frechet_distance(features, reference)
    protocol = {
        "samples": len(features),
        "reference": "test",
        "reference_count": len(reference),
        "extractor": extractor.record["name"],
        "extractor_digest": extractor.record["digest"],
    }
    return {
        "frechet_distance": {
            "value": score.value,
            "standard_error": score.error,
            **protocol,
            "error_of": "samples, jackknife over 20 groups",
        },
        **compare_classes(features, reference, extractor=extractor, protocol=protocol),
    }


def compare_classes(
    features: NDArray[Any], reference: NDArray[Any], *, extractor: Extractor, protocol: Entry
) -> dict[str, Entry]:
    """How the classes of samples are shared out, against the test images.

    Both are counted as the classifier sees them, from features `[N, D]` and `[M, D]`, rather than the test images by
    their labels: what it takes for another class it does so on both sides.
    """
    from lookalike.metrics.classes import BOOTSTRAPS, class_distance, class_gap, differences

    labels = extractor.prepared.domain.labels
    counts, expected = class_counts(features, extractor), class_counts(reference, extractor)
    distance, gap = class_distance(counts, expected), class_gap(counts, expected)
    shares = differences(counts, expected)
    protocol = {"unit": "share of the samples", **protocol, "error_of": f"samples, bootstrap of {BOOTSTRAPS}"}
    return {
        "class_distance": {
            "value": distance.value,
            "standard_error": distance.error,
            **protocol,
            "counts": counts.tolist(),
            "reference_counts": expected.tolist(),
        },
        "class_gap": {
            "value": gap.value,
            "standard_error": gap.error,
            **protocol,
            "class": labels[int(abs(shares).argmax())],
            "short": [label for label, share in zip(labels, shares, strict=True) if share < -SHORT],
        },
    }


def class_counts(features: NDArray[Any], extractor: Extractor) -> NDArray[np.int64]:
    """How many of features `[N, D]` the extractor's own last layer takes for each class.

    Raises:
        UserError: its weights are damaged.
    """
    from safetensors.numpy import load_file

    path = extractor.folder / "weights.safetensors"
    try:
        weights = load_file(path)
        logits = features @ weights["head.1.weight"].T + weights["head.1.bias"]
    except Exception as error:  # safetensors raises its own type, which has no public base
        raise UserError(f"weights damaged: {path} ({error}). Run the features stage again") from None
    return np.bincount(logits.argmax(axis=1), minlength=len(extractor.prepared.domain.labels))


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
    return compare_images(features, reference, extractor=extractor)
