"""What MLflow's pages show of sweeps: descriptions, and saved views that compare trials and sweeps.

Sweeps have an experiment of their own beside that of the models of their data set. MLflow folds trials below a sweep
only while runs are sorted by time, and models are sorted by their scores. In one experiment, trials would stand between
the models in every list and chart, and their scores are of validation data, not of test data.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lookalike.sweeps.objectives import OBJECTIVES
from lookalike.sweeps.places import Record, Sweep, searched, short_names
from lookalike.sweeps.table import conclusions, describe
from lookalike.tracking.content import ROOT
from lookalike.tracking.layout import FINAL, VIEW, path_of_file, path_of_run
from lookalike.tracking.notes import table

SHOWN = 10
"""Number of configurations in the table of a description; `summary.csv` among the files of the run has all."""

PICTURE = "samples.png"
"""The file of a sweep's run that shows samples of the best trial."""

MAX_AXES = 12
"""Number of searched values in a view; a tag of an experiment has at most 5,000 characters."""

MAX_SWEEPS = 15
"""Number of sweeps in the description of an experiment, the newest ones, for the same reason."""

SAMPLES = {"type": "IMAGE", "uuid": "samples", "metricSectionId": "samples", "imageKeys": [FINAL], "step": 0,
           "showRunParams": False}  # fmt: skip
"""The chart that shows the samples of all runs side by side."""


def place_of(data: str) -> str:
    """Return the name, below that of all experiments, of the experiment with the sweeps on a data set."""
    return f"{data}/sweeps"


def view_of(sweep: str) -> str:
    """Return the key of the saved view of a sweep."""
    return f"sweep-{sweep}"


def path_of_trials(experiment: str, sweep: str) -> str:
    """Return the address of the view that compares the trials of a sweep, relative to that of the server."""
    mode = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={view_of(sweep)}"
    return f"#/experiments/{experiment}/runs?{mode}"


def saved_view(key: str, title: str, columns: list[str], groups: Record, charts: list[Record], **more: Any) -> Record:
    """Return the tag of an experiment that saves a view.

    Args:
        key: the name by which an address opens the view.
        title: its name in the page's menu of views.
        columns: columns of the list of runs.
        groups: title, number of columns and height of each group of charts, by its key.
        charts: the charts.
        more: other settings, such as the order of runs.
    """
    state = {
        "selectedColumns": columns,
        "columnOrder": ["1", "attributes.`Run Name`", *columns],
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": group, "name": name, "display": True, "columns": count, "cardHeight": height}
            for group, (name, count, height) in groups.items()
        ],
        "isAccordionReordered": True,  # Otherwise MLflow sorts the groups of charts by name.
        "hideEmptyCharts": True,
    } | more
    # MLflow's page reads times, which have no meaning here; fixed ones keep the tag the same.
    saved = {"name": title, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state, separators=(",", ":"))}
    return {f"mlflow.sharedViewState.{key}": json.dumps(saved, separators=(",", ":"))}


def view_of_trials(about: Record, parent: str) -> dict[str, str]:
    """Return the tag that saves the view of a sweep: its trials alone, the best first.

    Its charts are parallel coordinates from the searched values to the objectives, the objectives, and the samples.

    Args:
        about: what the sweep was asked for.
        parent: the id of its run.
    """
    names, wanted = list(short_names(about["space"]).values())[:MAX_AXES], about["objective"]
    lines = {"type": "PARALLEL", "uuid": "space", "metricSectionId": "space", "selectedParams": names,
             "selectedMetrics": wanted, "showAllRuns": True}  # fmt: skip
    bars = [{"type": "BAR", "uuid": name, "metricSectionId": "objective", "metricKey": name} for name in wanted]
    columns = [*(f"metrics.`{name}`" for name in wanted), *(f"params.`{name}`" for name in names)]
    return saved_view(
        view_of(about["name"]),
        f"Sweep {about['name']}",
        [*columns, "tags.`trial_state`", "attributes.`Duration`"],
        {
            "space": ("Searched values and objective", 1, 360),
            "objective": ("Objective", 1, 360),
            "samples": ("Samples", 1, 620),
        },
        [*([lines] if names else []), *bars, SAMPLES],
        searchFilter=f'tags.mlflow.parentRunId = "{parent}"',
        orderByKey=f"metrics.`{wanted[0]}`",
        orderByAsc=not OBJECTIVES[wanted[0]].higher,
        runsHiddenMode="SHOWALL",
    )


