"""How close samples come to the test set and how new they are, by what a data set is compared by.

That is features of images, values of vectors. Every entry carries its protocol: how many of what it was measured on,
and by which settings.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.data import Prepared, Split
from lookalike.extractor import Extractor
from lookalike.metrics import Score, ScoredTest

Entry = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

SHORT = 0.05
"""A class is short if its share is smaller than among the test images by more than this."""

LEAST = 20
"""Samples and test points that all metrics together need."""

NEIGHBOURS = 5
"""A point's ball reaches to this neighbour of its own set, for precision, recall, density and coverage."""

VOTERS = 25
"""Training points, at least, that say which class a vector is of."""

A_CELL = 60
"""Test points that each cell of the data-copying test has on average at least."""

NEAREST = 64
"""Samples and test points that are kept of each kind that a figure shows."""

OF_MEAN = "samples, mean over them"


def compare(features: NDArray[Any], extractor: Extractor, *, split: Split = "test") -> dict[str, Entry]:
    """The entries alone of what `compare_and_part` gives."""
    return compare_and_part(features, extractor, split=split)[0]


def compare_and_part(
    features: NDArray[Any], extractor: Extractor, *, split: Split = "test"
) -> tuple[dict[str, Entry], Arrays]:
    """Distances of features `[N, D]` to those of the test set, or of another split, and tests of whether there is any.

    Returns:
        Entries by metric; the rows of the test points that are farthest from any sample, as `missed_rows`, and of the
        samples that are farthest from any test point, as `made_up_rows`, both in radii of their own balls and farthest
        first.

    Raises:
        UserError: too few samples or test points for an error of each.
    """
    reference = extractor.stored(split)
    check_enough(samples=features, **{split: reference})
    protocol = {
        "samples": len(features),
        "reference": split,
        "reference_count": len(reference),
        **named(extractor),
    }
    if extractor.is_identity:
        own = compare_vectors(features, reference, protocol=protocol)
        if extractor.prepared.domain.labels:
            seen_by = protocol | {"classes_by": f"vote of the {VOTERS} nearest training points"}
            own |= compare_classes(features, reference, extractor=extractor, protocol=seen_by)
    else:
        own = compare_images(features, reference, extractor=extractor, protocol=protocol)
    domain = extractor.prepared.domain if extractor.is_identity else None
    shared, farthest = compare_points(features, reference, domain=domain, protocol=protocol)
    return own | shared, farthest


def named(extractor: Extractor) -> Entry:
    """The extractor's part of a protocol."""
    digest = {} if extractor.is_identity else {"extractor_digest": extractor.record["digest"]}
    return {"extractor": extractor.record["name"], **digest}


def check_enough(**sets: NDArray[Any]) -> None:
    """Raise a UserError if a set, given by its name, has fewer points than it takes."""
    for name, points in sets.items():
        if len(points) < LEAST:
            cure = "raise budget.samples" if name == "samples" else f"hold out more for {name}"
            raise UserError(f"{len(points)} points of {name}, and scoring them takes {LEAST} at least: {cure}")


def entry(score: Score | ScoredTest, protocol: Entry, *, error_of: str, **more: Any) -> Entry:
    """A score as `metrics.json` has it."""
    test = {"p_value": score.p_value} if isinstance(score, ScoredTest) else {}
    return {"value": score.value, "standard_error": score.error, **test, **protocol, "error_of": error_of, **more}


def compare_vectors(samples: NDArray[Any], reference: NDArray[Any], *, protocol: Entry) -> dict[str, Entry]:
    """Distances of values `[N, D]` to the test values `[M, D]`, a dimension at a time."""
    from lookalike.metrics.marginal import BOOTSTRAPS, kolmogorov_smirnov, wasserstein_1

    error_of = f"samples, bootstrap of {BOOTSTRAPS}"
    return {
        "wasserstein_1": entry(wasserstein_1(samples, reference), protocol, error_of=error_of),
        "kolmogorov_smirnov": entry(kolmogorov_smirnov(samples, reference), protocol, error_of=error_of),
    }


