"""The catalogue of metrics: how each one is called, in which unit, which way is better, what real data score."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

Better = Literal["lower", "higher"]

LIKELIHOOD = "bits_per_dim"
"""The metric of a model's likelihood on the split that is scored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: its name in `metrics.json`.
        title: its name for reading.
        better: which values are better, up to the goal; None where values on both sides of the goal are found alike.
        goal: the best value: a number, or the value of real data; None where it is the end of the scale.
        real: what real data outside the test set score, in words.
        unit: unit of the value; empty for a number without unit.
        needs_equal_counts: whether the value for real data depends on their number, so that it is a goal only for
            families with as many samples.
        copies: on which side of the value of real data copies of the training data lie; None where they do not show.
    """

    name: str
    title: str
    better: Better | None
    real: str
    goal: float | Literal["real"] | None = None
    unit: str = ""
    needs_equal_counts: bool = False
    copies: Better | None = None

    @property
    def is_ranked(self) -> bool:
        """Whether families are ranked by it: a metric outside the catalogue does not say which values are best."""
        return self.better is not None or self.goal is not None

    @property
    def arrow(self) -> str:
        """Which values are best, as a sign behind the title."""
        if self.goal is not None:
            return f"→ {self.goal}"
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]


MAIN = (
    Metric(name=LIKELIHOOD, title="Bits per dimension", better="lower", real="not applicable: data are no model"),
    Metric(name="frechet_distance", title="Fréchet distance", better="lower", real="above 0: two draws differ"),
    Metric(name="class_distance", title="Class distance", better="lower", real="above 0: two draws differ",
           unit="share of the samples"),
    Metric(name="wasserstein_1", title="Wasserstein-1", better="lower", real="above 0: two draws differ",
           unit="the unit of the data"),
    Metric(name="kolmogorov_smirnov", title="Kolmogorov–Smirnov", better="lower", real="above 0: two draws differ"),
)  # fmt: skip
"""How likely are unseen data, and how close do samples come to them?"""

SUPPORT = (
    Metric(name="precision", title="Precision", better="higher", goal="real", real="below 1"),
    Metric(name="recall", title="Recall", better="higher", goal="real", real="below 1", needs_equal_counts=True),
    Metric(name="density", title="Density", better="higher", goal="real", real="about 1"),
    Metric(name="coverage", title="Coverage", better="higher", goal="real", real="below 1", needs_equal_counts=True),
    Metric(name="nearest_sample_distance", title="Nearest-sample distance", better="lower", goal="real", real="above 0",
           needs_equal_counts=True),
    Metric(name="classifier_confidence", title="Classifier confidence", better=None, goal="real",
           real="a value of their own"),
    Metric(name="frechet_distance_infinite", title="Fréchet distance, N → ∞", better="lower", real="about 0"),
)  # fmt: skip
"""Do samples look like data (fidelity), and are all of the data among them (diversity)?"""

TESTS = (
    Metric(name="classifier_accuracy", title="Classifier accuracy", better="lower", goal=0.5, real="about 0.5"),
    Metric(name="kernel_distance", title="Kernel distance", better="lower", real="about 0"),
    Metric(name="energy_distance", title="Energy distance", better="lower", real="about 0"),
    Metric(name="sliced_wasserstein", title="Sliced Wasserstein", better="lower", real="above 0: two draws differ"),
)
"""Are samples and test data from the same distribution? Each has a p-value."""

NOVELTY = (
    Metric(name="authenticity", title="Authenticity", better=None, goal="real", real="about 0.5", copies="lower"),
    Metric(name="data_copying", title="Data copying C_T", better=None, goal="real", real="about 0", copies="lower"),
    Metric(name="duplicates", title="Duplicates", better=None, goal="real", real="the share of repeats in the data",
           needs_equal_counts=True, copies="higher"),
    Metric(name="training_copies", title="Training copies", better=None, goal="real",
           real="the share of repeats in the data", copies="higher"),
)  # fmt: skip
"""Are samples new?"""

TRUTH = (
    Metric(name="kl", title="KL(P_data‖P_model)", better="lower", real="0", unit="nats/observation"),
    Metric(name="kl_reverse", title="KL(P_model‖P_data)", better="lower", real="0", unit="nats/observation"),
    Metric(name="total_variation", title="Total variation", better="lower", real="0"),
    Metric(name="share_outside", title="Impossible samples", better="lower", real="0", unit="share of the samples"),
)
"""How far is the model from the truth, where the truth is known?"""

METRICS = {metric.name: metric for group in (MAIN, SUPPORT, TESTS, NOVELTY, TRUTH) for metric in group}
"""All of them, by name."""

DETAILS = frozenset({f"{LIKELIHOOD}_validation", f"{LIKELIHOOD}_train", "class_gap"})
"""Entries of `metrics.json` that explain a metric and are none of their own."""

MAIN_DISTANCE = {"image": "frechet_distance", "table": "wasserstein_1"}
"""The distance that says whose samples are closest, by the kind of the data."""


def title_of(name: str) -> str:
    """Return the title of a metric, or its name in words where the catalogue does not have it."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ").capitalize()


def main_distance(names: Iterable[str]) -> str | None:
    """Return the first main distance of any kind that is among the names of metrics; None where none is.

    The kernel distance takes the place of a Fréchet distance that needs more points than there are.
    """
    return next((name for name in (*MAIN_DISTANCE.values(), "kernel_distance") if name in set(names)), None)
