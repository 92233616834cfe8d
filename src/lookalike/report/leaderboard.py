"""The leaderboard as JSON, as CSV and as Markdown.

leaderboard = {data: {model: {metric: {"value": ..., "error": ..., ...}}}}
"""

import csv
import io
import json
from typing import Any

from lookalike.metrics.catalogue import METRICS
from lookalike.report.cells import Entry, Table
from lookalike.report.contest import Place
from lookalike.report.ranking import Number, missing, places, rank

SEEDS = ", or mean ± standard deviation over n training seeds"

READING = """\
Lower is better. The number in parentheses is the rank among the trained families: one more than the number of families
that are certainly better. Bold numbers are the best (1) or not distinguishable from the best (=1): the difference is
within two standard errors (of bits: of the differences at each test point) or, where both families were trained with
several seeds, not significant at the 5 % level between seeds (Welch's t-test). The sign ≤ marks an upper bound on the
bits, ≈ an estimate that can err to either side. A bound that beats an exact value settles the order; the reverse does
not, and neither does an estimate against a number of another kind. A question mark says that a family with a better
number of another kind may be ahead. Numbers marked † were measured under another protocol and are not ranked. “none”
means that a family has no likelihood: it cannot say how probable an observation is."""


def leaderboard(tables: list[Table]) -> dict[str, dict[str, dict[str, Entry]]]:
    """Return every entry of every row, by data set, model and metric."""
    return {table.name: {row.model: row.metrics for row in table.rows} for table in tables}


def to_csv(tables: list[Table]) -> str:
    """Return one line per number: data, model, metric, value, error, rank, then everything that the entry holds.

    `rank` is that of the Markdown tables; `not_ranked` says why a number of another protocol has none.
    """
    entries = []
    for table in tables:
        standings = {name: places(table.families, metric) for name, metric in METRICS.items()}
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
    writer.writerows({key: field(value) for key, value in entry.items()} for entry in entries)
    return text.getvalue()


def field(value: Any) -> Any:
    """Return a value as a field of a CSV holds it: dictionaries and lists as JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def to_markdown(tables: list[Table]) -> str:
    """Return one table per data set, with numbers rounded by their errors."""
    seeds = SEEDS if any(table.has_several_seeds for table in tables) else ""
    floors = list(dict.fromkeys(floor for table in tables for floor in table.floors))
    no_rank = f" Floors ({', '.join(floors)}) are there to be compared with and have no rank." if floors else ""
    lines = ["# Leaderboard", "", f"Value ± standard error{seeds}. {READING}{no_rank}".replace("\n", " ")]
    for table in tables:
        ranking = rank(table)
        titles = [metric.title for metric in ranking.metrics]
        cells = [["model", "likelihood", *titles], ["---", "---", *("---:" for _ in titles)]]
        cells += [[line.model, line.likelihood, *map(in_markdown, line.numbers)] for line in ranking.lines]
        lines += ["", f"## {table.name}", "", *(f"| {' | '.join(cell)} |" for cell in cells)]
        lines += [note for sentence in ranking.refused for note in ("", f"† {sentence}")]
        lines += [note for sentence in missing(table) for note in ("", sentence)]
    return "\n".join(lines) + "\n"


def in_markdown(number: Number | None) -> str:
    """Return `**1.23 ± 0.01 (1)**`: a number with its rank, or a dagger where it has none because of its protocol."""
    if number is None:
        return ""
    text = number.text + (f" ({number.rank})" if number.rank else "") + (" †" if number.refused else "")
    return f"**{text}**" if number.best else text
