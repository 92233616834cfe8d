"""A sweep in MLflow: a parent run, and below it a run for every trial, made of the sweep's files alone."""

import json
import os
from pathlib import Path
from typing import Any

from lookalike.sweeps.places import Record, Sweep, title
from lookalike.tracking.content import STAGES, Point, flat, read
from lookalike.tracking.mlflow_run import MlflowRun, batches, clean
from lookalike.tracking.mlflow_server import MlflowRuns, dataset, user

STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED", "pruned": "KILLED"}
"""What MLflow calls the state of a trial; it knows no pruned runs, so a tag says that."""


class MlflowSweep:
    """The runs of one sweep; the only writer of them."""

    def __init__(self, server: MlflowRuns, sweep: Sweep) -> None:
        self.server, self.client, self.sweep = server, server.client, sweep
        self.about = sweep.read()
        self.parent = self._parent()
        self.children = self._children()
        self.seen: dict[str, tuple[int, int]] = {}
        self.best: list[float] = []

    def _parent(self) -> str:
        tags = description(self.about)
        run = self.server.find("sweep_id", self.about["id"])
        if run is None:
            run = self.server.create(self.sweep.name, tags=tags)
        MlflowRun(self.client, run, training=False).tags(tags)
        self.client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)

    def _children(self) -> dict[str, Any]:
        """The runs of trials that are there, by fingerprint."""
        found: dict[str, Any] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.server.experiment],
                f"tags.mlflow.parentRunId = '{self.parent}'",
                max_results=1000,
                page_token=token,
            )
            found |= {run.data.tags["trial"]: Child(self.client, run) for run in page if "trial" in run.data.tags}
            if not (token := page.token):
                return found

    def update(self) -> int:
        """Show trials whose files changed; how many of them had something new to tell."""
        new = 0
        with os.scandir(self.sweep.states) as entries:
            changed = [
                (entry.name, (stat.st_mtime_ns, stat.st_size))
                for entry in entries
                if entry.name.endswith(".json")
                and self.seen.get(entry.name) != ((stat := entry.stat()).st_mtime_ns, stat.st_size)
            ]
        running = {name for name, child in self.children.items() if child.status == "RUNNING"}
        for name, stamp in sorted(changed, key=lambda item: item[1]):
            fingerprint = name.removesuffix(".json")
            if (state := self.sweep.state(fingerprint)) is not None:
                new += self._show(state)
                self.seen[name] = stamp
                running.discard(fingerprint)
        for fingerprint in running:
            self.children[fingerprint].follow(self.sweep.trial(fingerprint).curves)
        return new

    def _show(self, state: Record) -> bool:
        fingerprint = state["fingerprint"]
        folder = self.sweep.trial(fingerprint).folder
        if fingerprint not in self.children:
            self.children[fingerprint] = Child(self.client, self._create(state))
        child: Child = self.children[fingerprint]
        child.describe(folder)
        return child.show(state, folder, objective=self.about["objective"])

    def _create(self, state: Record) -> Any:
        git = self.about["git"]
        return self.server.create(
            title(state["overrides"], self.about["space"])[:200] or f"{state['data']}-{state['model']}",
            start_time=int(state["first"] * 1000),
            tags={
                "mlflow.parentRunId": self.parent,
                "mlflow.user": user(),
                "mlflow.source.name": "pipelines/sweep.py",
                "mlflow.source.type": "LOCAL",
                "mlflow.source.git.commit": git["commit"],
                "git_commit": git["commit"],
                "git_dirty": git["dirty"],
                "sweep": self.sweep.name,
                "trial": state["fingerprint"],
                "data": state["data"],
                "model": state["model"],
                "overrides": " ".join(state["overrides"])[:5000],
            },
        )

    def close(self) -> None:
        """Show how the sweep ended, its best trial, its table and figures."""
        about = self.sweep.read()
        if self.sweep.summary.is_file() and about["state"] != "running":
            summary = json.loads(self.sweep.summary.read_text())
            run = MlflowRun(self.client, self.client.get_run(self.parent), training=False)
            run.tags(outcome(summary))
            run.files([self.sweep.summary, self.sweep.folder / "summary.csv", self.sweep.about])
            run.files(sorted((self.sweep.folder / "figures").glob("*.png")), "figures")
            best = best_scores(summary)
            now = [Point(key, value) for key, value in best.items() if run.known.metrics.get(key) != value]
            log(self.client, self.parent, now, {})
        self.client.set_terminated(self.parent, {"running": "RUNNING"}.get(about["state"], about["state"].upper()))


