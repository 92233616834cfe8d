"""The leaderboard: `metrics.json` of every cell in one place, and the same numbers ranked and rounded for reading.

leaderboard = {data: {model: {metric: {"value": ..., "error": ..., ...}}}}
"""

import csv
import dataclasses
import io
import json
import math
from typing import Any

import numpy as np

from lookalike.report import contest
from lookalike.report.cells import REAL, Entry, Row, Table
from lookalike.report.contest import Better, Entrant, Place

Board = dict[str, dict[str, Entry]]
"""One data set's part of the leaderboard: entries by model and metric."""

COPIES = "copycat"
"""Returns training data: its samples are perfect by construction, so it takes part in no contest of samples."""

BITS = "bits_per_dim"

SIGNS = {"exact": "", "lower bound": "≤ ", "estimate": "≈ ", "at least": "≥ "}
"""What a number is by the kind of its likelihood: a likelihood's lower bound is an upper bound in bits.

Where the model's own likelihood counts against it, as in KL(P_model‖P_data), the number is too low instead.
"""


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
        text: value and error; of several training seeds mean, deviation and how many they are.
        best: of the best family, or not told from it.
        rank: `1`, `=1` for a tie with the best, `3?` where a better number of another kind leaves it open; empty where
            it is not ranked.
        refused: why its protocol bars it from the ranking.
        test: the p-value in words, of a test.
        copied: nearer to the training data than real data are, or with more repeats.
    """

    text: str
    best: bool
    rank: str
    refused: str
    test: str
    copied: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A model's line of a ranking: the kind of its likelihood, a number or None for every metric."""

    model: str
    kind: str | None
    numbers: list[Number | None]

    @property
    def likelihood(self) -> str:
        """The kind in words; real data have no model to give one."""
        return "—" if self.model == REAL else self.kind or "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """A data set's table for reading: real data, then families by bits, then families without a likelihood."""

    metrics: list[Metric]
    lines: list[Line]

    @property
    def refused(self) -> list[str]:
        """A sentence for every number that is not ranked because of its protocol."""
        return [
            f"{line.model} is not ranked by {metric.title}, it was measured otherwise: {number.refused}."
            for line in self.lines
            for metric, number in zip(self.metrics, line.numbers, strict=True)
            if number and number.refused
        ]


def leaderboard(tables: list[Table]) -> dict[str, Board]:
    """All entries of all cells as they are; real data under the model name `real`."""
    return {table.name: {row.model: row.metrics for row in table.rows} for table in tables}


def to_csv(tables: list[Table]) -> str:
    """One line a number: data, model, metric, value, error, rank, then whatever the entries hold, settings as JSON.

    `rank` is as in the markdown tables, and `not_ranked` says why a number that is of another protocol has none.
    """
    known = [metric for metrics in TABLES for metric in metrics]
    entries = []
    for table in tables:
        standings = {metric.name: places(table.families, metric) for metric in known}
        for row in table.rows:
            for metric, entry in row.metrics.items():
                place = standings.get(metric, {}).get(row.model, Place(rank=None))
                line = {"data": table.name, "model": row.model, "metric": metric} | entry
                entries.append(line | {"rank": str(place), "not_ranked": place.refused})
    first = ["data", "model", "metric", "value", "error", "rank", "not_ranked", "mean", "deviation", "seeds"]
    columns = list(dict.fromkeys([*first, *(key for entry in entries for key in entry)]))
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
    several = SEEDS if any(has_several_seeds(table) for table in tables) else ""
    lines = ["# Leaderboard", "", f"Value ± standard error{several}. {READING}"]
    for table in tables:
        ranking = rank(table)
        titles = [metric.title for metric in ranking.metrics]
        lines += ["", f"## {table.name}", "", row_of(["model", "likelihood", *titles])]
        lines += [row_of(["---", "---", *("---:" for _ in titles)])]
        for line in ranking.lines:
            lines.append(row_of([line.model, line.likelihood, *(field(number) for number in line.numbers)]))
        lines += [note for sentence in ranking.refused for note in ("", f"† {sentence}")]
    return "\n".join(lines) + "\n"


def has_several_seeds(table: Table) -> bool:
    """Whether any family was trained with several seeds."""
    return any("seeds" in entry for row in table.families for entry in row.metrics.values())


def field(number: Number | None) -> str:
    """`**1.23 ± 0.01 (1)**`: a number with its rank, or a dagger where it is refused one."""
    if number is None:
        return "—"
    text = number.text + (f" ({number.rank})" if number.rank else "") + (" †" if number.refused else "")
    return f"**{text}**" if number.best else text


SEEDS = ", or mean ± standard deviation over n training seeds"

