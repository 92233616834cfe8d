"""Descriptions of runs and experiments in MLflow: tables of scores, a picture of samples, links."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lookalike.metrics.catalogue import title_of
from lookalike.report.numbers import describe
from lookalike.tracking.content import HEADLINE
from lookalike.tracking.layout import TITLE, path_of_file, path_of_run, path_of_view

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description."""

WRITTEN = "described"
"""The tag with a digest of the description that was written last. A user's own description is not replaced."""


def with_note(text: str, known: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a description; none if a user has changed the description."""
    now = known.get(NOTE)
    if now and known.get(WRITTEN) != short_digest(now):
        return {}
    return {NOTE: text, WRITTEN: short_digest(text)}


def short_digest(text: str) -> str:
    """Return 16 hexadecimal digits that identify a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_note(run: Any, *, picture_of: str | None, report: str) -> str:
    """Return the description of a run.

    Args:
        run: an `MlflowRun`.
        picture_of: the id of the run that holds `samples.png`; None without a picture.
        report: the path of the report among its files; empty without a report.
    """
    metrics, tags = run.known.metrics, run.known.tags
    parts = []
    if scores := [name for name in HEADLINE if name in metrics]:
        rows = [[title_of(name), score(name, metrics, tags)] for name in scores]
        parts.append(table(["score", "value ± error"], rows))
    if picture_of:
        parts.append(f"![samples]({path_of_file(picture_of, 'samples.png')})")
    if report:
        parts.append(f"[Report of the whole comparison]({path_of_run(run.experiment, run.id, report)})")
    return "\n\n".join(parts)


def experiment_note(data: str, experiment: str, runs: Iterable[Any]) -> str:
    """Return the description of an experiment: its view, and the table of all models.

    Args:
        data: the data set's name.
        experiment: the experiment's id.
        runs: runs of type `MlflowRun`, in the order of the table.
    """
    runs = list(runs)
    shown = [name for name in HEADLINE if any(name in run.known.metrics for run in runs)]
    rows = [
        [f"[{run.name}]({path_of_run(experiment, run.id)})"]
        + [score(name, run.known.metrics, run.known.tags) for name in shown]
        for run in runs
    ]
    parts = [f"Generative models of {data}. **[{TITLE}]({path_of_view(experiment)})**"]
    if rows:
        parts.append(table(["model", *map(title_of, shown)], rows))
    return "\n\n".join(parts)


def score(name: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Return a score with its error or with its deviation over seeds, as `≤ 1.234 ± 0.012`; `–` without a score."""
    if name not in metrics:
        return "–"
    kind = re.search(r"(?:^|; )kind=([^;]+)", tags.get(f"protocol.{name}", ""))
    error = metrics.get(f"{name}_deviation", metrics.get(f"{name}_error"))
    return describe({"value": metrics[name], "error": error} | ({"kind": kind[1]} if kind else {}))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