class Child:
    """The run of one trial, and what it already holds: nothing is told twice, wherever it was cut."""

    def __init__(self, client: Any, run: Any) -> None:
        self.client, self.id, self.run = client, run.info.run_id, run
        self.tags, self.values = dict(run.data.tags), dict(run.data.metrics)
        self.status = run.info.status
        self.offset = 0
        self.told: set[tuple[str, int]] | None = set() if not self.values else None

    def describe(self, folder: Path) -> None:
        """Settings and data of a trial, of a run that has not all of them. The tags come last."""
        if "code_digest" in self.tags:
            return
        identity = json.loads((folder / "identity.json").read_text())
        filled = MlflowRun(self.client, self.run, training=False)
        filled.parameters(flat(identity["configuration"]))
        self.client.log_inputs(self.id, [dataset(identity)])
        filled.tags({"data_digest": identity["data_digest"], "code_digest": identity["code_digest"]})
        self.tags = dict(filled.known.tags)

    def show(self, state: Record, folder: Path, *, objective: list[str]) -> bool:
        """Bring the run up to a trial's state; whether it was behind."""
        marker = f"{state['state']} {state['ended']} {objective}"
        if self.tags.get("recorded") == marker:
            return False
        points: list[Point] = []
        tags = {"trial_state": state["state"], "error": state["error"] or ""}
        if state["state"] == "finished":
            # At their own times where training told them live; the files have the same values.
            contents = [read(stage, folder / stage) for stage in STAGES]
            points = self._new([point for content in contents for point in content.curves])
            results = [point for content in contents for point in content.results]
            results += [Point(f"objective/{name}", v) for name, v in zip(objective, state["values"], strict=True)]
            points += [point for point in results if self.values.get(clean(point.key)) != point.value]
            tags |= {key: value for content in contents for key, value in content.tags.items()}
            tags["training_fingerprint"] = json.loads((folder / "train" / "model.json").read_text())["fingerprint"]
            for file in (folder / "sample" / "samples.png", folder / "evaluate" / "metrics.json"):
                self.client.log_artifact(self.id, str(file))
        self.follow(folder / "curves.jsonl")
        if (folder / "error.txt").is_file() and state["state"] == "failed":
            self.client.log_artifact(self.id, str(folder / "error.txt"))
        status = STATUS[state["state"]]
        log(self.client, self.id, points, tags)
        self.values |= {clean(point.key): point.value for point in points}
        if status == "RUNNING":
            self.client.update_run(self.id, status=status)
        else:
            self.client.set_terminated(self.id, status, int(state["ended"] * 1000) if state["ended"] else None)
        self.status = status
        log(self.client, self.id, [], {"recorded": marker})
        self.tags["recorded"] = marker
        return True

    def follow(self, curves: Path) -> None:
        """Show the losses that were written since the last time."""
        if not curves.is_file():
            return
        with curves.open("rb") as file:
            file.seek(self.offset)
            lines = file.read().splitlines(keepends=True)
        points = []
        for line in lines:
            if not line.endswith(b"\n"):
                break  # it is being written
            self.offset += len(line)
            try:
                row = json.loads(line)
            except ValueError:
                continue  # cut when its process was killed
            points += [
                Point(key, float(f"{value:.6g}"), row["step"], row["milliseconds"])
                for key, value in row["values"].items()
            ]
        log(self.client, self.id, self._new(points), {})

    def _new(self, points: list[Point]) -> list[Point]:
        """Losses that the run does not hold."""
        if self.told is None:
            keys = [key for key in self.values if key.startswith(("train/", "validation/"))]
            self.told = {(key, old.step) for key in keys for old in self.client.get_metric_history(self.id, key)}
        new = [point for point in points if (point.key, point.step) not in self.told]
        self.told |= {(point.key, point.step) for point in new}
        return new


def log(client: Any, run_id: str, points: list[Point], tags: dict[str, str]) -> None:
    """Metrics and tags, in as few requests as there can be."""
    import time

    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    metrics = [Metric(clean(key), value, when or now, step) for key, value, step, when in points if value == value]
    held = [RunTag(clean(key), value[:8000]) for key, value in tags.items()]
    for batch in batches(held, 100):
        client.log_batch(run_id, tags=batch)
    for part in batches(metrics, 1000):
        client.log_batch(run_id, metrics=part)


def description(about: Record) -> dict[str, str]:
    """What a sweep was asked for, as tags."""
    return {
        "mlflow.user": user(),
        "mlflow.source.name": "pipelines/sweep.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": about["git"]["commit"],
        "git_commit": about["git"]["commit"],
        "git_dirty": about["git"]["dirty"],
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
    """What came out, as tags."""
    tags = {f"trials.{kind}": str(count) for kind, count in summary["counts"].items()}
    for data, found in summary.get("verdict", {}).items():
        tags[f"best.{data}"] = found["best"]
        tags[f"best_trials.{data}"] = " ".join(found["trials"])
        tags[f"winner.{data}"] = "none: within error" if found["winner"] is None else found["winner"]
    if "pareto_front" in summary:
        tags["pareto_front"] = "; ".join(row["title"] for row in summary["pareto_front"])
    return tags


def best_scores(summary: Record) -> dict[str, float]:
    """The best mean of each objective, by data set."""
    from lookalike.sweeps.objectives import OBJECTIVES

    best: dict[str, float] = {}
    for row in summary["configurations"]:
        for name, score in row["scores"].items():
            key = f"best/{row['data']}/{name}"
            if key not in best or OBJECTIVES[name].better(score["mean"], best[key]):
                best[key] = score["mean"]
    return best


def tag_promoted(about: Record, fingerprint: str, place: str) -> None:
    """Say in a trial's run, and in that of its sweep, that its values stand in a file now."""
    tracking = about["tracking"]
    server = MlflowRuns(uri=tracking["uri"], experiment=tracking["experiment"])
    parent = server.find("sweep_id", about["id"])
    if parent is None:
        raise RuntimeError("it has no run of the sweep: record it with `python pipelines/record.py`")
    child = server.client.search_runs(
        [server.experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.trial = '{fingerprint}'"
    )
    server.client.set_tag(parent.info.run_id, "promoted", f"{fingerprint} in {place}")
    for run in child:
        server.client.set_tag(run.info.run_id, "promoted", place)
