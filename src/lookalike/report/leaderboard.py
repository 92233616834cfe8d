"""The leaderboard: `metrics.json` of every cell in one place, and the same numbers ranked and rounded for reading.

leaderboard = {data: {model: {metric: {"value": ..., "error": ..., ...}}}}
"""

import csv
import dataclasses
import io
import json
import math
from typing import Any, Literal

import numpy as np

from lookalike.report.cells import REAL, Entry, Row, Table

Board = dict[str, dict[str, Entry]]
"""One data set's part of the leaderboard: entries by model and metric."""

COPIES = "copycat"
"""Returns training data: its samples are perfect by construction, so it takes part in no contest of samples."""

BITS = "bits_per_dim"

SIGNS = {"exact": "", "lower bound": "≤ ", "estimate": "≈ "}
"""What a number of bits is by the kind of its likelihood: a likelihood's lower bound is an upper bound in bits."""

Better = Literal["lower", "higher"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is called and which way is better (None: neither is)."""

    name: str
    title: str
    better: Better | None


METRICS = (
    Metric(name=BITS, title="Bits a dimension", better="lower"),
    Metric(name="frechet_distance", title="Fréchet distance", better="lower"),
    Metric(name="kernel_distance", title="Kernel distance", better="lower"),
    Metric(name="class_distance", title="Class distance", better="lower"),
    Metric(name="wasserstein_1", title="Wasserstein-1", better="lower"),
    Metric(name="kolmogorov_smirnov", title="Kolmogorov–Smirnov", better="lower"),
    Metric(name="precision", title="Precision", better="higher"),
    Metric(name="recall", title="Recall", better="higher"),
    Metric(name="density", title="Density", better="higher"),
    Metric(name="coverage", title="Coverage", better="higher"),
)
"""In the order of the table's columns. A metric that is not among them comes after them, under its own name."""

LEFT_OUT = frozenset({f"{BITS}_validation", f"{BITS}_train", "class_gap"})
"""What has no column of its own: likelihoods of other splits than test, and what is said of classes one by one."""

DISTANCES = ("frechet_distance", "wasserstein_1")
"""The first that a data set has tells whose samples are closest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number for reading."""

    text: str
    best: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A model's line of a ranking: the kind of its likelihood, a number or None for every metric."""

    model: str
    kind: str | None
    numbers: list[Number | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """A data set's table for reading: real data, then families by bits, then families without a likelihood."""

    metrics: list[Metric]
    lines: list[Line]


def leaderboard(tables: list[Table]) -> dict[str, Board]:
    """All entries of all cells as they are; real data under the model name `real`."""
    return {table.name: {row.model: row.metrics for row in table.rows} for table in tables}


def to_csv(boards: dict[str, Board]) -> str:
    """One line a number: data, model, metric, value, error, then whatever the entries hold, settings as JSON."""
    entries = [
        {"data": data, "model": model, "metric": metric} | entry
        for data, board in boards.items()
        for model, metrics in board.items()
        for metric, entry in metrics.items()
    ]
    columns = list(dict.fromkeys(["data", "model", "metric", "value", "error", *(k for e in entries for k in e)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: flat(value) for key, value in entry.items()} for entry in entries)
    return text.getvalue()


def flat(value: Any) -> Any:
    """What a CSV field can hold."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def to_markdown(tables: list[Table]) -> str:
    """A table a data set, numbers rounded by their errors."""
    lines = ["# Leaderboard", "", f"Value ± standard error. {READING}"]
    for table in tables:
        ranking = rank(table)
        titles = [metric.title for metric in ranking.metrics]
        lines += ["", f"## {table.name}", "", row_of(["model", "likelihood", *titles])]
        lines += [row_of(["---", "---", *("---:" for _ in titles)])]
        for line in ranking.lines:
            texts = [f"**{n.text}**" if n and n.best else n.text if n else "—" for n in line.numbers]
            lines.append(row_of([line.model, line.kind or "—", *texts]))
    return "\n".join(lines) + "\n"


READING = (
    "Bold: the best family, and those whose difference to it is within two standard errors (of bits: of the "
    "differences at each test point). ≤ is a bound, the true number of bits is lower still: a bound that beats an "
    f"exact value settles the order, the reverse does not. `{COPIES}` returns training data, so its samples do not "
    "compete."
)


def row_of(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def rank(table: Table) -> Ranking:
    """One data set's ranking."""
    board: Board = {row.model: row.metrics for row in table.rows}
    metrics = shown_metrics(table)
    models = sorted(board, key=lambda model: (model != REAL, *standing(board[model]), model))
    best = {metric.name: winners(table, metric) for metric in metrics}

    def number(model: str, metric: Metric) -> Number | None:
        entry = board[model].get(metric.name)
        return Number(text=describe(entry), best=model in best[metric.name]) if entry else None

    lines = [
        Line(
            model=model,
            kind=board[model].get(BITS, {}).get("kind"),
            numbers=[number(model, metric) for metric in metrics],
        )
        for model in models
    ]
    return Ranking(metrics=metrics, lines=lines)


def shown_metrics(table: Table) -> list[Metric]:
    """The metrics that any row has, known ones first; those without a column are left to the CSV and the page."""
    names = list(dict.fromkeys(name for row in table.rows for name in row.metrics))
    known = [metric for metric in METRICS if metric.name in names]
    others = set(names) - {metric.name for metric in METRICS} - LEFT_OUT
    if known and known[0].name == BITS and table.prepared.domain.dimensions == 1:
        known[0] = dataclasses.replace(known[0], title="Bits an observation")
    more = [Metric(name=n, title=n.replace("_", " ").capitalize(), better=None) for n in names if n in others]
    return known + more


def standing(metrics: dict[str, Entry]) -> tuple[float, float]:
    """What lines are sorted by: bits, then distance."""
    distance = next((metrics[name]["value"] for name in DISTANCES if name in metrics), math.inf)
    return metrics[BITS]["value"] if BITS in metrics else math.inf, distance


def winners(table: Table, metric: Metric) -> list[str]:
    """The best family and those within two standard errors of it, best first; of bits, errors of paired differences."""
    if metric.better is None:
        return []
    sign = 1 if metric.better == "lower" else -1
    rivals = [row for row in table.families if row.model != COPIES and metric.name in row.metrics]
    rivals.sort(key=lambda row: sign * row.metrics[metric.name]["value"])
    return [row.model for row in rivals if within_two_errors(row, rivals[0], metric.name, sign=sign)]


def within_two_errors(row: Row, best: Row, metric: str, *, sign: int) -> bool:
    entry, first = row.metrics[metric], best.metrics[metric]
    difference, error = entry["value"] - first["value"], math.hypot(entry.get("error") or 0, first.get("error") or 0)
    if metric == BITS and (paired := paired_difference(row, best)):
        difference, error, _ = paired
    return row is best or sign * difference <= 2 * error


def describe(entry: Entry) -> str:
    """`≤ 1.234 ± 0.012`: the sign tells the kind of a likelihood."""
    value, error = rounded(entry["value"], entry.get("error"))
    return SIGNS.get(entry.get("kind", "exact"), "") + (f"{value} ± {error}" if error else value)


def rounded(value: float, error: float | None) -> tuple[str, str]:
    """A value as exact as its error, which keeps two significant digits; four digits of a value without error."""
    if not error or error < 1e-12:
        return f"{value:.4g}".replace("-", "−"), ""
    exponent = int(f"{error:.1e}".partition("e")[2])
    places = max(0, 1 - exponent)
    kept = 1 - exponent
    return f"{round(value, kept):.{places}f}".replace("-", "−"), f"{round(error, kept):.{places}f}"


def paired_difference(row: Row, other: Row) -> tuple[float, float, int] | None:
    """Bits by which a family lies above another, its standard error, and the test points that both were scored on.

    Points differ more than families do; a difference at each point leaves their spread out.
    """
    if BITS not in row.metrics or BITS not in other.metrics:
        return None
    _, ours, theirs = np.intersect1d(
        row.arrays["rows_test"], other.arrays["rows_test"], assume_unique=True, return_indices=True
    )
    if len(ours) < 2:
        return None
    difference = bits(row)[ours] - bits(other)[theirs]
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(ours))), len(ours)


def bits(row: Row) -> Any:
    """Bits a dimension of each scored test point: nats times the factor that made the entry of their mean."""
    nats = row.arrays["log_likelihood_test"]
    return nats * (row.metrics[BITS]["value"] / nats.mean())
