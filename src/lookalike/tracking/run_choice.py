"""Which runs of an MLflow store are compared, in which order, and the scores that they have there."""

import argparse
from collections import Counter
from typing import Any

from lookalike.metrics.catalogue import LIKELIHOOD, MAIN, METRICS, main_distance, title_of
from lookalike.workspace.errors import UserError, near


def choose(client: Any, prefix: str, asked: argparse.Namespace, data: str | None) -> list[Any]:
    """Return the runs of trained models that the options choose."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils import get_results_from_paginated_fn

    wanted = [item.strip() for item in (asked.runs or "").split(",") if item.strip()]
    conditions = [asked.filter] if asked.filter else []
    conditions += [f"tags.data = {quoted(data)}"] if data else []
    conditions += [f"tags.sweep = {quoted(asked.sweep)}"] if asked.sweep else []
    if wanted:
        conditions.append(f"attributes.run_id IN ({', '.join(map(quoted, wanted))})")
    experiments = experiments_of(client, asked.experiment, None if wanted else prefix)
    try:
        found = get_results_from_paginated_fn(
            lambda count, token: client.search_runs(
                experiments, " and ".join(conditions), max_results=count, page_token=token
            ),
            max_results_per_page=1000,
        )
    except MlflowException as error:
        if asked.filter and error.error_code == "INVALID_PARAMETER_VALUE":
            raise UserError(f"--filter {asked.filter}: {str(error).splitlines()[0]}") from None
        raise
    if unknown := set(wanted) - {run.info.run_id for run in found}:
        raise UserError(f"--runs {', '.join(sorted(unknown))}: there is no such run of this choice")
    # Parents of sweeps, and means over seeds, have no samples of their own.
    found = [run for run in found if "model" in run.data.tags and "aggregate" not in run.data.tags]
    if not found:
        raise UserError(f"no runs: {said(asked, data)}")
    return list(found)


def experiments_of(client: Any, name: str | None, prefix: str | None) -> list[str]:
    """Return the ids of one experiment, or of those of all data sets; of all experiments without a prefix."""
    from mlflow.utils import get_results_from_paginated_fn

    known = get_results_from_paginated_fn(
        lambda count, token: client.search_experiments(max_results=count, page_token=token), max_results_per_page=1000
    )
    found = {experiment.name: str(experiment.experiment_id) for experiment in known}
    if name is not None:
        if name not in found:
            raise UserError(f"--experiment {name}: there are {', '.join(sorted(found))}{near(name, found)}")
        return [found[name]]
    ids = [key for name, key in found.items() if prefix is None or name == prefix or name.startswith(f"{prefix}/")]
    if not ids:
        raise UserError(f"tracking.experiment={prefix}: there are no such experiments but {', '.join(sorted(found))}")
    return ids


def quoted(text: str) -> str:
    """Return a text as MLflow's filters take it, which know no escape for a quote."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def said(asked: argparse.Namespace, data: str | None) -> str:
    """Return the choice in words."""
    parts = [f"of {data}"] if data else []
    parts += [
        f"--{name} {getattr(asked, name)}" for name in ("experiment", "filter", "runs", "sweep") if getattr(asked, name)
    ]
    return f"the store has none {', '.join(parts)}" if parts else "the store has none"


def one_data_set(found: list[Any], data: str | None) -> str:
    """Return the data set of runs.

    Raises:
        UserError: they are of several.
    """
    counts = Counter(run.data.tags.get("data", "") for run in found)
    if len(counts) > 1:
        there = ", ".join(f"{name} ({count} runs)" for name, count in sorted(counts.items()))
        raise UserError(f"runs of several data sets: {there}; name one: lookalike compare-runs {min(counts)}")
    return data or str(next(iter(counts)))


# Scores


def value_of(run: Any, score: str) -> float | None:
    """Return a score of a run, whatever prefix it has there."""
    metrics = run.data.metrics
    value = next((metrics[key] for key in (score, f"scores/{score}", f"objective/{score}") if key in metrics), None)
    return None if value is None else float(value)


def score_of(found: list[Any], asked: str | None) -> str | None:
    """Return the score that runs are sorted by; None if none has any.

    Raises:
        UserError: no run has the score that the user asks for.
    """
    names = {key.removeprefix("scores/") for run in found for key in run.data.metrics}
    if asked is None:
        known = [metric.name for metric in MAIN if metric.name in names]
        return main_distance(known) or next(iter(known), None)
    if all(value_of(run, asked) is None for run in found):
        scores = sorted(name for name in names if name in METRICS)
        raise UserError(f"--sort {asked}: no run has it; there are {', '.join(scores) or 'none'}{near(asked, names)}")
    return asked


def in_order(found: list[Any], score: str | None) -> list[Any]:
    """Return runs, best first; those without the score come last."""
    if score is None:
        return found
    sign = -1 if score in METRICS and METRICS[score].better == "higher" else 1

    def place(run: Any) -> tuple[bool, float, str]:
        value = value_of(run, score)
        is_number = value is not None and value == value
        return not is_number, sign * (value or 0.0) if is_number else 0.0, run.info.run_name or ""

    return sorted(found, key=place)


def entries_of(run: Any, score: str | None) -> dict[str, dict[str, Any]]:
    """Return the headline scores of a run and the one that runs are sorted by, with their errors."""
    names = [metric.name for metric in MAIN]
    if score is not None and score not in names:
        names.append(score)
    found = {}
    for name in names:
        if (value := value_of(run, name)) is not None:
            kind = protocol_of(run, name).get("kind", "exact")
            found[name] = {"value": value, "error": value_of(run, f"{name}_error"), "kind": kind}
    return found


def protocol_of(run: Any, score: str) -> dict[str, str]:
    """Return how a score was measured, from the tag that records it."""
    parts = (part.partition("=") for part in run.data.tags.get(f"protocol.{score}", "").split("; "))
    return {key: value for key, _, value in parts}


def split_of(run: Any) -> str:
    """Return the split that a run was scored on; empty if it is not known."""
    for metric in MAIN:
        protocol = protocol_of(run, metric.name)
        if found := protocol.get("split") or protocol.get("reference"):
            return found
    return ""


def title_in(runs: list[Any], score: str) -> str:
    """Return the title of a score, which for bits depends on their unit."""
    units = {protocol_of(run, score).get("unit") for run in runs} - {None}
    return "Bits per observation" if score == LIKELIHOOD and units == {"bits/observation"} else title_of(score)
