"""The ranking of one data set: which family is better by which metric, in rows and numbers for reading."""

import dataclasses
import functools
import math

from lookalike.metrics.catalogue import DETAILS, LIKELIHOOD, MAIN, METRICS, NOVELTY, Metric, main_distance, title_of
from lookalike.report.cells import REAL, Entry, Row, Table
from lookalike.report.columns import Place, Standings, standings_of
from lookalike.report.numbers import central, combined_error, describe, p_value, rounded

OF_THESE = "Ranks are of these trained models; another training may rank differently."
OF_SEEDS = "Ranks count how much training again changes: every family was trained with several seeds."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number for reading.

    Attributes:
        text: value and error; of several training seeds their mean, its error and the number of seeds.
        best: whether no number is certainly better.
        place: its rank, or why it has none.
        test: the p-value in words, where the metric is a test.
        copied: whether samples are nearer to the training data than real data are, or repeat more often.
    """

    text: str
    best: bool
    place: Place
    test: str
    copied: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a ranking: a model, the kind of its likelihood, a number or None for every metric.

    `points` is the number of test points of the likelihood.
    """

    model: str
    kind: str | None
    points: int | None
    numbers: list[Number | None]

    @property
    def kind_in_words(self) -> str:
        """The kind of the likelihood in words; real data are no model and have none to state."""
        return "" if self.model == REAL else self.kind or "none"

    @property
    def likelihood(self) -> str:
        """The kind of the likelihood and the number of its points."""
        return self.kind_in_words + (f", n = {self.points:,}" if self.points else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """A table of a data set: real data, then families by likelihood, then families without one by distance.

    `resolutions` holds for each metric the difference that this comparison could have shown.
    """

    metrics: list[Metric]
    lines: list[Line]
    resolutions: dict[str, float]

    @property
    def refused(self) -> list[str]:
        """A sentence for every metric and reason that bars families from a rank."""
        models: dict[tuple[str, str], list[str]] = {}
        for line in self.lines:
            for metric, number in zip(self.metrics, line.numbers, strict=True):
                if number and number.place.refused:
                    models.setdefault((metric.title, number.place.refused), []).append(line.model)
        return [
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not ranked by {title}, because {reason}."
            for (title, reason), names in models.items()
        ]

    @property
    def resolved(self) -> str:
        """The differences that could have been shown, in words; empty where no families are compared."""
        words = [
            f"{metric.title} {rounded(size, size)[0]}"
            for metric in self.metrics
            if (size := self.resolutions.get(metric.name))
        ]
        sentence = f"A difference this large between two families is certain in 4 of 5 cases: {', '.join(words)}."
        return sentence if words else ""


def rank(table: Table, metrics: list[Metric] | None = None) -> Ranking:
    """Return the ranking of a data set by some metrics; without metrics, by those of the first table."""
    metrics = shown_metrics(table) if metrics is None else metrics

    def number(row: Row, metric: Metric) -> Number | None:
        if (entry := row.metrics.get(metric.name)) is None:
            return None
        place = standings(table, metric).places.get(row.model, Place())
        return Number(
            text=describe(entry),
            best=place.is_first,
            place=place,
            test=p_value(entry["p_value"]) if "p_value" in entry else "",
            copied=row is not table.real and is_copied(metric, entry, table.real.metrics.get(metric.name)),
        )

    lines = [
        Line(
            model=row.model,
            kind=row.metrics.get(LIKELIHOOD, {}).get("kind"),
            points=row.metrics.get(LIKELIHOOD, {}).get("points"),
            numbers=[number(row, metric) for metric in metrics],
        )
        for row in sorted(table.rows, key=lambda row: (row is not table.real, *standing(row), row.model))
    ]
    found = {metric.name: standings(table, metric).resolution for metric in metrics}
    return Ranking(
        metrics=metrics, lines=lines, resolutions={name: size for name, size in found.items() if size is not None}
    )


@functools.lru_cache(maxsize=256)
def standings(table: Table, metric: Metric) -> Standings:
    """Return the places of the families of a table in a metric; several pages ask for the same ones."""
    return standings_of(table.families, metric, real=table.real)


def scope(table: Table) -> str:
    """Return what ranks are of, in words: of these trained models, or of training with other seeds as well."""
    rivals = [row for row in table.families if not row.is_floor]
    return OF_SEEDS if all("seeds" in entry for row in rivals for entry in row.metrics.values()) else OF_THESE


def missing(table: Table) -> list[str]:
    """Return a sentence for every metric that lacks points, and the rows that it is missing from."""
    rows: dict[str, list[str]] = {}
    for row in table.rows:
        for name, reason in row.missing.items():
            rows.setdefault(f"{title_of(name)} is missing: {reason}", []).append(row.title)
    return [f"{sentence} ({', '.join(titles)})." for sentence, titles in rows.items()]


def standing(row: Row) -> tuple[float, float]:
    """Return what lines are sorted by: likelihood, then distance; infinity stands for what a row does not have."""
    names = (LIKELIHOOD, main_distance(row.metrics) or "")
    bits, distance = (central(row.metrics[name]) if name in row.metrics else math.inf for name in names)
    return bits, distance


def present(table: Table, metrics: tuple[Metric, ...]) -> list[Metric]:
    """Return those of some metrics that any row has."""
    return [metric for metric in metrics if any(metric.name in row.metrics for row in table.rows)]


def shown_metrics(table: Table) -> list[Metric]:
    """Return the metrics of the first table: the main ones that any row has, then those outside the catalogue."""
    known = present(table, MAIN)
    if known and known[0].name == LIKELIHOOD and table.prepared.domain.dimensions == 1:
        known[0] = dataclasses.replace(known[0], title="Bits per observation")
    names = dict.fromkeys(name for row in table.rows for name in row.metrics)
    others = [name for name in names if name not in METRICS and name not in DETAILS]
    return known + [Metric(name=name, title=title_of(name), better=None, real="") for name in others]


def is_copied(metric: Metric, entry: Entry | None, real: Entry | None) -> bool:
    """Return whether a number lies on the copies' side of that of real data, by more than two standard errors.

    A share of repeats grows with the number of samples, so that it is only compared at the same number.
    """
    if entry is None or real is None or metric.copies is None:
        return False
    if metric.needs_equal_counts and entry.get("samples") != real.get("samples"):
        return False
    excess = (entry["value"] - real["value"]) * (1 if metric.copies == "higher" else -1)
    return bool(excess > 2 * combined_error(entry, real))


def caught(table: Table) -> list[tuple[str, list[str]]]:
    """Return the families that are nearer to the training data than real data are, and the metrics that show it."""
    shows = [metric for metric in NOVELTY if metric.name != "duplicates"]
    found = {
        row.model: [m.title for m in shows if is_copied(m, row.metrics.get(m.name), table.real.metrics.get(m.name))]
        for row in table.families
    }
    return [(model, titles) for model, titles in found.items() if titles]
