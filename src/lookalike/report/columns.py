"""The places of the families of one data set in one metric.

Two things keep a family out of a ranking: a protocol that differs, so that the numbers measure different things, and a
score whose error is not known at this number of points. All others get a set of ranks (see `ranks`).
"""

import dataclasses

import numpy as np

from lookalike.metrics.catalogue import LIKELIHOOD, Metric
from lookalike.report.cells import Entry, Row
from lookalike.report.common_points import Anchored, anchored, resampled
from lookalike.report.likelihoods import scored_bits
from lookalike.report.numbers import central
from lookalike.report.protocols import difference, protocol_of, shared_protocol
from lookalike.report.ranks import Column, Floats, over_seeds, ranks, slack

DRAWS = 999
"""Resamples, where the stage that scored has left none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a family in one metric.

    Attributes:
        truth: the lowest and the highest rank that it may have; None where it is not ranked.
        stated: the same for the numbers as they are stated, whatever the truth behind bounds and estimates.
        refused: the reason that bars it from a rank.
    """

    truth: tuple[int, int] | None = None
    stated: tuple[int, int] | None = None
    refused: str = ""

    @property
    def is_first(self) -> bool:
        """Whether no number of another family is certainly better."""
        return self.stated is not None and self.stated[0] == 1

    @property
    def as_stated(self) -> str:
        """The ranks of the stated numbers, `2` or `1–3`."""
        return span(self.stated)

    def __str__(self) -> str:
        """Return `2` or `1–3`, with a question mark where kinds of likelihoods leave the order open: `1–7?`."""
        return span(self.truth) + "?" * (self.truth != self.stated)


