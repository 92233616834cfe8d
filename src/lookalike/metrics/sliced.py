"""Sliced Wasserstein distance: Wasserstein-1 of both sets on a line, averaged over directions of the line.

SW₁ = E_θ ∫ |F_θ(t) - G_θ(t)| dt, with F_θ and G_θ the distribution functions of x · θ, θ uniform on the sphere.
(Rabin et al., Wasserstein barycenter and its application to texture mixing, 2011; Bonneel et al., 2015.) Directions are
drawn once, from a fixed seed, for every set that is compared; one dimension has one direction.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import TestedScore, jackknife
from lookalike.metrics.inputs import check
from lookalike.metrics.pairs import p_value

DIRECTIONS = 64
PERMUTATIONS = 199


def sliced_wasserstein(samples: NDArray[Any], reference: NDArray[Any]) -> TestedScore:
    """SW₁ of samples `[N, D]` and a reference `[M, D]`, in their unit.

    The error is that of drawing the samples anew, the reference and the directions held fixed: a jackknife over groups.
    Memory grows with `PERMUTATIONS` bytes a point.
    """
    check(samples=samples, reference=reference)
    n, m = len(samples), len(reference)
    is_sample = np.arange(n + m) < n
    groups = jackknife.split(n)
    left_out = np.tile(is_sample, (len(groups), 1))
    for marks, members in zip(left_out, groups, strict=True):
        marks[members] = False
    permuted = np.random.default_rng(0).permuted(np.tile(is_sample, (PERMUTATIONS, 1)), axis=1)
    lines = directions(samples.shape[1])
    values, without = np.zeros(1 + PERMUTATIONS), np.zeros(len(groups))
    for line in lines:
        places = np.concatenate([samples @ line, reference @ line])
        order = places.argsort(kind="stable")
        gaps, order = np.diff(places[order]), order[:-1]
        # With c samples among the first i of all: F = c / n, G = (i - c) / m.
        base = np.arange(1, n + m) / m
        for i, marks in enumerate([is_sample, *permuted]):
            values[i] += area(marks[order], 1 / n + 1 / m, base, gaps)
        base = np.cumsum(~is_sample[order]) / m
        for i, marks in enumerate(left_out):
            without[i] += area(marks[order], 1 / np.count_nonzero(marks), base, gaps)
    values, without = values / len(lines), without / len(lines)
    return TestedScore(float(values[0]), float(jackknife.error(without)), p_value(values[0], values[1:]))


def area(marks: NDArray[np.bool_], step: float, base: NDArray[Any], gaps: NDArray[Any]) -> float:
    """∫ |step · c - base| over a line that marks stand on, c of them so far."""
    height = np.cumsum(marks, dtype=np.float64)
    height *= step
    height -= base
    return float(np.abs(height, out=height) @ gaps)


def directions(dimension: int) -> NDArray[np.float64]:
    """Unit vectors `[L, D]`."""
    if dimension == 1:
        return np.ones((1, 1))
    drawn = np.random.default_rng(0).normal(size=(DIRECTIONS, dimension))
    unit: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit
