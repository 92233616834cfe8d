"""A model card for every trained model, in Hugging Face's layout: what it is, what it was told, how good it is.

All in it comes from the cell's records, the scores and the family's own description of itself.
(Mitchell et al., Model cards for model reporting, 2019, arXiv:1810.03993.)
"""

import ast
from pathlib import Path
from typing import Any

import jinja2
import yaml

import lookalike
from lookalike.report.cells import Row, Table
from lookalike.report.leaderboard import BITS, TABLES, describe
from lookalike.report.mistakes import mistakes
from lookalike.report.page import KINDS, about, settings, si, spread

LICENSE = "apache-2.0"
"""Of this project, and so of what it trains."""

FAMILIES = Path(lookalike.__file__).parent / "models"

OWN_CODE = frozenset({"budget", "data", "trainer"})
"""Parts of a configuration that stand in the card's table, or change no result."""


def cards(table: Table) -> dict[str, str]:
    """Cards of a data set's families, by the name of a file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("card.md")
    wrong = mistakes(table)
    return {
        f"{table.name}-{row.model}.md": template.render(card(row, table, wrong[row.model])) for row in table.families
    }


def card(row: Row, table: Table, wrong: list[str]) -> dict[str, Any]:
    """What stands in one card."""
    configuration = {k: v for k, v in row.record["configuration"].items() if k not in OWN_CODE}
    title, _, rest = described(row.model).partition("\n")
    kind = row.metrics.get(BITS, {}).get("kind")
    return {
        "front": yaml.safe_dump(front_matter(row, table), sort_keys=False, allow_unicode=True),
        "name": f"{table.name}-{row.model}",
        "data": table.name,
        "model": row.model,
        "summary": f"{title} Trained on the data set `{table.name}`.",
        "about": about(table),
        "family": rest.strip("\n") or title,
        "training": training(row, table),
        "configuration": yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True),
        "results": [result(name, row, table) for name in row.metrics],
        "wrong": wrong or ["Nothing that these numbers tell from real data; see the limits."],
        "limits": limits(row, table, kind),
    }


def described(model: str) -> str:
    """What a family's file says of itself at its top, or its name."""
    path = FAMILIES / f"{model}.py"
    return (ast.get_docstring(ast.parse(path.read_text())) if path.is_file() else None) or f"{model}."


def front_matter(row: Row, table: Table) -> dict[str, Any]:
    """What Hugging Face's hub reads of a card, the scores as its `model-index`."""
    image = table.prepared.domain.kind == "image"
    task = {"type": "unconditional-image-generation"} if image else {"type": "other", "name": "density estimation"}
    return {
        "license": LICENSE,
        "library_name": "lookalike",
        **({"pipeline_tag": task["type"]} if image else {}),
        "tags": ["generative-model", "lookalike", row.model],
        "datasets": [table.name],
        "metrics": list(row.metrics),
        "model-index": [
            {
                "name": f"{table.name}-{row.model}",
                "results": [
                    {
                        "task": dict(task),  # else YAML would refer to it
                        "dataset": {
                            "type": table.name,
                            "name": table.name,
                            "split": split,
                            "revision": table.prepared.digest,
                        },
                        "metrics": [
                            indexed(name, entry) for name, entry in row.metrics.items() if split_of(entry) == split
                        ],
                    }
                    for split in dict.fromkeys(split_of(entry) for entry in row.metrics.values())
                ],
            }
        ],
    }


def split_of(entry: dict[str, Any]) -> str:
    """The split that a score is of; novelty is asked of the samples against the training data, and counts to test."""
    return str(entry.get("split", "test"))


def indexed(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A score as a `model-index` has it: its protocol are its arguments."""
    protocol = {key: value for key, value in entry.items() if key != "value" and value not in ({}, None)}
    return {"type": name, "name": title_of(name), "value": entry["value"], "args": protocol}


def title_of(name: str) -> str:
    """What a metric is called for reading."""
    known = {metric.name: metric.title for metrics in TABLES for metric in metrics}
    return known.get(name, name.replace("_", " ").capitalize())


def training(row: Row, table: Table) -> list[tuple[str, str]]:
    """What it learned from and what that took.

    Seconds differ from run to run, so they stand in `report.html` alone.
    """
    record, configuration = row.record, row.record["configuration"]
    trained = record["steps"] > 0
    return [
        ("data", f"`{table.name}`, digest `{table.prepared.digest}`"),
        ("observations", f"{table.prepared.summary['splits']['train']['count']:,}, the training split"),
        ("numbers learned", f"{record['parameters']:,}"),
        ("steps", f"{record['steps']:,}" if trained else "none: fitted, or nothing to fit"),
        ("floating-point operations", si(record["flops"]) if trained else "—"),
        ("budget", f"scale {configuration['budget']['scale']:g}"),
        ("seed", str(configuration["seed"])),
        ("code digest", f"`{record['code_digest']}`"),
        ("fingerprint", f"`{record['fingerprint']}`"),
    ]


def result(name: str, row: Row, table: Table) -> tuple[str, str, str, str]:
    """A line of the table of results."""
    _, _, words = spread(row.metrics[name])
    real = table.real.metrics.get(name)
    return (
        name,
        describe(row.metrics[name]),
        describe(real) if real else "—",
        "; ".join(": ".join(pair) for pair in words),
    )


def limits(row: Row, table: Table, kind: str | None) -> list[str]:
    """What its numbers do not say."""
    found = [
        f"It draws what resembles `{table.name}` and nothing else; it was tried on no other data and for no other use."
    ]
    if kind is None:
        found.append("It has no likelihood: how probable an observation is, it can't say.")
    else:
        found.append(f"Its likelihood is {'an' if kind[0] in 'aeiou' else 'a'} {kind}. {KINDS[kind]}")
    if coarser := row.metrics.get(BITS, {}).get("coarser"):
        found.append(
            f"With coarser steps of its solver ({settings(coarser['settings'])}) its bits would change by "
            f"{coarser['change']:+.2g} ± {coarser['standard_error']:.1g}, on {coarser['points']} points."
        )
    if table.extractor["digest"]:
        found.append(
            f"Samples were compared in features of the extractor `{table.extractor['name']}`, digest "
            f"`{table.extractor['digest']}`: distances in other features, such as FID, are other numbers."
        )
    if table.prepared.domain.labels and row.record["configuration"].get("model", {}).get("conditional") is False:
        found.append("It was not told classes: which one it draws can't be chosen.")
    return found
