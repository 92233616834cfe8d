"""A sweep in MLflow: per data set a run, with one run per trial below it, made from the files of the sweep alone."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from lookalike.sweeps.findings import best_scores, outcome, parameters
from lookalike.sweeps.mlflow_pages import PICTURE, note, overview, place_of, view_of_trials
from lookalike.sweeps.places import Record, Sweep, searched, title
from lookalike.sweeps.summary import summary_of
from lookalike.tracking.content import STAGES, Content, Point, digest, family_of, read
from lookalike.tracking.layout import changed
from lookalike.tracking.mlflow_run import MlflowRun, NoFilesError, dataset
from lookalike.tracking.mlflow_server import MlflowRuns, provenance
from lookalike.tracking.notes import with_note

STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED", "pruned": "KILLED"}
"""MLflow's status for the state of a trial; MLflow knows no pruned runs, so a tag says that."""


class MlflowSweep:
    """The runs of one sweep, in the experiment of each of its data sets; no other process writes them."""

    def __init__(self, server: MlflowRuns, sweep: Sweep) -> None:
        self.parts = [Part(server, sweep, data) for data in sweep.read()["data"]]

    def update(self) -> int:
        """Record the trials whose files changed; return how many of them had something new."""
        return sum(part.update() for part in self.parts)

    def close(self) -> None:
        """Record how the sweep ended and what it found."""
        for part in self.parts:
            part.close()


class Part:
    """The run of a sweep on one data set, and below it one run per trial."""

    def __init__(self, server: MlflowRuns, sweep: Sweep, data: str) -> None:
        self.server, self.client, self.sweep, self.data = server, server.client, sweep, data
        self.about = sweep.read()
        self.parent = self._parent()
        self.children = self._children()
        self.seen: dict[str, tuple[int, int]] = {}

    def _parent(self) -> MlflowRun:
        tags = description(self.about, self.data)
        run = self.server.find(place_of(self.data), "sweep_id", self.about["id"])
        run = run or self.server.create(place_of(self.data), self.sweep.name, tags=tags)
        parent = MlflowRun(self.client, run, training=False)
        parent.tags(tags)
        parent.parameters(parameters(self.about, self.data))
        self.client.update_run(parent.id, status="RUNNING")
        return parent

    def _children(self) -> dict[str, "Child"]:
        """Return the existing runs of trials, by fingerprint."""
        from mlflow.utils import get_results_from_paginated_fn

        query = f"tags.mlflow.parentRunId = '{self.parent.id}'"
        runs = get_results_from_paginated_fn(
            lambda count, token: self.client.search_runs(
                [self.parent.experiment], query, max_results=count, page_token=token
            ),
            max_results_per_page=1000,
        )
        return {run.data.tags["trial"]: Child(self.client, run) for run in runs if "trial" in run.data.tags}

    def update(self) -> int:
        """Record the trials whose files changed; return how many of them had something new."""
        with os.scandir(self.sweep.states) as entries:
            stamps = {e.name: (e.stat().st_mtime_ns, e.stat().st_size) for e in entries if e.name.endswith(".json")}
        running = {name for name, child in self.children.items() if child.status == "RUNNING"}
        names = [name.removesuffix(".json") for name, stamp in stamps.items() if self.seen.get(name) != stamp]
        changed = [state for name in names if (state := self.sweep.state(name)) is not None]
        new = 0
        for state in sorted(changed, key=lambda state: (state["first"], state["fingerprint"])):
            if state["data"] == self.data:
                new += self._record(state)
                running.discard(state["fingerprint"])
            name = f"{state['fingerprint']}.json"
            self.seen[name] = stamps[name]
        for fingerprint in running:
            self.children[fingerprint].follow(self.sweep.trial(fingerprint).curves)
        return new

    def _record(self, state: Record) -> bool:
        fingerprint = state["fingerprint"]
        folder = self.sweep.trial(fingerprint).folder
        identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
        if not self.parent.inputs:
            self.parent.inputs = [dataset(identity)]
            self.client.log_inputs(self.parent.id, self.parent.inputs)
        if fingerprint not in self.children:
            self.children[fingerprint] = Child(self.client, self._create(state, identity))
        child = self.children[fingerprint]
        child.describe(identity, searched(state["overrides"], self.about["space"]))
        return child.record(state, folder, objective=self.about["objective"])

    def _create(self, state: Record, identity: Record) -> Any:
        return self.server.create(
            place_of(self.data),
            title(state["overrides"], self.about["space"])[:200] or f"{state['data']}-{state['model']}",
            start_time=int(state["first"] * 1000),
            tags=provenance("sweep", self.about["git"])
            | {
                "mlflow.parentRunId": self.parent.id,
                "sweep": self.sweep.name,
                "trial": state["fingerprint"],
                "trial_number": str(len(self.children) + 1),
                "data": state["data"],
                "family": family_of(identity),
                "model": state["model"],
                "seed": str(state["seed"]),
                "overrides": " ".join(state["overrides"])[:5000],
            },
        )

    def close(self) -> None:
        """Record how the sweep ended, its best trial, its table, its figures and its description."""
        about = self.sweep.read()
        if about["state"] != "running":
            self._conclude(summary_of(self.sweep, data=self.data))
        self.client.set_terminated(self.parent.id, about["state"].upper())
        lost = [run.lost for run in (self.parent, *(child.run for child in self.children.values())) if run.lost]
        if lost:
            raise NoFilesError from lost[0]

    def _conclude(self, summary: Record) -> None:
        """Record the results of the sweep, unless its run has them."""
        runs = {fingerprint: child.run for fingerprint, child in self.children.items()}
        families = ", ".join(sorted({run.known.tags["family"] for run in runs.values()}))
        tags = {"family": families} | outcome(summary)
        kept = [self.sweep.about, self.sweep.summary, self.sweep.folder / "summary.csv"]
        if rows := summary["configurations"]:
            best, values = rows[0]["trials"][0], searched(rows[0]["overrides"], self.about["space"])
            tags |= {"best_trial": best, "best_trial_number": runs[best].known.tags["trial_number"]}
            tags |= {f"best.{name}": value for name, value in values.items()}
            kept.append(self.sweep.trial(best).folder / "sample" / PICTURE)
        figures = sorted((self.sweep.folder / "figures").glob("*.png"))
        kept = [path for path in kept if path.is_file()]
        found = digest([*kept, *figures])
        if self.parent.recorded("sweep") != found:
            self.parent.files(figures, "figures")
            results, parameters = best_scores(summary), {"family": families}
            content = Content(digest=found, parameters=parameters, tags=tags, results=results, files=kept)
            self.parent.stage("sweep", content)
            text = note(self.sweep, summary, run=self.parent, trials=runs)
            self.parent.tags(with_note(text, self.parent.known.tags))
            self._overview()

    def _overview(self) -> None:
        """Save the views of this sweep and of all sweeps on the data set, and describe their experiment."""
        experiment = self.client.get_experiment(self.parent.experiment)
        parents = self.client.search_runs([experiment.experiment_id], "tags.sweep_id != ''")
        view, text = overview(self.data, experiment.experiment_id, parents)
        tags = view | view_of_trials(self.about, self.parent.id) | with_note(text, experiment.tags)
        for key, value in changed(tags, experiment.tags).items():
            self.client.set_experiment_tag(experiment.experiment_id, key, value)


