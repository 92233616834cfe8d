"""Summarize a sweep: trials that differ only by their seed are one configuration, with an interval."""

import csv
import dataclasses
import math
import statistics
from collections import defaultdict
from typing import Any

from lookalike.sweeps.objectives import OBJECTIVES, Objective
from lookalike.sweeps.places import Record, Sweep, read, title
from lookalike.workspace.files import replace_json

LEVEL = 0.95
"""Level of intervals, and of all comparisons with the best configuration together."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One objective of one configuration.

    Attributes:
        values: one value per seed.
        mean: their mean.
        deviation: their standard deviation; None for one seed.
        error: standard error of the mean, from the deviation; for one seed the score's own error, or None.
    """

    values: list[float]
    mean: float
    deviation: float | None
    error: float | None

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error; infinite for a score's own error, which counts as known."""
        return len(self.values) - 1 if len(self.values) > 1 else math.inf

    def half_width(self, level: float = LEVEL) -> float | None:
        """Return half of the width of the mean's interval."""
        return None if self.error is None else quantile(level, self.freedom) * self.error


def quantile(level: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's t; infinite degrees of freedom give the normal distribution's."""
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, freedom))


def estimate(values: list[float], errors: list[float | None]) -> Estimate:
    """Return the estimate of one objective from its values and their own errors, one of each per seed."""
    if len(values) > 1:
        deviation = statistics.stdev(values)
        return Estimate(values, statistics.fmean(values), deviation, deviation / math.sqrt(len(values)))
    return Estimate(values, values[0], None, errors[0])


def is_separate(a: Estimate, b: Estimate, *, level: float) -> bool:
    """Return whether two means differ by more than their errors explain, by Welch's t-test."""
    if a.error is None or b.error is None:
        return False
    variance = a.error**2 + b.error**2
    if variance == 0:
        return a.mean != b.mean
    # Welch–Satterthwaite; a known error adds nothing to the uncertainty of the variance.
    uncertainty = sum(e.error**4 / e.freedom for e in (a, b) if e.error is not None)
    freedom = variance**2 / uncertainty if uncertainty else math.inf
    return abs(a.mean - b.mean) > quantile(level, freedom) * math.sqrt(variance)


def summarize(sweep: Sweep) -> Record:
    """Summarize the trials of a sweep's last command; write `summary.json` and `summary.csv`."""
    summary = summary_of(sweep)
    replace_json(sweep.summary, summary)
    save_table(sweep, summary)
    return summary


def summary_of(sweep: Sweep, *, data: str | None = None) -> Record:
    """Return the summary of the trials of a sweep's last command, on all data sets or on one."""
    about = sweep.read()
    wanted = [OBJECTIVES[name] for name in about["objective"]]
    states = [state for state in sweep.session_states() if data in (None, state["data"])]
    rows = configurations(sweep, states, wanted, about["space"])
    return {
        "sweep": sweep.name,
        "command": about["command"],
        "objective": about["objective"],
        "split": about["split"],
        "counts": {kind: sum(s["state"] == kind for s in states) for kind in sorted({s["state"] for s in states})},
        "level": LEVEL,
        "configurations": rows,
        "failures": [
            {key: state[key] for key in ("fingerprint", "state", "error")}
            | {"title": title(state["overrides"], about["space"])}
            for state in states
            if state["state"] not in ("finished", "pruned")
        ],
    } | (verdict(rows, wanted[0]) if len(wanted) == 1 else {"pareto_front": front(rows, wanted)})


def configurations(sweep: Sweep, states: list[Record], wanted: list[Objective], space: dict[str, str]) -> list[Record]:
    """Return one row per configuration with a finished trial, the best first by the first objective."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for state in states:
        if state["state"] == "finished":
            groups[tuple(item for item in state["overrides"] if not item.startswith("seed="))].append(state)
    rows = []
    for overrides, trials in groups.items():
        records = [read(sweep.trial(trial["fingerprint"]).record) for trial in trials]
        scores = {}
        for i, objective in enumerate(wanted):
            errors = [record["metrics"].get(objective.name, {}).get("standard_error") for record in records]
            found = estimate([trial["values"][i] for trial in trials], errors)
            scores[objective.name] = dataclasses.asdict(found) | {"half_width": found.half_width()}
        row = {
            "title": title(list(overrides), space),
            "overrides": list(overrides),
            "data": trials[0]["data"],
            "model": trials[0]["model"],
            "seeds": [trial["seed"] for trial in trials],
            "trials": [trial["fingerprint"] for trial in trials],
            "scores": scores,
            "training_seconds": statistics.fmean(record["cost"]["training_seconds"] for record in records),
        }
        rows.append(row)
    first = wanted[0]
    return sorted(rows, key=lambda row: row["scores"][first.name]["mean"] * (-1 if first.higher else 1))


def verdict(rows: list[Record], objective: Objective) -> Record:
    """Return the best configuration of each data set, which wins if no other is within error of it.

    The comparisons with the best share the level (Bonferroni), because the best of many is also the luckiest.
    """
    found: dict[str, Any] = {}
    for data in sorted({row["data"] for row in rows}):
        best, *others = [row for row in rows if row["data"] == data]
        level = 1 - (1 - LEVEL) / max(1, len(others))
        first = estimate_in(best, objective)
        close = [row for row in others if not is_separate(first, estimate_in(row, objective), level=level)]
        found[data] = {
            "best": best["title"],
            "trials": best["trials"],
            "winner": best["title"] if not close else None,
            "within_error": [row["title"] for row in close],
            "alone": "" if others else ", because no other configuration finished",
        }
    return {"verdict": found}


def estimate_in(row: Record, objective: Objective) -> Estimate:
    """Return the estimate of an objective in a row."""
    score = row["scores"][objective.name]
    return Estimate(score["values"], score["mean"], score["deviation"], score["error"])


def front(rows: list[Record], wanted: list[Objective]) -> list[Record]:
    """Return the Pareto front: configurations that no other one of the same data set dominates."""

    def dominates(a: Record, b: Record) -> bool:
        pairs = [(o, a["scores"][o.name]["mean"], b["scores"][o.name]["mean"]) for o in wanted]
        return not any(o.better(y, x) for o, x, y in pairs) and any(o.better(x, y) for o, x, y in pairs)

    return [
        {"title": row["title"], "data": row["data"], "trials": row["trials"]}
        for row in rows
        if not any(dominates(other, row) for other in rows if other["data"] == row["data"])
    ]


def save_table(sweep: Sweep, summary: Record) -> None:
    """Write `summary.csv`, with one line per configuration."""
    parts = {"": "mean", "_deviation": "deviation", "_half_width": "half_width"}
    with (sweep.folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = [f"{name}{part}" for name in summary["objective"] for part in parts]
        writer.writerow(["configuration", "data", "model", "seeds", *columns, "training_seconds"])
        for row in summary["configurations"]:
            scores = [row["scores"][name][key] for name in summary["objective"] for key in parts.values()]
            writer.writerow(
                [row["title"], row["data"], row["model"], len(row["seeds"]), *scores, row["training_seconds"]]
            )