def compare_images(
    features: NDArray[Any], reference: NDArray[Any], *, extractor: Extractor, protocol: Entry
) -> dict[str, Entry]:
    """Distances of features `[N, D]` to those of the test images `[M, D]`.

    Where the extractor knows the data's classes, of the classes they are taken for, too.
    """
    from lookalike.metrics.confidence import classifier_confidence
    from lookalike.metrics.frechet import frechet_distances
    from lookalike.metrics.kernel import kernel_distance
    from lookalike.metrics.pairs import BINS, PERMUTATIONS

    frechet = frechet_distances(features, reference)
    left_out = "samples, jackknife over 20 groups"
    extrapolated = {"extrapolated_to": "infinitely many samples", "reference_is": "as large as it is"}
    known_as = {name: {"known_as": other} for name, other in extractor.record.get("known_as", {}).items()}
    found = {
        "frechet_distance": entry(frechet.distance, protocol, error_of=left_out, **known_as.get("frechet_distance", {}))
    }
    if extractor.has_classes:
        found |= compare_classes(features, reference, extractor=extractor, protocol=protocol)
    found |= {
        "frechet_distance_infinite": entry(frechet.infinite, protocol, error_of=left_out, **extrapolated),
        "kernel_distance": entry(
            kernel_distance(features, reference),
            protocol,
            error_of=f"samples, jackknife over {BINS} bins or more",
            settings={"kernel": "(x·y/D + 1)³", "permutations": PERMUTATIONS},
            **known_as.get("kernel_distance", {}),
        ),
    }
    if extractor.has_classes:
        sure = classifier_confidence(probabilities(class_logits(features, extractor)))
        found["classifier_confidence"] = entry(sure, protocol, error_of=OF_MEAN)
    return found


def dequantized(values: NDArray[Any], domain: Domain, *, seed: int) -> NDArray[Any]:
    """Values `[N, D]`, each at a random place of its grid step: points that share a grid point have no ball else."""
    places = np.random.default_rng(seed).uniform(-0.5, 0.5, size=values.shape)
    spread: NDArray[Any] = values + places * np.asarray(domain.step)
    return spread


