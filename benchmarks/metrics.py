"""Measure seconds and peak memory of every metric, and print a table in Markdown.

    python benchmarks/metrics.py [--samples 10000] [--features 64] [--wide 2048] [--many 1000000]

Samples, reference and training data are random numbers, with as many rows each; real features cost the same. Every row
is measured in a process of its own. Its memory is the peak of the whole process, including input and interpreter. The
processor's seconds matter if other programs run at the same time. The last rows compare a Fréchet distance of wide
features with torchmetrics and SciPy's `sqrtm`, from the same covariances, and sum moments of many samples in batches.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.copying import data_copying
from lookalike.metrics.duplicates import duplicates
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import Moments, frechet, frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.sliced import sliced_wasserstein
from lookalike.metrics.support import support
from lookalike.workspace.cost import peak_memory

Floats = NDArray[np.float64]

METRICS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "Fréchet distance, extrapolated too": lambda x, y, t: frechet_distances(x, y),
    "kernel distance": lambda x, y, t: kernel_distance(x, y),
    "precision, recall, density, coverage, nearest sample": lambda x, y, t: support(x, y),
    "energy distance": lambda x, y, t: energy_distance(x, y),
    "sliced Wasserstein": lambda x, y, t: sliced_wasserstein(x, y),
    "classifier test": lambda x, y, t: classifier_test(x, y),
    "authenticity, nearest training points": lambda x, y, t: authenticity(x, t),
    "data copying": lambda x, y, t: data_copying(x, y, t),
    "duplicates": lambda x, y, t: duplicates(x),
}


def everything(x: Any, y: Any, t: Any) -> None:
    for metric in METRICS.values():
        metric(x, y, t)


def sets(rows: int, features: int) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(rows, features)).astype(np.float32) for _ in range(3)]


def covariances(features: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return means and covariances of two sets with twice as many rows as features."""
    generator = np.random.default_rng(0)
    drawn = [generator.normal(size=(2 * features, features)) * scale for scale in (1.0, 1.2)]
    first, second = (Moments.of(x) for x in drawn)
    return first.mean(), first.covariance(), second.mean(), second.covariance()


def by_scipy(m1: Floats, c1: Floats, m2: Floats, c2: Floats) -> float:
    import scipy.linalg

    root = np.real(scipy.linalg.sqrtm(c1 @ c2))
    return float((m1 - m2) @ (m1 - m2) + np.trace(c1) + np.trace(c2) - 2 * np.trace(root))


def by_torchmetrics(m1: Floats, c1: Floats, m2: Floats, c2: Floats) -> float:
    import torch
    from torchmetrics.image.fid import _compute_fid

    return float(_compute_fid(*(torch.from_numpy(x) for x in (m1, c1, m2, c2))))


def streamed(rows: int, features: int) -> None:
    """Sum moments of batches, so that the samples are never in memory together."""
    batch = np.random.default_rng(0).normal(size=(10_000, features)).astype(np.float32)
    total = Moments.of(batch)
    for _ in range(rows // len(batch) - 1):
        total += Moments.of(batch)
    total.covariance()


def measure(name: str, prepare: Callable[..., Any], sizes: tuple[int, ...], work: Callable[..., Any]) -> None:
    """Print one row of the table, measured in a process of its own."""
    child = multiprocessing.get_context("fork").Process(target=line, args=(name, prepare, sizes, work))
    child.start()
    child.join()


def line(name: str, prepare: Callable[..., Any], sizes: tuple[int, ...], work: Callable[..., Any]) -> None:
    arguments = prepare(*sizes)
    try:
        work(*(prepare(*(min(size, 100) for size in sizes))))  # imports and first calls are not counted
    except ImportError:
        print(f"| {name} | not installed | | | |", flush=True)
        return
    clock, processor = time.perf_counter(), time.process_time()
    result = work(*arguments)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = peak_memory()
    value = f"{result:.6g}" if isinstance(result, float) else ""
    print(f"| {name} | {clock:.1f} | {processor:.1f} | {peak:,.0f} | {value} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of every metric.")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--wide", type=int, default=2048, help="features of a wide extractor")
    parser.add_argument("--many", type=int, default=1_000_000, help="samples that are streamed")
    a = parser.parse_args()
    print(f"{a.samples:,} samples, reference, training data; {a.features} features\n")
    print("| metric | seconds | processor seconds | peak MB | value |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    for name, metric in METRICS.items():
        measure(name, sets, (a.samples, a.features), metric)
    measure("**all of these**", sets, (a.samples, a.features), everything)
    measure(f"Fréchet distance, {a.wide} features", covariances, (a.wide,), frechet)
    measure("— by torchmetrics", covariances, (a.wide,), by_torchmetrics)
    measure("— by SciPy's sqrtm", covariances, (a.wide,), by_scipy)
    measure(f"moments of {a.many:,} samples", lambda *sizes: sizes, (a.many, a.features), streamed)


if __name__ == "__main__":
    main()
