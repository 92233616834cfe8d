"""The ranking of one data set: which family is better by which metric, in rows and numbers for reading."""

import dataclasses
import math
from typing import Any

import numpy as np

from lookalike.metrics.catalogue import DETAILS, LIKELIHOOD, MAIN, METRICS, NOVELTY, Metric, main_distance, title_of
from lookalike.report import contest
from lookalike.report.cells import REAL, Entry, Row, Table
from lookalike.report.contest import Entrant, Place
from lookalike.report.numbers import central, combined_error, describe, p_value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number for reading.

    Attributes:
        text: value and error; of several training seeds mean, standard deviation and number of seeds.
        best: whether it is the best one, or not distinguishable from the best.
        rank: `1`, `=1` for a tie with the best, `3?` where a better number of another kind leaves it open; empty where
            it is not ranked.
        refused: why its protocol bars it from the ranking.
        test: the p-value in words, where the metric is a test.
        copied: whether samples are nearer to the training data than real data are, or repeat more often.
    """

    text: str
    best: bool
    rank: str
    refused: str
    test: str
    copied: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a ranking: a model, the kind of its likelihood, a number or None for every metric."""

    model: str
    kind: str | None
    numbers: list[Number | None]

    @property
    def likelihood(self) -> str:
        """The kind of the likelihood in words; real data are no model and have none to state."""
        return "" if self.model == REAL else self.kind or "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """A table of a data set: real data, then families by likelihood, then families without one by distance."""

    metrics: list[Metric]
    lines: list[Line]

    @property
    def refused(self) -> list[str]:
        """A sentence for every number that is not ranked because of its protocol."""
        return [
            f"{line.model} is not ranked by {metric.title}, because its protocol differs: {number.refused}."
            for line in self.lines
            for metric, number in zip(self.metrics, line.numbers, strict=True)
            if number and number.refused
        ]


def rank(table: Table, metrics: list[Metric] | None = None) -> Ranking:
    """Return the ranking of a data set by some metrics; without metrics, by those of the first table."""
    metrics = shown_metrics(table) if metrics is None else metrics
    standings = {metric.name: places(table.families, metric) for metric in metrics}

    def number(row: Row, metric: Metric) -> Number | None:
        if (entry := row.metrics.get(metric.name)) is None:
            return None
        place = standings[metric.name].get(row.model, Place(rank=None))
        return Number(
            text=describe(entry),
            best=place.first,
            rank=str(place),
            refused=place.refused,
            test=p_value(entry["p_value"]) if "p_value" in entry else "",
            copied=row is not table.real and is_copied(metric, entry, table.real.metrics.get(metric.name)),
        )

    lines = [
        Line(
            model=row.model,
            kind=row.metrics.get(LIKELIHOOD, {}).get("kind"),
            numbers=[number(row, metric) for metric in metrics],
        )
        for row in sorted(table.rows, key=lambda row: (row is not table.real, *standing(row), row.model))
    ]
    return Ranking(metrics=metrics, lines=lines)


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


def is_copied(metric: Metric, entry: Entry, real: Entry | None) -> bool:
    """Return whether a number lies on the copies' side of that of real data, by more than two standard errors.

    The share of repeats grows with the number of samples, so that it is only compared at the same number.
    """
    if real is None or metric.copies is None:
        return False
    if metric.name == "duplicates" and entry.get("samples") != real.get("samples"):
        return False
    excess = (entry["value"] - real["value"]) * (1 if metric.copies == "higher" else -1)
    return bool(excess > 2 * combined_error(entry, real))


def caught(table: Table) -> list[tuple[str, list[str]]]:
    """Return the families that are nearer to the training data than real data are, and the metrics that show it."""
    found = {
        row.model: [
            metric.title
            for metric in NOVELTY
            if metric.name in row.metrics
            and metric.name != "duplicates"
            and is_copied(metric, row.metrics[metric.name], table.real.metrics.get(metric.name))
        ]
        for row in table.families
    }
    return [(model, titles) for model, titles in found.items() if titles]


def winners(rows: list[Row], metric: Metric) -> list[str]:
    """Return the best of some families and those that are not distinguishable from it, best first."""
    first = {model: place for model, place in places(rows, metric).items() if place.first}
    sign = -1 if metric.better == "higher" else 1
    numbers = {row.model: row.metrics for row in rows}
    return sorted(first, key=lambda model: (first[model].tied, sign * central(numbers[model][metric.name])))


def places(families: list[Row], metric: Metric) -> dict[str, Place]:
    """Return the places of all families but floors in a metric, by name; none where the metric has no better side."""
    if metric.better is None:
        return {}
    rivals = {row.model: row for row in families if not row.is_floor and metric.name in row.metrics}

    def paired(model: str, other: str) -> tuple[float, float] | None:
        found = paired_difference(rivals[model], rivals[other])
        return found[:2] if found else None

    return contest.places(
        {name: Entrant(entry=row.metrics[metric.name], trained=compute(row)) for name, row in rivals.items()},
        better=metric.better,
        paired=paired if metric.name == LIKELIHOOD else None,
    )


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


def paired_difference(row: Row, other: Row) -> tuple[float, float, int] | None:
    """Return the mean difference in bits between two families, its standard error and the number of points.

    The difference is taken at every test point that both were scored on, because points differ more than families do.
    None where there are fewer than two such points.
    """
    if LIKELIHOOD not in row.metrics or LIKELIHOOD not in other.metrics or scored_split(row) != scored_split(other):
        return None
    rows = f"rows_{scored_split(row)}"
    _, ours, theirs = np.intersect1d(row.arrays[rows], other.arrays[rows], assume_unique=True, return_indices=True)
    if len(ours) < 2:
        return None
    difference = bits(row)[ours] - bits(other)[theirs]
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(ours))), len(ours)


def scored_split(row: Row) -> str:
    """Return the split on which the likelihood of a family was measured."""
    return str(row.metrics[LIKELIHOOD].get("split", "test"))


def bits(row: Row) -> Any:
    """Return the bits per dimension of every scored point: nats times the factor between their means."""
    nats = row.arrays[f"log_likelihood_{scored_split(row)}"]
    return nats * (row.metrics[LIKELIHOOD]["value"] / nats.mean())
