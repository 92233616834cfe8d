"""The leaderboard as JSON, as CSV and as Markdown.

leaderboard = {data: {model: {metric: {"value": ..., "error": ..., ...}}}}
"""

import csv
import io
import json
from typing import Any

from lookalike.metrics.catalogue import METRICS
from lookalike.report.cells import Entry, Table
from lookalike.report.columns import Place
from lookalike.report.ranking import missing, rank, scope, standings
from lookalike.report.rendering import render

SEEDS = ", of several training seeds that of their mean, which counts training again as well"


def leaderboard(tables: list[Table]) -> dict[str, dict[str, dict[str, Entry]]]:
    """Return every entry of every row, by data set, model and metric."""
    return {table.name: {row.model: row.metrics for row in table.rows} for table in tables}


def to_csv(tables: list[Table]) -> str:
    """Return one line per number: data, model, metric, value, error, rank, then everything that the entry holds.

    `rank` is that of the Markdown tables, and `rank_as_stated` that of the numbers as they are stated; `not_ranked`
    says why a number has none.
    """
    entries = []
    for table in tables:
        for row in table.rows:
            for metric, entry in row.metrics.items():
                known = METRICS.get(metric)
                place = (standings(table, known).places if known else {}).get(row.model, Place())
                line = {"data": table.name, "model": row.model, "metric": metric} | entry
                ranks = {"rank": str(place), "rank_as_stated": place.as_stated, "not_ranked": place.refused}
                entries.append(line | ranks)
    first = ["data", "model", "metric", "value", "error", "rank", "rank_as_stated", "not_ranked"]
    first += ["mean", "deviation", "seeds"]
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
    return render(
        "leaderboard.md",
        seeds=SEEDS if any(table.has_several_seeds for table in tables) else "",
        floors=list(dict.fromkeys(floor for table in tables for floor in table.floors)),
        boards={table.name: (scope(table), rank(table), missing(table)) for table in tables},
    )
