"""Draw resamples of samples and of a reference, and collect the replicates of scores.

Resamples of a reference are the same for every cell of a data set: two cells' replicates with the same number met the
same test set, so that their difference has the error of a paired comparison. What is estimated is the expectation of a
score at these numbers of samples and of test points: a Fréchet distance of few points is too large, and its error says
nothing about this bias.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.entries import Arrays, Entry
from lookalike.metrics.resamples import Resampled, Weights

REPLICATES = 400
"""Number of resamples."""

POINTS_PER_FEATURE = 15
"""Smallest number of points per feature at which a Fréchet distance gets a rank: docs/notes/coverage.md."""

SAMPLES, REFERENCE = 1, 2
"""Seeds of the two generators of resamples."""


def resamples(samples: int, reference: int, *, replicates: int = REPLICATES) -> Weights:
    """Return the weights of resamples of two sets, given their sizes; those of a size are always the same."""
    return Weights(drawn(samples, replicates, SAMPLES), drawn(reference, replicates, REFERENCE))


def few_points(samples: NDArray[Any], reference: NDArray[Any]) -> str:
    """Return why a Fréchet distance between points `[N, D]` and `[M, D]` gets no rank; empty if it gets one."""
    needed = POINTS_PER_FEATURE * samples.shape[1]
    if (fewest := min(len(samples), len(reference))) >= needed:
        return ""
    return f"{fewest} points in {samples.shape[1]} features: a Fréchet distance gets a rank from {needed} of each"


@functools.lru_cache(maxsize=4)
def drawn(count: int, replicates: int, *seed: int) -> NDArray[np.float32]:
    """Return the weights `[1 + replicates, count]` of points drawn with replacement; the first row is ones."""
    generator = np.random.default_rng(seed)
    weights = np.ones((1 + replicates, count), dtype=np.float32)
    for row in weights[1:]:
        row[:] = np.bincount(generator.integers(0, count, count), minlength=count)
    weights.flags.writeable = False
    return weights


def parted(entries: dict[str, Entry]) -> tuple[dict[str, Entry], Arrays]:
    """Return entries without their replicates, and the replicates as `resampled.npz` holds them.

    The arrays `<metric>/joint`, `<metric>/samples` and `<metric>/reference` `[B]` are the values of a metric in
    resamples of both sets, of the samples alone, and of the reference alone.
    """
    plain: dict[str, Entry] = {}
    arrays: Arrays = {}
    for name, scored in entries.items():
        plain[name] = {key: value for key, value in scored.items() if key != "resampled"}
        found: Resampled | None = scored.get("resampled")
        if found is not None:
            arrays |= {f"{name}/{part}": getattr(found, part) for part in ("joint", "samples", "reference")}
    return plain, arrays
