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

SIGNS = {"exact": "", "lower bound": "≤ ", "estimate": "≈ ", "at least": "≥ "}
"""What a number is by the kind of its likelihood: a likelihood's lower bound is an upper bound in bits.

Where the model's own likelihood counts against it, as in KL(P_model‖P_data), the number is too low instead.
"""

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
    Metric(name="class_distance", title="Class distance", better="lower"),
    Metric(name="wasserstein_1", title="Wasserstein-1", better="lower"),
    Metric(name="kolmogorov_smirnov", title="Kolmogorov–Smirnov", better="lower"),
)
"""The first table's columns, in order. A metric of no table comes after them, under its own name."""

SUPPORT = (
    Metric(name="precision", title="Precision", better="higher"),
    Metric(name="recall", title="Recall", better="higher"),
    Metric(name="density", title="Density", better="higher"),
    Metric(name="coverage", title="Coverage", better="higher"),
    Metric(name="nearest_sample_distance", title="Nearest-sample distance", better="lower"),
    Metric(name="classifier_confidence", title="Classifier confidence", better=None),
    Metric(name="frechet_distance_infinite", title="Fréchet distance, N → ∞", better="lower"),
)
"""Does it look right, and is all of it there?"""

TESTS = (
    Metric(name="classifier_accuracy", title="Classifier accuracy", better="lower"),
    Metric(name="kernel_distance", title="Kernel distance", better="lower"),
    Metric(name="energy_distance", title="Energy distance", better="lower"),
    Metric(name="sliced_wasserstein", title="Sliced Wasserstein", better="lower"),
)
"""Is it the same distribution? Each with a p-value."""

NOVELTY = (
    Metric(name="authenticity", title="Authenticity", better=None),
    Metric(name="data_copying", title="Data copying C_T", better=None),
    Metric(name="duplicates", title="Duplicates", better=None),
    Metric(name="training_copies", title="Training copies", better=None),
)
"""Is it new? What real data score is right, neither more nor less."""

TRUTH = (
    Metric(name="kl", title="KL(P_data‖P_model)", better="lower"),
    Metric(name="kl_reverse", title="KL(P_model‖P_data)", better="lower"),
    Metric(name="total_variation", title="Total variation", better="lower"),
    Metric(name="share_outside", title="Impossible samples", better="lower"),
)
"""How far is the truth, where it is known?"""

TABLES = (METRICS, SUPPORT, TESTS, NOVELTY, TRUTH)

LEFT_OUT = frozenset({f"{BITS}_validation", f"{BITS}_train", "class_gap"})
"""What has no column in any table: likelihoods of other splits than test, and what is said of classes one by one."""

DISTANCES = ("frechet_distance", "wasserstein_1")
"""The first that a data set has tells whose samples are closest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number for reading.

    Attributes:
        text: value and error.
        best: of the best family, or not told from it.
        test: the p-value in words, of a test.
        copied: nearer to the training data than real data are, or with more repeats.
    """

    text: str
    best: bool
    test: str
    copied: bool


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


def rank(table: Table, metrics: list[Metric] | None = None) -> Ranking:
    """One data set's ranking by the metrics of one of its tables: the first, where none are given."""
    board: Board = {row.model: row.metrics for row in table.rows}
    metrics = shown_metrics(table) if metrics is None else metrics
    models = sorted(board, key=lambda model: (model != REAL, *standing(board[model]), model))
    best = {metric.name: winners(table, metric) for metric in metrics}

    def number(model: str, metric: Metric) -> Number | None:
        entry = board[model].get(metric.name)
        if entry is None:
            return None
        return Number(
            text=describe(entry),
            best=model in best[metric.name],
            test=p_value(entry["p_value"]) if "p_value" in entry else "",
            copied=model != REAL and is_copied(metric.name, entry, table.real.metrics.get(metric.name)),
        )

    lines = [
        Line(
            model=model,
            kind=board[model].get(BITS, {}).get("kind"),
            numbers=[number(model, metric) for metric in metrics],
        )
        for model in models
    ]
    return Ranking(metrics=metrics, lines=lines)


def p_value(p: float) -> str:
    """`p = 0.32`: two digits, or that it is less than a thousandth."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.3f}"


def is_copied(metric: str, entry: Entry, real: Entry | None) -> bool:
    """Whether samples are nearer to the training data than real data are, by more than two standard errors.

    Of repeats among samples, whether there are more; their share grows with the number of samples, so that must be one.
    """
    if real is None or metric not in {m.name for m in NOVELTY}:
        return False
    more = entry["value"] - real["value"]
    if metric in ("authenticity", "data_copying"):
        more = -more
    elif metric == "duplicates" and entry.get("samples") != real.get("samples"):
        return False
    return bool(more > 2 * math.hypot(entry.get("error") or 0, real.get("error") or 0))


def caught(table: Table) -> list[tuple[str, list[str]]]:
    """The families that are nearer to the training data than real data are, and the titles of metrics that say so."""
    found = []
    for row in table.families:
        metrics = [m for m in NOVELTY if m.name in row.metrics and m.name != "duplicates"]
        titles = [m.title for m in metrics if is_copied(m.name, row.metrics[m.name], table.real.metrics.get(m.name))]
        found += [(row.model, titles)] if titles else []
    return found


def present(table: Table, metrics: tuple[Metric, ...]) -> list[Metric]:
    """Of some metrics those that any row has."""
    return [metric for metric in metrics if any(metric.name in row.metrics for row in table.rows)]


def shown_metrics(table: Table) -> list[Metric]:
    """The first table's metrics: the known ones that any row has, then those of no table."""
    names = list(dict.fromkeys(name for row in table.rows for name in row.metrics))
    known = present(table, METRICS)
    others = set(names) - {metric.name for metrics in TABLES for metric in metrics} - LEFT_OUT
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