READING = (
    "In parentheses the rank: one more than the families that are better for certain. Bold: the best family (1), and "
    "those that are not told from it (=1), their difference being within two standard errors (of bits: of the "
    "differences at each test point) or, where both were trained with several seeds, not significant at 5 % between "
    "seeds (Welch's t-test). ≤ is a bound, the true number of bits is lower still, and ≈ an estimate, which errs to "
    "either side: a bound that beats an exact value settles the order, the reverse does not, nor does an estimate "
    "against another kind. Then ? says that a family with a better number of another kind may be ahead. "
    f"`{COPIES}` returns training data, so its samples do not compete. Numbers of different protocols (†) are not "
    "ranked together."
)


def row_of(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def rank(table: Table, metrics: list[Metric] | None = None) -> Ranking:
    """One data set's ranking by the metrics of one of its tables: the first, where none are given."""
    board: Board = {row.model: row.metrics for row in table.rows}
    metrics = shown_metrics(table) if metrics is None else metrics
    models = sorted(board, key=lambda model: (model != REAL, *standing(board[model]), model))
    standings = {metric.name: places(table.families, metric) for metric in metrics}

    def number(model: str, metric: Metric) -> Number | None:
        entry = board[model].get(metric.name)
        if entry is None:
            return None
        place = standings[metric.name].get(model, Place(rank=None))
        return Number(
            text=describe(entry),
            best=place.first,
            rank=str(place),
            refused=place.refused,
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
    distance = next((central(metrics[name]) for name in DISTANCES if name in metrics), math.inf)
    return central(metrics[BITS]) if BITS in metrics else math.inf, distance


def central(entry: Entry) -> float:
    """The mean over training seeds where there are several, else the value."""
    return float(entry["mean"] if "mean" in entry else entry["value"])


def winners(rows: list[Row], metric: Metric) -> list[str]:
    """The best of some families and those that are not told from it, best first."""
    first = {model: place for model, place in places(rows, metric).items() if place.first}
    sign = -1 if metric.better == "higher" else 1
    numbers = {row.model: row.metrics for row in rows}
    return sorted(first, key=lambda model: (first[model].tied, sign * central(numbers[model][metric.name])))


def places(families: list[Row], metric: Metric) -> dict[str, Place]:
    """The places of those of some families that compete in a metric, by name; none where no side of it is better."""
    if metric.better is None:
        return {}
    rivals = {row.model: row for row in families if row.model != COPIES and metric.name in row.metrics}

    def paired(model: str, other: str) -> tuple[float, float] | None:
        found = paired_difference(rivals[model], rivals[other])
        return found[:2] if found else None

    return contest.places(
        {name: Entrant(entry=row.metrics[metric.name], trained=compute(row)) for name, row in rivals.items()},
        better=metric.better,
        paired=paired if metric.name == BITS else None,
    )


def compute(row: Row) -> Entry:
    """What of its training a family must share with those that it is ranked with: data, and what training may cost.

    What has no steps cost nothing: the price does not apply to it.
    """
    if not row.record:
        return {}
    settings, trained = row.record["configuration"], bool(row.record["steps"])
    given = {"budget": ("scale",), "data": ("flops", "steps")}
    price = {f"{section}.{key}": settings.get(section, {}).get(key) for section, keys in given.items() for key in keys}
    return {"data_digest": row.record["data_digest"], **(price if trained else dict.fromkeys(price))}


def describe(entry: Entry) -> str:
    """`≤ 1.234 ± 0.012`: the sign tells the kind of a likelihood. Of several seeds `1.234 ± 0.012, n = 3`."""
    if "seeds" in entry:
        value, error = rounded(entry["mean"], entry["deviation"])
    else:
        value, error = rounded(entry["value"], entry.get("error"))
    several = f", n = {len(entry['seeds'])}" if "seeds" in entry else ""
    return SIGNS.get(entry.get("kind", "exact"), "") + (f"{value} ± {error}" if error else value) + several


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
    if BITS not in row.metrics or BITS not in other.metrics or scored_split(row) != scored_split(other):
        return None
    rows = f"rows_{scored_split(row)}"
    _, ours, theirs = np.intersect1d(row.arrays[rows], other.arrays[rows], assume_unique=True, return_indices=True)
    if len(ours) < 2:
        return None
    difference = bits(row)[ours] - bits(other)[theirs]
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(ours))), len(ours)


def scored_split(row: Row) -> str:
    """The split that a family's bits are of."""
    return str(row.metrics[BITS].get("split", "test"))


def bits(row: Row) -> Any:
    """Bits a dimension of each scored test point: nats times the factor that made the entry of their mean."""
    nats = row.arrays[f"log_likelihood_{scored_split(row)}"]
    return nats * (row.metrics[BITS]["value"] / nats.mean())
