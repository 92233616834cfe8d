"""Check p-values and errors of metrics by repeats on a known distribution, and print two tables in Markdown.

    python benchmarks/calibration.py [--repeats 200] [--rows 200] [--features 4] [--figure docs/images/calibration.png]

The first table compares two sets of one Gaussian, drawn anew in each repeat. Their p-values must be uniform: 5 % of
them lie below 0.05, and a Kolmogorov–Smirnov test against the uniform distribution has no small p-value.

The second table compares draws of a shifted Gaussian with one fixed reference. Intervals of ±1.96 standard errors must
contain the mean over the repeats in 90 to 99 % of them. For the extrapolated Fréchet distance, which has a reference of
200,000 points, they must contain the distance in closed form.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kstest

from lookalike.metrics import Score
from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.copying import data_copying
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.sliced import sliced_wasserstein
from lookalike.metrics.support import Support, support
from lookalike.report.style import BAR, COLOURS, MODEL, MUTED, RULE, SAMPLES, styled

SHIFT = 0.5


def draw_figure(p_values: dict[str, NDArray[Any]], covered: dict[str, float], path: Path) -> None:
    """Draw how often p-values lie below each level, and the share of intervals that contain the truth.

    Calibrated p-values lie below each level as often as the level says.
    """
    with styled(text="path"):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=COLOURS["data"][0], linewidth=3)
        for colour, (name, found) in zip((MODEL, SAMPLES, BAR, "#cc79a7", "#a07800"), p_values.items(), strict=True):
            left.ecdf(found, color=colour, label=name, linewidth=1.2)
        left.set(title="p-values of one distribution against itself", xlabel="level", ylabel="share of p-values below")
        left.legend(loc="lower right")
        right.axvspan(90, 99, color=RULE, alpha=0.5, linewidth=0)
        right.plot([100 * share for share in covered.values()], list(covered), "o", color=MODEL, markersize=5)
        right.axvline(95, color=MUTED, linewidth=0.8)
        right.invert_yaxis()
        right.set(title="95 % intervals that contain the truth", xlabel="percent of the repeats", xlim=(80, 100.5))
        figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration of p-values and errors.")
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

    reference = draw(10**6 + 1)
    scores: dict[str, list[Score]] = {}
    for i in range(a.repeats):
        x = draw(i) + SHIFT
        near = support(x, reference)
        each = {
            "frechet_distance": frechet_distances(x, reference).distance,
            **{name: test(x, reference) for name, test in tests.items() if name != "classifier_test"},
            **{name: getattr(near, name) for name in Support._fields},
            "authenticity": authenticity(x, training).score,
        }
        for name, score in each.items():
            scores.setdefault(name, []).append(Score(*score[:2]))
    truths = {name: float(np.mean([score.value for score in every])) for name, every in scores.items()}
    large = np.random.default_rng(10**6 + 2).normal(size=(200_000, a.features))
    scores["frechet_distance_infinite"] = [frechet_distances(draw(i) + SHIFT, large).infinite for i in range(a.repeats)]
    truths["frechet_distance_infinite"] = SHIFT**2 * a.features
    print("\n| intervals | truth | contain it | mean error | standard deviation |\n| --- | ---: | ---: | ---: | ---: |")
    covered: dict[str, float] = {}
    for name, repeated in scores.items():
        values, errors = np.array(repeated).T
        covered[name] = float(np.mean(np.abs(values - truths[name]) < 1.96 * errors))
        print(f"| {name} | {truths[name]:.4g} | {covered[name]:.1%} | {errors.mean():.2g} | {values.std(ddof=1):.2g} |")
    if a.figure:
        draw_figure(p_values, covered, a.figure)


if __name__ == "__main__":
    main()