def span(ends: tuple[int, int] | None) -> str:
    """Return a range of ranks in words."""
    return "" if ends is None else "–".join(dict.fromkeys(map(str, ends)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standings:
    """The places of families in one metric.

    Attributes:
        places: by name, for all but floors; none for a metric that does not say which values are best.
        order: the names of those that are ranked, best number first.
        resolution: the difference that would have been certain with a probability of 80 %, for a pair in the middle.
    """

    places: dict[str, Place]
    order: list[str]
    resolution: float | None

    @property
    def first(self) -> list[str]:
        """The families that no number is certainly better than, best first."""
        return [name for name in self.order if self.places[name].is_first]


def standings_of(families: list[Row], metric: Metric, *, real: Row | None = None) -> Standings:
    """Return the places of families in a metric; floors take no part.

    Args:
        families: of one data set.
        metric: what they are ranked by.
        real: real data, whose value may be the goal.
    """
    rivals = {row.model: row for row in families if not row.is_floor and metric.name in row.metrics}
    if not metric.is_ranked or not rivals:
        return Standings(places={}, order=[], resolution=None)
    goal = real.metrics.get(metric.name) if real is not None and metric.goal == "real" else None
    refusals = refusals_of(rivals, metric, goal)
    ranked = [name for name in rivals if not refusals[name]]
    column = column_of([rivals[name] for name in ranked], metric, families=families, real=real if goal else None)
    found = ranks(column)
    places = {
        name: Place(truth=truth, stated=stated)
        for name, truth, stated in zip(ranked, found.truth, found.stated, strict=True)
    }
    return Standings(
        places={name: places.get(name, Place(refused=refusals[name])) for name in rivals},
        order=[ranked[i] for i in np.argsort(worse(column), kind="stable")],
        resolution=found.resolution,
    )


def worse(column: Column) -> Floats:
    """Return the values of a column such that less is better."""
    if column.goal is not None:
        return np.abs(column.values - column.goal)
    return -column.values if column.more_is_better else column.values


def refusals_of(rivals: dict[str, Row], metric: Metric, goal: Entry | None) -> dict[str, str]:
    """Return the reason why a family has no rank, for each family; an empty text where it has one."""
    protocols = {name: protocol_of(row.metrics[metric.name], compute(row)) for name, row in rivals.items()}
    common = shared_protocol(list(protocols.values()))

    def reason(name: str) -> str:
        entry = rivals[name].metrics[metric.name]
        if words := difference(protocols[name], common):
            return f"its protocol differs: {words}"
        if not entry.get("rankable", True):
            return str(entry["why_not_ranked"])
        if metric.goal != "real":
            return ""
        if goal is None:
            return "real data, whose value is the goal, have no score"
        if not goal.get("rankable", True):
            return f"the goal is the score of real data: {goal['why_not_ranked']}"
        if metric.needs_equal_counts and goal.get("samples") != entry.get("samples"):
            return f"the goal is the score of as many real data, and there are {goal.get('samples'):,}"
        return ""

    return {name: reason(name) for name in rivals}


def compute(row: Row) -> Entry:
    """Return what families must share in their training to be ranked together: data and compute.

    Families without training steps are ranked with any compute.
    """
    if not row.record:
        return {}
    configuration, is_trained = row.record["configuration"], bool(row.record["steps"])
    keys = (("budget", "scale"), ("data", "flops"), ("data", "steps"))
    price = {f"{section}.{key}": configuration.get(section, {}).get(key) for section, key in keys}
    return {"data_digest": row.record["data_digest"], **(price if is_trained else dict.fromkeys(price))}


def column_of(rows: list[Row], metric: Metric, *, families: list[Row], real: Row | None) -> Column:
    """Return the values of some families, and how far they would vary."""
    entries = [row.metrics[metric.name] for row in rows]
    if metric.name == LIKELIHOOD:
        means = anchored(scored_bits([*rows, *(row for row in families if row.is_floor)]))
        variation = of_points([means[row.model] for row in rows])
    else:
        variation = of_scores([*rows, *([real] if real else [])], metric.name)
    values, deviations, variances, least = variation
    counts = np.array([len(entry.get("seeds", "1")) for entry in entries])
    of_seeds, freedom = over_seeds(variances[: len(rows)], counts)
    kinds = [slack(entry.get("kind", "exact"), solver_error(entry)) for entry in entries]
    count = len(rows)
    return Column(
        values=values[:count],
        deviations=deviations[:, :count],
        seed_variances=np.maximum(of_seeds, least[:count]) / counts,
        seed_freedom=freedom,
        below=np.array([below for below, _ in kinds]),
        above=np.array([above for _, above in kinds]),
        more_is_better=metric.better == "higher",
        goal=values[count] if real else metric.goal if isinstance(metric.goal, float) else None,
        goal_deviations=deviations[:, count] if real else None,
    )


def solver_error(entry: Entry) -> float | None:
    """Return how much finer steps of a solver would change a number of bits at most, where that was measured."""
    if (coarser := entry.get("coarser")) is None:
        return None
    return float(abs(coarser["change"]) + 2 * coarser["standard_error"])


Variation = tuple[Floats, Floats, Floats, Floats]
"""Values `[F]`, their deviations `[B, F]`, the variance of single values over training seeds `[F]`, and the least that
this variance can be `[F]`; 0 where there is one seed."""


def of_points(means: list[Anchored]) -> Variation:
    """Return mean bits and how far they would vary."""
    deviations = resampled(np.stack([mean.influence for mean in means], axis=1), draws=DRAWS)
    variances = [mean.values.var(ddof=1) if len(mean.values) > 1 else 0.0 for mean in means]
    return np.array([mean.values.mean() for mean in means]), deviations, np.array(variances), np.zeros(len(means))


def of_scores(rows: list[Row], metric: str) -> Variation:
    """Return scores of samples and how far they would vary.

    With several seeds, each of which drew samples of its own, the variance over seeds holds that of the samples, and
    the deviations are those of other test points alone. A variance over few seeds is at least that of the samples. A
    score without resampled values has an error that is independent of those of the others.
    """
    rng = np.random.default_rng(0)
    counts = [len(row.metrics[metric].get("seeds", "1")) for row in rows]
    sources = ["joint" if count == 1 else "reference" for count in counts]
    found = [row.resampled.get(f"{metric}/{source}") for row, source in zip(rows, sources, strict=True)]
    draws = min([len(values[0]) for values in found if values is not None], default=DRAWS)
    deviations, variances, least = np.empty((draws, len(rows))), np.zeros(len(rows)), np.zeros(len(rows))
    for i, (row, values, count) in enumerate(zip(rows, found, counts, strict=True)):
        entry = row.metrics[metric]
        if values is None:
            shared = entry.get("error") if count == 1 else entry.get("error_reference")
            deviations[:, i] = rng.normal(size=draws) * (shared or 0.0)
        else:
            own = values[:, :draws].mean(axis=0)
            deviations[:, i] = own - own.mean()
        if count > 1:
            variances[i] = entry["deviation"] ** 2
            if (samples := row.resampled.get(f"{metric}/samples")) is not None:
                least[i] = samples.var(axis=1, ddof=1).mean()
    return np.array([central(row.metrics[metric]) for row in rows]), deviations, variances, least
