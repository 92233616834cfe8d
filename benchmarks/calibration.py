"""Check p-values of metrics by repeats on a known distribution, and print a table in Markdown.

    python benchmarks/calibration.py [--repeats 200] [--rows 200] [--features 4] [--figure docs/images/calibration.png]

It compares two sets of one Gaussian, drawn anew in each repeat. Their p-values must be uniform: 5 % of them lie below
0.05, and a Kolmogorov–Smirnov test against the uniform distribution has no small p-value. For errors see coverage.py.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kstest

from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.copying import data_copying
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.sliced import sliced_wasserstein
from lookalike.report.style import BAR, COLOURS, MODEL, SAMPLES, styled


def draw_figure(p_values: dict[str, NDArray[Any]], path: Path) -> None:
    """Draw how often p-values lie below each level; calibrated ones lie there as often as the level says."""
    with styled(text="path"):
        figure = Figure(figsize=(5.5, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=COLOURS["data"][0], linewidth=3)
        for colour, (name, found) in zip((MODEL, SAMPLES, BAR, "#cc79a7", "#a07800"), p_values.items(), strict=True):
            axes.ecdf(found, color=colour, label=name, linewidth=1.2)
        axes.set(title="p-values of one distribution against itself", xlabel="level", ylabel="share of p-values below")
        axes.legend(loc="lower right")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration of p-values.")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--figure", type=Path, help="file for a figure of the results")
    a = parser.parse_args()
    shape = (a.rows, a.features)

    def draw(seed: int) -> Any:
        return np.random.default_rng(seed).normal(size=shape)

    training = np.random.default_rng(10**6).normal(size=(5 * a.rows, a.features))
    tests: dict[str, Callable[[Any, Any], Any]] = {
        "kernel_distance": kernel_distance,
        "energy_distance": energy_distance,
        "sliced_wasserstein": sliced_wasserstein,
        "classifier_test": classifier_test,
        "data_copying": lambda x, y: data_copying(x, y, training, cells=3),
    }
    print(f"{a.repeats} repeats of {a.rows} rows of {a.features} features\n")
    print("| p-values | below 0.05 | uniform: p |\n| --- | ---: | ---: |")
    p_values: dict[str, NDArray[Any]] = {}
    for name, test in tests.items():
        p_values[name] = found = np.array([test(draw(2 * i), draw(2 * i + 1)).p_value for i in range(a.repeats)])
        print(f"| {name} | {np.mean(found < 0.05):.1%} | {kstest(found, 'uniform').pvalue:.2f} |", flush=True)

    if a.figure:
        draw_figure(p_values, a.figure)


if __name__ == "__main__":
    main()
