"""How MLflow shows an experiment: columns, order and charts of the list of runs, and the address of that view.

A saved view of MLflow is a tag of the experiment, `mlflow.sharedViewState.<key>`. It is listed in the page's menu of
views, and `?viewStateShareKey=<key>` opens it.
"""

import json
from typing import Any

from lookalike.metrics.catalogue import LIKELIHOOD
from lookalike.tracking.content import HEADLINE, Record

VIEW = "scores"
"""The key of the view."""

TITLE = "Scores and samples of all models"

FINAL = "final_samples"
"""The key under which every run shows its samples, always at step 0, so that they stand side by side."""

FOLDED = ("scores", "cost", "train", "validation", "System metrics")
"""Groups of charts that are folded when the page opens, by the part of a metric's name before `/`."""

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of an experiment: its pages are those of model training, and not of prompts and traces."""


def view_tags(order: str = LIKELIHOOD) -> dict[str, str]:
    """Return the tags that lay out the pages of an experiment.

    Args:
        order: the score by which runs are sorted, best first.
    """
    state = {
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": True,  # All headline scores are better if lower.
        "selectedColumns": columns(order),
        "columnOrder": ["1", "attributes.`Run Name`", *columns(order)],
        "columnWidths": {"attributes.`Run Name`": 150} | dict.fromkeys(columns(order), 120),
        "compareRunCharts": charts(),
        "compareRunSections": sections(),
        "isAccordionReordered": True,  # Otherwise MLflow sorts the groups of charts by name.
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }
    # MLflow's page reads times, which have no meaning here; fixed ones keep the tag the same.
    saved = {"name": TITLE, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state, separators=(",", ":"))}
    return EXPERIMENT_TAGS | {
        "mlflow.experiment.primaryMetric.name": order,
        f"mlflow.sharedViewState.{VIEW}": json.dumps(saved, separators=(",", ":")),
    }


def columns(order: str) -> list[str]:
    """Return the columns of the list of runs: the scores, each with its error, the one of the order first."""
    scores = [order, *(name for name in HEADLINE if name != order)]
    shown = [key for name in scores for key in (name, f"{name}_error", f"{name}_deviation")]
    return [*(f"metrics.`{key}`" for key in shown), "params.`family`", "tags.`seed`"]


def charts() -> list[Record]:
    """Return the samples of all runs, then one bar chart per score; errors get no chart."""
    grid = {"type": "IMAGE", "step": 0, "showRunParams": False}
    samples = grid | {"uuid": "samples", "metricSectionId": "samples", "imageKeys": [FINAL]}
    training = grid | {"uuid": "training", "metricSectionId": "train", "imageKeys": ["samples"]}
    bars = [{"type": "BAR", "uuid": name, "metricSectionId": "top", "metricKey": name} for name in HEADLINE]
    hidden = [
        {"type": "BAR", "uuid": key, "metricSectionId": "top", "metricKey": key, "deleted": True}
        for name in HEADLINE
        for key in (f"{name}_error", f"{name}_deviation")
    ]
    return [samples, training, *bars, *hidden]


def sections() -> list[Record]:
    """Return the groups of charts, in order; pictures are as wide as the page."""
    folded = [{"uuid": name, "name": name, "display": False} for name in FOLDED]
    return [
        {"uuid": "top", "name": "Model metrics", "display": True, "columns": 3, "cardHeight": 280},
        {"uuid": "samples", "name": "Samples", "display": True, "columns": 1, "cardHeight": 620},
        *folded,
    ]


def path_of_view(experiment: str) -> str:
    """Return the address of an experiment's view, relative to that of the server."""
    mode = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={VIEW}"
    return f"#/experiments/{experiment}/runs?{mode}"


def path_of_run(experiment: str, run: str, artifact: str = "") -> str:
    """Return the address of a run, or of one of its artifacts, relative to that of the server."""
    place = f"#/experiments/{experiment}/runs/{run}" + (f"/artifacts/{artifact}" if artifact else "")
    return f"{place}?workflowType=machine_learning"


def path_of_file(run: str, artifact: str) -> str:
    """Return the address of the content of an artifact, relative to that of the server."""
    return f"get-artifact?path={artifact}&run_uuid={run}"


def changed(tags: dict[str, str], known: dict[str, Any]) -> dict[str, str]:
    """Return the tags that differ from the known ones."""
    return {key: value for key, value in tags.items() if known.get(key) != value}
