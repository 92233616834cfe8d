"""One MLflow run per model that was trained with several seeds: means and deviations, with the seeds' runs below it."""

import re
import statistics
from collections import defaultdict
from typing import Any

from lookalike.tracking.content import HEADLINE, Point, Record
from lookalike.tracking.mlflow_run import MlflowRun
from lookalike.workspace.fingerprint import fingerprint

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow's pages show one run below another."""

Shown = list[tuple[Record, MlflowRun]]


def group_seeds(server: Any, shown: Shown) -> list[MlflowRun]:
    """Return one run per model: the only run of its seed, or the run of all its seeds, which is made if necessary.

    Args:
        server: an `MlflowRuns`.
        shown: the records of trained models of one data set, with their runs.
    """
    models: dict[str, Shown] = defaultdict(list)
    for record, run in shown:
        models[identity(record)].append((record, run))
    return [seeds[0][1] if len(seeds) == 1 else show_seeds(server, key, seeds) for key, seeds in models.items()]


def identity(record: Record) -> str:
    """Return what the trained models have in common that differ by their seeds alone."""
    configuration = {key: value for key, value in record["configuration"].items() if key != "seed"}
    return fingerprint(configuration=configuration, data=record["data_digest"], code=record["code_digest"])


def show_seeds(server: Any, key: str, seeds: Shown) -> MlflowRun:
    """Bring the run of a model with several seeds up to date and return it."""
    record, first = seeds[0]
    data, model = str(record["domain"]["name"]), first.known.tags["model"]
    with server.lock():
        run = server.find(data, "aggregate", key) or server.create(data, model, tags={"aggregate": key})
    parent = MlflowRun(server.client, run, training=False)
    configuration = {name: value for name, value in record["configuration"].items() if name != "seed"}
    parent.describe(record | {"configuration": configuration})
    parent.results(means([run.known.metrics for _, run in seeds]))
    same = ("data", "family", "model", "data_digest", "code_digest", *(f"protocol.{name}" for name in HEADLINE))
    numbers = [str(record["configuration"]["seed"]) for record, _ in seeds]
    parent.tags(
        {name: first.known.tags[name] for name in same if name in first.known.tags} | {"seed": ", ".join(numbers)}
    )
    parent.note(picture_of=first.id)
    if (name := f"{model} ({len(seeds)} seeds)") != parent.name:
        server.client.update_run(parent.id, name=name)
        parent.name = name
    for _, run in seeds:
        run.tags({PARENT: parent.id})
    parent.close("FINISHED")
    return parent


def means(metrics: list[dict[str, float]]) -> list[Point]:
    """Return the mean and the standard deviation over seeds of every score that all seeds have."""
    names = [
        name for name in metrics[0] if name in HEADLINE or re.fullmatch(r"scores/.*(?<!_error)(?<!_p_value)", name)
    ]
    points = []
    for name in names:
        values = [held[name] for held in metrics if name in held]
        if len(values) == len(metrics):
            points += [Point(name, statistics.fmean(values)), Point(f"{name}_deviation", statistics.stdev(values))]
    return points
