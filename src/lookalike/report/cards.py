"""Model cards in the layout of Hugging Face: what a model is, what it was trained on, how good it is, where it fails.

Everything in a card comes from the records of the cell, its scores and the docstring of the family.
(Mitchell et al., Model cards for model reporting, 2019, arXiv:1810.03993.)
"""

import ast
from pathlib import Path
from typing import Any

import yaml

import lookalike
from lookalike.metrics.catalogue import LIKELIHOOD, title_of
from lookalike.report.cells import Row, Table
from lookalike.report.mistakes import mistakes
from lookalike.report.numbers import KINDS
from lookalike.report.rendering import render
from lookalike.report.shown import about, shown

LICENSE = "apache-2.0"
"""The license of this project, and so of the models it trains."""

FAMILIES = Path(lookalike.__file__).parent / "families"

ELSEWHERE = frozenset({"budget", "data", "trainer"})
"""Parts of a configuration that stand in the table of the card, or change no result."""


def cards(table: Table) -> dict[str, str]:
    """Return the cards of the families of a data set, by file name."""
    wrong, description = mistakes(table), about(table)
    found = {}
    for row in table.families:
        configuration = {key: value for key, value in row.record["configuration"].items() if key not in ELSEWHERE}
        found[f"{table.name}-{row.model}.md"] = render(
            "card.md",
            front=yaml.safe_dump(front_matter(row, table), sort_keys=False, allow_unicode=True),
            row=row,
            table=table,
            about=description,
            family=described(row.model),
            configuration=yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True),
            likelihood=row.metrics.get(LIKELIHOOD, {}),
            kinds=KINDS,
            wrong=wrong[row.model],
        )
    return found


def described(model: str) -> str:
    """Return the docstring at the top of the file of a family, or its name."""
    path = FAMILIES / f"{model}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None) or f"{model}."


def front_matter(row: Row, table: Table) -> dict[str, Any]:
    """Return what Hugging Face's hub reads of a card, with the scores as its `model-index`."""
    task = shown(table.prepared.domain).task
    splits = dict.fromkeys(split_of(entry) for entry in row.metrics.values())
    data = {"type": table.name, "name": table.name, "revision": table.prepared.digest}
    results = [
        {
            "task": dict(task),  # A copy, because YAML would write a reference.
            "dataset": data | {"split": split},
            "metrics": [indexed(name, entry) for name, entry in row.metrics.items() if split_of(entry) == split],
        }
        for split in splits
    ]
    return {
        "license": LICENSE,
        "library_name": "lookalike",
        **({} if task["type"] == "other" else {"pipeline_tag": task["type"]}),
        "tags": ["generative-model", "lookalike", row.model],
        "datasets": [table.name],
        "metrics": list(row.metrics),
        "model-index": [{"name": f"{table.name}-{row.model}", "results": results}],
    }


def split_of(entry: dict[str, Any]) -> str:
    """Return the split of a score; scores of novelty, which have none, stand with those of the test split."""
    return str(entry.get("split", "test"))


def indexed(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return a score as a `model-index` holds it, with its protocol as arguments."""
    protocol = {key: value for key, value in entry.items() if key != "value" and value not in ({}, None)}
    return {"type": name, "name": title_of(name), "value": entry["value"], "args": protocol}