def compare_points(
    features: NDArray[Any], reference: NDArray[Any], *, domain: Domain | None, protocol: Entry
) -> tuple[dict[str, Entry], Arrays]:
    """Fidelity, diversity and two-sample tests of any points `[N, D]` against those of the test set `[M, D]`.

    And the rows of those where the two sets part, by which of the sets they are of.

    Args:
        domain: whose grid the points lie on; None for features, which lie on none.
    """
    from lookalike.metrics import sliced
    from lookalike.metrics.classifier import classifier_test
    from lookalike.metrics.energy import energy_distance
    from lookalike.metrics.pairs import BINS, PERMUTATIONS
    from lookalike.metrics.support import support_and_gaps

    left_out = "samples, jackknife over 20 groups"
    error_of = {"precision": OF_MEAN, "density": OF_MEAN}
    points, against = features, reference
    settings: Entry = {"neighbours": NEIGHBOURS}
    if domain is not None:
        points, against = dequantized(features, domain, seed=0), dequantized(reference, domain, seed=1)
        settings["dequantized"] = "uniformly over a grid step"
    scores, gaps = support_and_gaps(points, against, k=NEIGHBOURS)
    farthest = {f"{name}_rows": np.argsort(-far, kind="stable")[:NEAREST] for name, far in gaps._asdict().items()}
    found = {
        name: entry(score, protocol, error_of=error_of.get(name, left_out), settings=settings)
        for name, score in scores._asdict().items()
    }
    found["nearest_sample_distance"]["settings"] = {k: v for k, v in settings.items() if k != "neighbours"}
    smaller = min(len(features), len(reference))
    lines = 1 if features.shape[1] == 1 else sliced.DIRECTIONS
    found |= {
        "classifier_accuracy": entry(
            classifier_test(features, reference),
            protocol,
            error_of="the held-out half, given the classifier",
            settings={"of_each_set": smaller, "trained_on": smaller // 2, "p_value": "exact, hypergeometric"},
        ),
        "energy_distance": entry(
            energy_distance(features, reference),
            protocol,
            error_of=f"samples, jackknife over {BINS} bins or more",
            settings={"permutations": PERMUTATIONS},
        ),
        "sliced_wasserstein": entry(
            sliced.sliced_wasserstein(features, reference),
            protocol,
            error_of=left_out,
            settings={"directions": lines, "permutations": sliced.PERMUTATIONS},
        ),
    }
    return found, farthest


def compare_classes(
    features: NDArray[Any], reference: NDArray[Any], *, extractor: Extractor, protocol: Entry
) -> dict[str, Entry]:
    """How the classes of samples are shared out, against the test images.

    Both are counted as the classifier sees them, from features `[N, D]` and `[M, D]`, rather than the test images by
    their labels: what it takes for another class it does so on both sides. Of vectors the classifier is the vote of
    the nearest training points. A class is short if that is beyond the chance of both draws, too.
    """
    from lookalike.metrics.classes import BOOTSTRAPS, class_distance, class_gap, differences, differences_error

    labels = extractor.prepared.domain.labels
    counts, expected = class_counts(features, extractor), class_counts(reference, extractor)
    shares = differences(counts, expected)
    chance = differences_error(counts, expected)
    lacking = (shares < -SHORT) & (shares < -2 * chance)
    protocol = {"unit": "share of the samples", **protocol}
    error_of = f"samples, bootstrap of {BOOTSTRAPS}"
    return {
        "class_distance": entry(
            class_distance(counts, expected),
            protocol,
            error_of=error_of,
            counts=counts.tolist(),
            reference_counts=expected.tolist(),
        ),
        "class_gap": entry(
            class_gap(counts, expected),
            protocol,
            error_of=error_of,
            **{"class": labels[int(abs(shares).argmax())]},
            chance=float(chance[abs(shares).argmax()]),
            short=[label for label, lack in zip(labels, lacking, strict=True) if lack],
        ),
    }


def class_counts(features: NDArray[Any], extractor: Extractor) -> NDArray[np.int64]:
    """How many of features `[N, D]` are taken for each class, by the extractor or the nearest training points."""
    seen = nearest_labels(features, extractor) if extractor.is_identity else class_logits(features, extractor).argmax(1)
    return np.bincount(seen, minlength=len(extractor.prepared.domain.labels))


def nearest_labels(values: NDArray[Any], extractor: Extractor) -> NDArray[Any]:
    """Class numbers of values `[N, D]`: what most of the `VOTERS` nearest training points are.

    Training points that are the same vote together: where people round to half inches, one of them is no neighbourhood.
    """
    from scipy.spatial import KDTree

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
    """What the extractor's own last layer makes of features `[N, D]`: logits of classes `[N, C]`.

    Raises:
        UserError: its weights are damaged.
    """
    from safetensors.numpy import load_file

    path = extractor.folder / "weights.safetensors"
    try:
        weights = load_file(path)
        logits: NDArray[Any] = features @ weights["head.1.weight"].T + weights["head.1.bias"]
    except Exception as error:  # safetensors raises its own type, which has no public base
        raise UserError(f"weights damaged: {path} ({error}). Run the features stage again") from None
    return logits


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax over classes `[N, C]`."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


def find_copies(
    values: NDArray[Any], features: NDArray[Any], extractor: Extractor, *, split: Split = "test"
) -> tuple[dict[str, Entry], Arrays]:
    """How new samples are: values `[N, *shape]` and what they are compared by `[N, D]`, against the training data.

    Returns:
        Entries by metric; of the first samples the row of the nearest training point and its distance.
    """
    from lookalike.metrics.authenticity import authenticity
    from lookalike.metrics.duplicates import copies, duplicates

    training, test = extractor.training(), extractor.stored(split)
    check_enough(samples=features, **{split: test})
    found = authenticity(features, training.points, apart=training.apart)
    copying, cells = copying_test(features, test, training.points)
    everything = extractor.prepared.values("train")
    whole = {"samples": len(values), "extractor": "values, compared for equality"}
    against = {"reference": "train", "reference_count": len(training.points), "training_of": training.of}
    both = {
        "reference": f"{split} and train",
        "reference_count": len(test),
        "training_count": len(training.points),
        "training_of": training.of,
    }
    samples = {"samples": len(features)}
    entries = {
        "authenticity": entry(found.score, samples | against | named(extractor), error_of=OF_MEAN),
        "data_copying": entry(
            copying,
            samples | both | named(extractor),
            error_of="samples, given test and training data",
            settings={"cells": cells, "p_value": "of copies, one-sided"},
        ),
        "duplicates": entry(
            duplicates(values), whole | {"reference": "the samples themselves"}, error_of="samples, jackknife"
        ),
        "training_copies": entry(
            copies(values, everything),
            whole | {"reference": "train", "reference_count": len(everything)},
            error_of=OF_MEAN,
        ),
    }
    rows = training.rows[found.nearest[:NEAREST]]
    return entries, {"nearest_training_rows": rows, "nearest_training_distances": found.distance[:NEAREST]}


def copying_test(features: NDArray[Any], test: NDArray[Any], training: NDArray[Any]) -> tuple[ScoredTest, int]:
    """C_T and the cells it was taken over: as many as the test set fills, or one where samples share none with it."""
    from lookalike.metrics.copying import CELLS, data_copying

    cells = max(1, min(CELLS, len(test) // A_CELL))
    try:
        return data_copying(features, test, training, cells=cells), cells
    except UserError:
        if cells == 1:
            raise
        return data_copying(features, test, training, cells=1), 1


def score_real(
    prepared: Prepared, extractor: Extractor, *, count: int
) -> tuple[NDArray[Any], dict[str, Entry], Arrays]:
    """Score real data outside the test set: the values used `[N, *shape]`, their metrics, the arrays behind these.

    Held-out data come first; a data set too small to hold out as many as asked for adds its training data. Whether
    they are new is asked of held-out data alone.
    """
    values, features = prepared.values("validation")[:count], extractor.stored("validation")[:count]
    new, details = find_copies(np.asarray(values), features, extractor)
    source = held_out = "validation"
    if len(values) < count and extractor.is_identity:
        values = np.concatenate([values, prepared.values("train")[: count - len(values)]])
        features, source = values, "validation and train"
    close, farthest = compare_and_part(features, extractor)
    entries = {name: scored | {"source": source} for name, scored in close.items()}
    entries |= {name: scored | {"source": held_out} for name, scored in new.items()}
    return values, entries, details | farthest
