"""Damage held-out data by known amounts, score them as samples, and print which metric notices which damage.

    python benchmarks/damage.py [--artifacts artifacts/mnist] [--rows 2000] [--figure docs/images/damage.png]

With prepared MNIST and its features, validation images are compared with test images. Otherwise the data are draws of a
mixture of ten Gaussians in 16 dimensions. A metric notices a damage from the smallest amount at which its value is
worse than that of undamaged data by two standard errors. "Not monotone" means that somewhere more damage scores better
by more than a standard error. For authenticity and C_T, "worse" means nearer to the training data.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lookalike.domain.prepared import Prepared
from lookalike.evaluation.resampling import resamples
from lookalike.features.extraction import features_of
from lookalike.features.extractor import Extractor
from lookalike.metrics.authenticity import authenticity
from lookalike.metrics.classifier import classifier_test
from lookalike.metrics.copying import data_copying
from lookalike.metrics.duplicates import copies
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.sliced import sliced_wasserstein
from lookalike.metrics.support import support
from lookalike.report.style import COLOURS, MUTED, RULE, styled

Array = NDArray[Any]
Scores = dict[str, tuple[float, float]]

BETTER_HIGH = {"precision", "recall", "density", "coverage", "authenticity", "data_copying"}
"""Metrics for which a lower value is worse. The last two fall when samples are copies."""

AMOUNTS = (0.0, 0.1, 0.2, 0.4, 0.8)


def mixture(generator: np.random.Generator, rows: int) -> tuple[Array, Array]:
    centres = 3 * np.random.default_rng(0).normal(size=(10, 16))
    labels = generator.integers(0, 10, size=rows)
    return centres[labels] + generator.normal(size=(rows, 16)), labels


def noise(x: Array, labels: Array, training: Array, amount: float) -> Array:
    noisy: Array = x + amount * x.std() * np.random.default_rng(1).normal(size=x.shape)
    return noisy.clip(0, 255).round().astype(np.uint8) if x.dtype == np.uint8 else noisy


def dropped_mode(x: Array, labels: Array, training: Array, amount: float) -> Array:
    """Leave out a share of one class."""
    return thinned(x, labels < 1, amount)


def imbalance(x: Array, labels: Array, training: Array, amount: float) -> Array:
    """Leave out a share of half of the classes."""
    return thinned(x, labels < 5, amount)


def thinned(x: Array, losing: NDArray[np.bool_], amount: float) -> Array:
    lost = np.flatnonzero(losing)
    return np.delete(x, lost[: round(amount * len(lost))], axis=0)


def copied(x: Array, labels: Array, training: Array, amount: float) -> Array:
    damaged, count = x.copy(), round(amount * len(x))
    damaged[:count] = training[:count]
    return damaged


def blur(x: Array, labels: Array, training: Array, amount: float) -> Array:
    return gaussian_filter(x.astype(np.float32), (0, 0, 1.5 * amount, 1.5 * amount)).round().astype(x.dtype)


DAMAGES: dict[str, Callable[[Array, Array, Array, float], Array]] = {
    "noise": noise,
    "blur": blur,
    "dropped mode": dropped_mode,
    "class imbalance": imbalance,
    "copied share": copied,
}


def score(x: Array, reference: Array, training: Array, values: Array, training_values: Array) -> Scores:
    """Return value and error of every metric of features, and of exact copies among values."""
    weights = resamples(len(x), len(reference), replicates=100)
    frechet = frechet_distances(x, reference, weights)
    found = {
        "frechet_distance": frechet.distance,
        "frechet_distance_infinite": frechet.infinite,
        "kernel_distance": kernel_distance(x, reference, weights),
        **support(x, reference)._asdict(),
        "energy_distance": energy_distance(x, reference, weights),
        "sliced_wasserstein": sliced_wasserstein(x, reference, weights),
        "classifier_accuracy": classifier_test(x, reference, weights),
        "authenticity": authenticity(x, training, weights).score,
        "data_copying": data_copying(x, reference, training, weights),
        "training_copies": copies(values, training_values, weights),
    }
    return {name: (one.value, one.error) for name, one in found.items()}


def worse_by(metric: str, scores: list[tuple[float, float]]) -> tuple[Array, Array]:
    """Return by how much each amount of damage is worse than none `[amounts]`, and the standard error of it."""
    values, errors = np.array(scores).T
    worse = values[0] - values if metric in BETTER_HIGH else values - values[0]
    return worse, np.hypot(errors, errors[0]).clip(1e-12)


def mark(metric: str, scores: list[tuple[float, float]]) -> str:
    """Return the smallest amount of damage that a metric notices, or "no", or "looks better"."""
    difference, errors = worse_by(metric, scores)
    worse = difference / errors
    if (worse[1:] > 2).any() and worse[-1] > 2:
        falling = "" if (np.diff(difference) > -np.array(scores)[1:, 1]).all() else ", not monotone"
        return f"from {AMOUNTS[int((worse > 2).argmax())]:g}{falling}"
    return "looks better" if worse[-1] < -2 else "no"


LINES = (COLOURS["model"][0], COLOURS["samples"][0], COLOURS["bar"][0], "#cc79a7", "#a07800")


def draw(found: dict[str, dict[str, list[tuple[float, float]]]], path: Path) -> None:
    """Draw one panel per metric and one line per damage: how many standard errors it is worse than undamaged data.

    Differences within [-2, 2] are not significant.
    """
    metrics = list(next(iter(found.values())))
    with styled(text="path"):
        figure = Figure(figsize=(10, 1.9 * -(-(len(metrics) + 1) // 5)), layout="constrained")
        panels = figure.subplots(-(-(len(metrics) + 1) // 5), 5, sharex=True, sharey=True).flat
        for metric, axes in zip(metrics, panels, strict=False):
            axes.axhspan(-2, 2, color=RULE, alpha=0.4, linewidth=0)
            for colour, (damage, scores) in zip(LINES, found.items(), strict=False):
                difference, errors = worse_by(metric, scores[metric])
                places = range(len(AMOUNTS))
                axes.plot(places, difference / errors, color=colour, marker="o", markersize=3, label=damage)
            axes.set(title=metric, yscale="symlog", ylim=(-300, 300), yticks=[-100, -10, 0, 10, 100])
            axes.set_xticks(range(len(AMOUNTS)), [f"{amount:g}" for amount in AMOUNTS])
            axes.set_yscale("symlog", linthresh=2)
            axes.tick_params(labelbottom=True)
        rest = list(panels)
        for axes in rest:
            axes.axis("off")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        rest[0].legend(handles, labels, loc="center", title="damage", title_fontproperties={"size": 8})
        figure.supylabel("worse than undamaged, in standard errors", color=MUTED, size=8)
        figure.supxlabel("amount of damage", color=MUTED, size=8)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Print which metric notices which damage.")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts/mnist"))
    parser.add_argument(
        "--rows", type=int, default=2000, help="samples and reference points; five times as many training points"
    )
    parser.add_argument("--figure", type=Path, help="file for a figure of the results")
    a = parser.parse_args()
    damages = dict(DAMAGES)
    if (a.artifacts / "features/extractor/extractor.json").is_file():
        prepared = Prepared(a.artifacts / "prepared")
        extractor = Extractor(a.artifacts / "features/extractor", prepared)
        x, labels = np.array(prepared.grid("validation")[: a.rows]), prepared.labels("validation")[: a.rows]
        # The first 5000 test images of MNIST come from other writers than the rest, so the rows are drawn at random.
        some = np.sort(np.random.default_rng(0).permutation(len(prepared.grid("test")))[: a.rows])
        reference, training = np.array(prepared.grid("test")[some]), np.array(prepared.grid("train")[: 5 * a.rows])

        def features(values: Array) -> Array:
            return features_of(extractor, values, batch_size=500)

        title = f"{prepared.domain.name}, features of {extractor.record['name']} {extractor.record['digest']}"
    else:
        generator = np.random.default_rng(2)
        (x, labels), (reference, _) = mixture(generator, a.rows), mixture(generator, a.rows)
        training = mixture(generator, 5 * a.rows)[0]
        del damages["blur"]

        def features(values: Array) -> Array:
            return values

        title = "a mixture of ten Gaussians, values"
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    targets = features(reference), features(training)
    for damage, apply in damages.items():
        damaged = [apply(x, labels, training, amount) for amount in AMOUNTS]
        scores = [score(features(values), *targets, values, training) for values in damaged]
        print(f"\n| {damage} | {' | '.join(map(str, AMOUNTS))} |\n| --- |{' ---: |' * len(AMOUNTS)}")
        for metric in scores[0]:
            numbers = [one[metric] for one in scores]
            found.setdefault(damage, {})[metric] = numbers
            print(f"| {metric} | {' | '.join(f'{value:.3g} ± {error:.1g}' for value, error in numbers)} |", flush=True)
    print(f"\n{title}; {a.rows} samples\n\n| metric | {' | '.join(damages)} |\n| --- |{' --- |' * len(damages)}")
    for metric in next(iter(found.values())):
        print(f"| {metric} | {' | '.join(mark(metric, scores[metric]) for scores in found.values())} |")
    if a.figure:
        draw(found, a.figure)


if __name__ == "__main__":
    main()
