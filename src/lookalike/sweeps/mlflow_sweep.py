"""A sweep in MLflow: a parent run and one child run per trial, made from the files of the sweep alone."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from lookalike.sweeps.objectives import OBJECTIVES
from lookalike.sweeps.places import Record, Sweep, title
from lookalike.tracking.content import STAGES, Content, Point, read
from lookalike.tracking.mlflow_run import MlflowRun, NoFilesError
from lookalike.tracking.mlflow_server import MlflowRuns, provenance

STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED", "pruned": "KILLED"}
"""MLflow's status for the state of a trial; MLflow knows no pruned runs, so a tag says that."""


class MlflowSweep:
    """The runs of one sweep; no other process writes them."""

    def __init__(self, server: MlflowRuns, sweep: Sweep) -> None:
        self.server, self.client, self.sweep = server, server.client, sweep
        self.about = sweep.read()
        self.data = data_of(self.about)
        self.parent = self._parent()
        self.children = self._children()
        self.seen: dict[str, tuple[int, int]] = {}

    def _parent(self) -> MlflowRun:
        tags = description(self.about)
        run = self.server.find(self.data, "sweep_id", self.about["id"])
        run = run or self.server.create(self.data, self.sweep.name, tags=tags)
        parent = MlflowRun(self.client, run, training=False)
        parent.tags(tags)
        self.client.update_run(parent.id, status="RUNNING")
        return parent

    def _children(self) -> dict[str, "Child"]:
        """Return the existing runs of trials, by fingerprint."""
        from mlflow.utils import get_results_from_paginated_fn

        query = f"tags.mlflow.parentRunId = '{self.parent.id}'"
        runs = get_results_from_paginated_fn(
            lambda count, token: self.client.search_runs(
                [self.server.experiment_of(self.data)], query, max_results=count, page_token=token
            ),
            max_results_per_page=1000,
        )
        return {run.data.tags["trial"]: Child(self.client, run) for run in runs if "trial" in run.data.tags}

    def update(self) -> int:
        """Record the trials whose files changed; return how many of them had something new."""
        new = 0
        with os.scandir(self.sweep.states) as entries:
            stamps = {e.name: (e.stat().st_mtime_ns, e.stat().st_size) for e in entries if e.name.endswith(".json")}
        running = {name for name, child in self.children.items() if child.status == "RUNNING"}
        changed = [(stamp, name) for name, stamp in stamps.items() if self.seen.get(name) != stamp]
        for stamp, name in sorted(changed):
            fingerprint = name.removesuffix(".json")
            if (state := self.sweep.state(fingerprint)) is not None:
                new += self._record(state)
                self.seen[name] = stamp
                running.discard(fingerprint)
        for fingerprint in running:
            self.children[fingerprint].follow(self.sweep.trial(fingerprint).curves)
        return new

    def _record(self, state: Record) -> bool:
        fingerprint = state["fingerprint"]
        folder = self.sweep.trial(fingerprint).folder
        if fingerprint not in self.children:
            self.children[fingerprint] = Child(self.client, self._create(state))
        self.children[fingerprint].describe(folder)
        return self.children[fingerprint].record(state, folder, objective=self.about["objective"])

    def _create(self, state: Record) -> Any:
        return self.server.create(
            self.data,
            title(state["overrides"], self.about["space"])[:200] or f"{state['data']}-{state['model']}",
            start_time=int(state["first"] * 1000),
            tags=provenance("sweep", self.about["git"])
            | {
                "mlflow.parentRunId": self.parent.id,
                "sweep": self.sweep.name,
                "trial": state["fingerprint"],
                "data": state["data"],
                "model": state["model"],
                "overrides": " ".join(state["overrides"])[:5000],
            },
        )

    def close(self) -> None:
        """Record how the sweep ended, its best trial, its table and its figures."""
        about = self.sweep.read()
        if self.sweep.summary.is_file() and about["state"] != "running":
            summary = json.loads(self.sweep.summary.read_text(encoding="utf-8"))
            self.parent.tags(outcome(summary))
            self.parent.files([self.sweep.summary, self.sweep.folder / "summary.csv", self.sweep.about])
            self.parent.files(sorted((self.sweep.folder / "figures").glob("*.png")), "figures")
            self.parent.results([Point(key, value) for key, value in best_scores(summary).items()])
        self.client.set_terminated(self.parent.id, about["state"].upper())
        lost = [run.lost for run in (self.parent, *(child.run for child in self.children.values())) if run.lost]
        if lost:
            raise NoFilesError from lost[0]


class Child:
    """The run of one trial."""

    def __init__(self, client: Any, run: Any) -> None:
        self.client, self.run = client, MlflowRun(client, run, training=False)
        self.status = run.info.status
        self.offset = 0

    def describe(self, folder: Path) -> None:
        """Record the settings and the data of a trial, unless the run has them; the tags come last."""
        if "code_digest" in self.run.known.tags:
            return
        identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
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
            self.run.results(
                [Point(f"objective/{name}", value) for name, value in zip(objective, state["values"], strict=True)]
            )
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


def data_of(about: Record) -> str:
    """Return the data set in whose experiment a sweep lies: the first one."""
    return str(next(iter(about["data"])))


def description(about: Record) -> dict[str, str]:
    """Return what a sweep was asked for, as tags."""
    return provenance("sweep", about["git"]) | {
        "sweep": about["name"],
        "sweep_id": about["id"],
        "command": about["command"],
        "sampler": json.dumps(about["sweeper"]),
        "objective": ", ".join(about["objective"]),
        "data": ", ".join(about["data"]),
        "data_digest": ", ".join(about["data"].values()),
        **{f"space.{key}": value for key, value in about["space"].items()},
    }


def outcome(summary: Record) -> dict[str, str]:
    """Return the results of a sweep, as tags."""
    tags = {f"trials.{kind}": str(count) for kind, count in summary["counts"].items()}
    for data, found in summary.get("verdict", {}).items():
        tags[f"best.{data}"] = found["best"]
        tags[f"best_trials.{data}"] = " ".join(found["trials"])
        tags[f"winner.{data}"] = "none: within error" if found["winner"] is None else found["winner"]
    if "pareto_front" in summary:
        tags["pareto_front"] = "; ".join(row["title"] for row in summary["pareto_front"])
    return tags


def best_scores(summary: Record) -> dict[str, float]:
    """Return the best mean of each objective, per data set."""
    best: dict[str, float] = {}
    for row in summary["configurations"]:
        for name, score in row["scores"].items():
            key = f"best/{row['data']}/{name}"
            if key not in best or OBJECTIVES[name].better(score["mean"], best[key]):
                best[key] = score["mean"]
    return best


def tag_promoted(server: MlflowRuns, about: Record, fingerprint: str, place: str) -> None:
    """Tag the run of a trial, and that of its sweep, with the file that has its values now."""
    parent = server.find(data_of(about), "sweep_id", about["id"])
    if parent is None:
        raise RuntimeError("it has no run of the sweep: record it with `lookalike record`")
    query = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.trial = '{fingerprint}'"
    server.client.set_tag(parent.info.run_id, "promoted", f"{fingerprint} in {place}")
    for run in server.client.search_runs([server.experiment_of(data_of(about))], query):
        server.client.set_tag(run.info.run_id, "promoted", place)
