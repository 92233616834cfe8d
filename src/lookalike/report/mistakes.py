"""What each model gets wrong, in words: what it lacks, what it makes up, what it knows by heart.

Every sentence is of a number in `metrics.json` that differs from what is right by more than two standard errors.
"""

import math

from lookalike.report.cells import Entry, Row, Table
from lookalike.report.leaderboard import BITS, DISTANCES, METRICS, caught, describe

Metrics = dict[str, Entry]

TOO_OFTEN = 0.05
"""Share of the samples by which a class has to be more common than it should."""


def mistakes(table: Table) -> dict[str, list[str]]:
    """By family, sentences on what it gets wrong; none where nothing is told from what real data score."""
    copies = dict(caught(table))
    return {
        row.model: [
            *told_apart(row, table.real.metrics),
            *missing(row, table.real.metrics),
            *made_up(row, table.real.metrics),
            *unevenly(row, table.real.metrics),
            *learned_by_heart(row, copies.get(row.model, [])),
        ]
        for row in table.families
    }


def less(entry: Entry, bar: Entry | None) -> bool:
    """Whether a number is below another by more than two standard errors of their difference."""
    if bar is None:
        return False
    error = math.hypot(entry.get("error") or 0, bar.get("error") or 0)
    return bool(bar["value"] - entry["value"] > max(2 * error, 1e-9 * abs(bar["value"])))


def per_cent(entry: Entry, *, rest: bool = False) -> str:
    """A share or what is left of it, with its error, in per cent."""
    value = 1 - entry["value"] if rest else entry["value"]
    return f"{describe({'value': 100 * value, 'error': 100 * (entry.get('error') or 0)})} %"


def told_apart(row: Row, real: Metrics) -> list[str]:
    """Whether its samples as a whole are farther from test data than real data are, and how often they are told."""
    found = []
    name = next((name for name in DISTANCES if name in row.metrics), None)
    accuracy = row.metrics.get("classifier_accuracy")
    if name and (bar := real.get(name)) and less(bar, row.metrics[name]):
        title = next(metric.title for metric in METRICS if metric.name == name)
        found.append(f"{title} {describe(row.metrics[name])}, that of real data {describe(bar)}.")
    if accuracy and (bar := real.get("classifier_accuracy")) and less(bar, accuracy):
        found.append(f"A classifier is right on {per_cent(accuracy)} of samples and test data, where 50 % is chance.")
    return found


def missing(row: Row, real: Metrics) -> list[str]:
    """What is there in the data and not among the samples: regions and classes."""
    found = []
    coverage = row.metrics.get("coverage")
    if coverage and less(coverage, bar := real.get("coverage")):
        of_real = f"; real data leave {per_cent(bar, rest=True)}" if bar else ""
        found.append(f"Misses: {per_cent(coverage, rest=True)} of the test points have no sample near them{of_real}.")
    short = row.metrics.get("class_gap", {}).get("short", [])
    if short:
        found.append(f"Short of {'class' if len(short) == 1 else 'classes'} {', '.join(short)}.")
    return found


def made_up(row: Row, real: Metrics) -> list[str]:
    """What is there among the samples and not in the data."""
    found = []
    precision, outside = row.metrics.get("precision"), row.metrics.get("share_outside")
    if precision and less(precision, bar := real.get("precision")):
        of_real = f"; of real data {per_cent(bar, rest=True)}" if bar else ""
        found.append(f"Makes up: {per_cent(precision, rest=True)} of the samples lie where no test data do{of_real}.")
    if outside and outside["value"] > 0:
        found.append(f"{per_cent(outside)} of the samples are impossible under the truth.")
    return found


def unevenly(row: Row, real: Metrics) -> list[str]:
    """The class that it draws too often, if that is what is furthest off."""
    gap = row.metrics.get("class_gap")
    if gap is None or gap["class"] in gap["short"] or gap["value"] <= max(TOO_OFTEN, 2 * gap["chance"]):
        return []
    if not less(real["class_gap"], gap):
        return []
    return [f"Draws class {gap['class']} too often, by {points(gap)}."]


def points(entry: Entry) -> str:
    """A difference of shares in points of a per cent."""
    return f"{describe({'value': 100 * entry['value'], 'error': 100 * (entry.get('error') or 0)})} points"


def learned_by_heart(row: Row, copied: list[str]) -> list[str]:
    """Copies of training data, repeats, and a likelihood that is better on training data than on others."""
    found = [f"Nearer to its training data than real data are, by {' and '.join(copied)}."] if copied else []
    test, train = row.metrics.get(BITS), row.metrics.get(f"{BITS}_train")
    if test and train and less(train, test):
        error = math.hypot(test.get("error") or 0, train.get("error") or 0)
        gap = describe({"value": test["value"] - train["value"], "error": error})
        found.append(f"Overfits: {gap} bits more on unseen data than on its training data.")
    return found
