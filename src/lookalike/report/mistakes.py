"""What every model gets wrong, in words: what it misses, what it makes up, what it copies.

Every sentence rests on a number in `metrics.json` that differs from the right value by more than two standard errors.
"""

from lookalike.metrics.catalogue import LIKELIHOOD, main_distance, title_of
from lookalike.report.cells import Entry, Table
from lookalike.report.numbers import combined_error, describe, in_per_cent
from lookalike.report.ranking import caught

Metrics = dict[str, Entry]

TOO_OFTEN = 0.05
"""Excess of the share of a class, above which the class is drawn too often."""


def mistakes(table: Table) -> dict[str, list[str]]:
    """Return sentences on what every family gets wrong; none where no number differs from that of real data."""
    copies, real = dict(caught(table)), table.real.metrics
    return {
        row.model: [
            *distinguishable(row.metrics, real),
            *missing(row.metrics, real),
            *made_up(row.metrics, real),
            *too_often(row.metrics, real),
            *memorized(row.metrics, copies.get(row.model, [])),
        ]
        for row in table.families
    }


def is_less(entry: Entry | None, other: Entry | None) -> bool:
    """Return whether a number is below another by more than two standard errors of their difference."""
    if entry is None or other is None:
        return False
    return bool(other["value"] - entry["value"] > max(2 * combined_error(entry, other), 1e-9 * abs(other["value"])))


def distinguishable(own: Metrics, real: Metrics) -> list[str]:
    """Return whether samples as a whole are farther from test data than real data are, and how often it shows."""
    found = []
    if (name := main_distance(own)) and is_less(real.get(name), own[name]):
        found.append(f"Its {title_of(name)} is {describe(own[name])}; real data score {describe(real[name])}.")
    if is_less(real.get(name := "classifier_accuracy"), own.get(name)):
        share = in_per_cent(own[name])
        found.append(f"A classifier tells its samples and test data apart in {share} % of cases; chance is 50 %.")
    return found


def missing(own: Metrics, real: Metrics) -> list[str]:
    """Return which regions and classes of the data are missing among the samples."""
    found = []
    if is_less(own.get("coverage"), real.get("coverage")):
        share, bar = (in_per_cent(entries["coverage"], rest=True) for entries in (own, real))
        found.append(
            f"It misses parts of the data: {share} % of the test points have no sample near them (real data: {bar} %)."
        )
    if short := own.get("class_gap", {}).get("short", []):
        found.append(f"It draws too little of {'class' if len(short) == 1 else 'classes'} {', '.join(short)}.")
    return found


def made_up(own: Metrics, real: Metrics) -> list[str]:
    """Return which samples lie where no data do."""
    found = []
    if is_less(own.get("precision"), real.get("precision")):
        share, bar = (in_per_cent(entries["precision"], rest=True) for entries in (own, real))
        found.append(f"It makes things up: {share} % of its samples have no test point near them (real data: {bar} %).")
    if (outside := own.get("share_outside")) and outside["value"] > 0:
        found.append(f"The true distribution rules out {in_per_cent(outside)} % of its samples.")
    return found


def too_often(own: Metrics, real: Metrics) -> list[str]:
    """Return the class that is drawn too often, if its share is farther off than that of any other class."""
    gap = own.get("class_gap")
    if gap is None or gap["class"] in gap["short"] or gap["value"] <= max(TOO_OFTEN, 2 * gap["chance"]):
        return []
    if not is_less(real["class_gap"], gap):
        return []
    return [f"It draws class {gap['class']} too often, by {in_per_cent(gap)} percentage points."]


def memorized(own: Metrics, copied: list[str]) -> list[str]:
    """Return whether samples copy training data, and whether the likelihood is better on training data."""
    found = []
    if copied:
        found.append(f"Its samples are closer to its training data than real data are, by {' and '.join(copied)}.")
    test, train = own.get(LIKELIHOOD), own.get(f"{LIKELIHOOD}_train")
    if test and train and is_less(train, test):
        gap = describe({"value": test["value"] - train["value"], "error": combined_error(test, train)})
        found.append(f"It overfits: unseen data take {gap} bits more than training data.")
    return found
