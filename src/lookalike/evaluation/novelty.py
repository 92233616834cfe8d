"""Measure how new samples are compared with the training data, and score real data in the same way as samples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.prepared import Prepared, Split
from lookalike.evaluation.distances import compare_with_gaps
from lookalike.evaluation.entries import OF_SAMPLES, Arrays, Entry, check_enough, entry, named
from lookalike.evaluation.resampling import parted, resamples
from lookalike.features.extractor import Extractor
from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.copying import CELLS, data_copying
from lookalike.metrics.duplicates import copies, duplicates
from lookalike.metrics.resamples import Resampled, Weights
from lookalike.workspace.errors import UserError

MAX_NEAREST = 64
"""Largest number of samples whose nearest training points are kept for the report."""

POINTS_PER_CELL = 60
"""Minimum mean number of test points per cell of the data-copying test."""


def find_copies(
    values: NDArray[Any], features: NDArray[Any], extractor: Extractor, *, split: Split = "test"
) -> tuple[dict[str, Entry], Arrays]:
    """Compare values `[N, *shape]` and their features `[N, D]` with the training data.

    Returns:
        Entries by metric; the rows and the distances of the training points nearest to the first samples.
    """
    training, test = extractor.training(), extractor.stored(split)
    check_enough(samples=features, **{split: test})
    weights = resamples(len(features), len(test))
    found = authenticity(features, training.points, weights, apart=training.apart)
    copying, cells = copying_test(features, test, training.points, weights)
    prepared = extractor.prepared
    everything = prepared.grid("train")
    compared, whole = named(extractor), {"samples": len(values), "extractor": "values, compared for equality"}
    samples, of = {"samples": len(features)}, {"training_of": training.of}
    against = {"reference": "train", "reference_count": len(training.points), **of}
    both = {
        "reference": split,
        "training_reference": "train",
        "reference_count": len(test),
        "training_count": len(training.points),
    }
    entries = {
        "authenticity": entry(found.score, samples | against | compared, error_of=OF_SAMPLES),
        "data_copying": entry(
            copying,
            samples | both | of | compared,
            settings={"cells": cells, "p_value": "of copies, one-sided"},
        ),
        "duplicates": entry(
            duplicates(values),
            whole | {"reference": "the samples themselves"},
            error_of="samples, jackknife",
            why_not_ranked="a resample repeats samples itself, so that it says nothing about repeats",
        ),
        "training_copies": entry(
            copies(prepared.domain.to_grid(values), everything, weights),
            whole | {"reference": "train", "reference_count": len(everything)},
            error_of=OF_SAMPLES,
        ),
    }
    rows = training.rows[found.nearest[:MAX_NEAREST]]
    return entries, {"nearest_training_rows": rows, "nearest_training_distances": found.distance[:MAX_NEAREST]}


def copying_test(
    features: NDArray[Any], test: NDArray[Any], training: NDArray[Any], weights: Weights | None = None
) -> tuple[Resampled, int]:
    """Return C_T and its number of cells: as many as the test set fills, or one where no cell has enough samples."""
    cells = max(1, min(CELLS, len(test) // POINTS_PER_CELL))
    try:
        return data_copying(features, test, training, weights, cells=cells), cells
    except UserError:
        if cells == 1:
            raise
        return data_copying(features, test, training, weights, cells=1), 1


def score_real(
    prepared: Prepared, extractor: Extractor, *, count: int
) -> tuple[NDArray[Any], dict[str, Entry], Arrays, Arrays]:
    """Score real data outside the test set.

    Returns:
        The values `[N, *shape]`, their metrics, the arrays behind them, and the values of metrics in resamples.

    Validation data come first. Training data are added where these are too few and are compared by their values;
    novelty is measured on validation data alone.
    """
    values, features = prepared.values("validation", slice(count)), extractor.stored("validation")[:count]
    new, nearest = find_copies(np.asarray(values), features, extractor)
    source = "validation"
    if len(values) < count and extractor.is_identity:
        values = np.concatenate([values, prepared.values("train", slice(count - len(values)))])
        features, source = values, "validation and train"
    close, gaps = compare_with_gaps(features, extractor)
    entries = {name: scored | {"source": source} for name, scored in close.items()}
    entries |= {name: scored | {"source": "validation"} for name, scored in new.items()}
    entries, replicates = parted(entries)
    return values, entries, nearest | gaps, replicates