def overview(data: str, experiment: str, parents: Sequence[Any]) -> tuple[dict[str, str], str]:
    """Return the tag that saves the view of all sweeps on a data set, and the description of their experiment.

    Args:
        data: the data set's name.
        experiment: the experiment's id.
        parents: the runs of the sweeps as MLflow returns them, the newest first.
    """
    wanted = list(dict.fromkeys(name for run in parents for name in run.data.tags["objective"].split(", ")))
    bars = [{"type": "BAR", "uuid": name, "metricSectionId": "best", "metricKey": name} for name in wanted]
    columns = [*(f"metrics.`{name}`" for name in wanted), "params.`family`", "tags.`winner`", "tags.`trials.finished`"]
    view = saved_view(
        VIEW,
        "All sweeps",
        columns,
        {"best": ("Best of each sweep", 2, 280), "samples": ("Samples of the best", 1, 620)},
        [*bars, SAMPLES],
        searchFilter='tags.sweep_id != ""',
        orderByKey="attributes.start_time",
        orderByAsc=False,
        runsHiddenMode="FIRST_20_RUNS",
    )
    rows = [
        [
            f"[{run.data.tags['sweep']}]({path_of_trials(experiment, run.data.tags['sweep'])})",
            run.data.tags.get("family", "–"),
            ", ".join(best_of(run.data, name) for name in run.data.tags["objective"].split(", ")),
            run.data.tags.get("trials.finished", "0"),
        ]
        for run in parents[:MAX_SWEEPS]
    ]
    head = ["sweep: its trials side by side", "family", "best, on validation data", "finished trials"]
    return view, f"Sweeps on {data}.\n\n{table(head, rows)}"


def best_of(run: Any, name: str) -> str:
    """Return the best value of an objective in a sweep, in words."""
    return f"{name} {run.metrics[name]:.5g}" if name in run.metrics else f"{name} –"


def note(sweep: Sweep, summary: Record, *, run: Any, trials: Mapping[str, Any]) -> str:
    """Return the description of a sweep on one data set, in Markdown.

    Args:
        sweep: its files.
        summary: the summary of its trials on this data set.
        run: the `MlflowRun` of the sweep.
        trials: the `MlflowRun` of each trial, by fingerprint.
    """
    about, rows = sweep.read(), summary["configurations"]
    link = f"[All trials side by side]({path_of_trials(run.experiment, sweep.name)})"
    meaning, *found = conclusions(summary)
    parts = ["\n".join(f"- {line}" for line in [f"**{link}**", *found[: 2 * SHOWN]])]
    if rows:
        parts += [table_of_best(rows, about, run.experiment, trials), meaning]
        parts.append(f"![Samples of the best trial]({path_of_file(run.id, PICTURE)})")
        parts.append(f"Write the values of the best trial into `conf/`:\n\n```sh\n{promotion(sweep, summary)}\n```")
    if about["space"]:
        space = [[f"`{key}`", f"`{values}`"] for key, values in about["space"].items()]
        parts.append(table([f"searched for {' and '.join(about['objective'])}", "values"], space))
    parts.append(f"The same for all trials: `{' '.join(about['fixed'])}`")
    parts.append(f"Continue the sweep:\n\n```sh\n{about['command']}\n```")
    return "\n\n".join(parts)


def table_of_best(rows: list[Record], about: Record, experiment: str, trials: Mapping[str, Any]) -> str:
    """Return the best configurations as a table, each with a link to its first trial."""
    names = [name for key, name in short_names(about["space"]).items() if key != "seed"]
    lines = []
    for row in rows[:SHOWN]:
        first, values = row["trials"][0], searched(row["overrides"], about["space"])
        scores = [describe(row["scores"][name]) for name in about["objective"]]
        link = f"[{first[:8]}]({path_of_run(experiment, trials[first].id)})" if first in trials else first[:8]
        lines.append([link, *(values.get(name, "") for name in names), str(len(row["seeds"])), *scores])
    return table(["trial", *names, "seeds", *(f"{name} ({about['split']})" for name in about["objective"])], lines)


def promotion(sweep: Sweep, summary: Record) -> str:
    """Return the command that writes the values of the best configuration into its model's file."""
    name = sweep.name if sweep.folder.parent == ROOT / "multirun" else str(sweep.folder)
    won = any(found["winner"] is not None for found in summary.get("verdict", {}).values())
    trial = "" if won and len(sweep.read()["data"]) == 1 else f" trial={summary['configurations'][0]['trials'][0][:8]}"
    return f"lookalike promote {name}{trial}"