class Child:
    """The run of one trial."""

    def __init__(self, client: Any, run: Any) -> None:
        self.client, self.run = client, MlflowRun(client, run, training=False)
        self.status = run.info.status
        self.offset = 0

    def describe(self, identity: Record, values: dict[str, str]) -> None:
        """Record the searched values, all settings and the data of a trial, unless the run has them."""
        if "code_digest" in self.run.known.tags:
            return
        self.run.parameters(values)
        self.run.describe(identity)
        self.run.tags({"data_digest": identity["data_digest"], "code_digest": identity["code_digest"]})

    def record(self, state: Record, folder: Path, *, objective: list[str]) -> bool:
        """Bring the run up to the state of a trial; return whether it was behind."""
        marker = f"{state['state']} {state['ended']} {objective}"
        if self.run.known.tags.get("recorded") == marker:
            return False
        self.follow(folder / "curves.jsonl")  # first, because these points have the times of the training
        self.run.tags({"trial_state": state["state"], "error": state["error"] or ""})
        if state["state"] == "finished":
            self.run.stage("trial", content_of(folder, marker))
            self.run.results([Point(name, value) for name, value in zip(objective, state["values"], strict=True)])
        elif state["state"] == "failed" and (folder / "error.txt").is_file():
            self.run.files([folder / "error.txt"])
        self.status = STATUS[state["state"]]
        if self.status == "RUNNING":
            self.client.update_run(self.run.id, status=self.status)
        else:
            end = int(state["ended"] * 1000) if state["ended"] else None
            self.client.set_terminated(self.run.id, self.status, end)
        self.run.mark("recorded", marker)
        return True

    def follow(self, curves: Path) -> None:
        """Record the losses that were written since the last call."""
        if not curves.is_file():
            return
        with curves.open("rb") as file:
            file.seek(self.offset)
            lines = file.read().splitlines(keepends=True)
        points = []
        for line in lines:
            if not line.endswith(b"\n"):
                break  # It is being written.
            self.offset += len(line)
            try:
                row = json.loads(line)
            except ValueError:
                continue  # It was cut when its process was killed.
            points += [
                Point(key, float(f"{value:.6g}"), row["step"], row["milliseconds"])
                for key, value in row["values"].items()
                if value == value  # NaN has no place in a chart.
            ]
        self.run.points(points)


def content_of(folder: Path, marker: str) -> Content:
    """Return what a finished trial records: curves, results, protocols, the picture and the scores; no weights."""
    contents = [read(stage, folder / stage) for stage in STAGES]
    training = json.loads((folder / "train" / "model.json").read_text(encoding="utf-8"))["fingerprint"]
    return dataclasses.replace(
        contents[0],
        digest=marker,
        parameters={},
        tags={"training_fingerprint": training} | {key: v for content in contents for key, v in content.tags.items()},
        results=[point for content in contents for point in content.results],
        arrays=contents[1].arrays,
        files=[folder / "sample" / "samples.png", folder / "evaluate" / "metrics.json"],
    )


def description(about: Record, data: str) -> dict[str, str]:
    """Return what a sweep on one data set was asked for, as tags."""
    return provenance("sweep", about["git"]) | {
        "sweep": about["name"],
        "sweep_id": about["id"],
        "command": about["command"],
        "sampler": json.dumps(about["sweeper"]),
        "objective": ", ".join(about["objective"]),
        "data": data,
        "data_digest": about["data"][data],
    }


def tag_promoted(server: MlflowRuns, about: Record, data: str, fingerprint: str, place: str) -> None:
    """Tag the run of a trial, and that of its sweep, with the file that has its values now."""
    parent = server.find(place_of(data), "sweep_id", about["id"])
    if parent is None:
        raise RuntimeError("it has no run of the sweep: record it with `lookalike record`")
    query = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.trial = '{fingerprint}'"
    server.client.set_tag(parent.info.run_id, "promoted", f"{fingerprint} in {place}")
    for run in server.client.search_runs([parent.info.experiment_id], query):
        server.client.set_tag(run.info.run_id, "promoted", place)
