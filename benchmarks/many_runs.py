"""Measure how fast MLflow answers with thousands of runs: `python benchmarks/many_runs.py sqlite:///mlflow.db`.

It copies the metrics, parameters and tags of one real run into a new store many times, with scores that differ, serves
this store as `make ui` does, and times what the pages ask for: the list, a chart, the comparison.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from lookalike.tracking.mlflow_server import MlflowRuns

LIMIT_SECONDS = 3.0


TABLES = ("runs", "latest_metrics", "metrics", "params", "tags")
"""MLflow's tables of runs."""


def fill(uri: str, template: Any, count: int) -> list[str]:
    """Create one run with the content of a real one, and copies of it with other scores; return the ids."""
    from mlflow.entities import Metric, Param, RunTag

    server, data = MlflowRuns(uri=uri, experiment="lookalike"), template.data.tags["data"]
    params = [Param(key, value) for key, value in template.data.params.items()]
    tags = [RunTag(key, value) for key, value in template.data.tags.items() if not key.startswith("mlflow.")]
    metrics = [Metric(key, value, 0, 0) for key, value in template.data.metrics.items()]
    first = str(server.create(data, template.data.tags["model"]).info.run_id)
    server.client.log_batch(first, metrics=metrics, params=params, tags=tags)
    server.client.set_terminated(first, "FINISHED")
    copies = [f"{number:032x}" for number in range(1, count)]
    # One by one, through the client, it would take many minutes.
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("create temp table copies (id text)")
        database.executemany("insert into copies values (?)", [(copy,) for copy in copies])
        values = {"run_uuid": "copies.id", "value": "value * (0.8 + abs(random() % 1000) / 2500.0)"}
        for table in TABLES:
            columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
            changed = values if "metrics" in table else {"run_uuid": values["run_uuid"]}
            chosen = ", ".join(changed.get(column, f"{table}.{column}") for column in columns)
            database.execute(
                f"insert into {table} ({', '.join(columns)}) select {chosen} from {table}, copies where run_uuid = ?",
                (first,),
            )
    return [first, *copies]


def asked(address: str, path: str, body: dict[str, Any]) -> Any:
    """Return the answer to a request of a page."""
    request = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def timed(what: str, action: Any, server: psutil.Process) -> None:
    """Print the shortest of three times of an action, and the processor time of the server in it."""
    seconds, used = [], []
    for _ in range(3):
        start, before = time.monotonic(), sum(server.cpu_times()[:2])
        action()
        seconds.append(time.monotonic() - start)
        used.append(sum(server.cpu_times()[:2]) - before)
    best, verdict = min(seconds), "holds" if min(seconds) <= LIMIT_SECONDS else "MISSED"
    print(f"{what:<45} {best:6.2f} s, processor {min(used):5.2f} s   {verdict}", flush=True)


def compare(address: str, runs: list[str]) -> None:
    """Ask for every run, as the page that compares runs does."""
    for run in runs:
        with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/runs/get?run_id={run}", timeout=120) as answer:
            answer.read()


def measure(address: str, experiment: str, runs: list[str], order: str, server: psutil.Process) -> None:
    """Time what the pages ask for."""
    listed = {"experiment_ids": [experiment], "order_by": [f"metrics.`{order}` ASC"], "max_results": 100}
    timed("list of runs, sorted by a score, first 100", lambda: asked(address, "runs/search", listed), server)
    one = "metrics/get-history-bulk-interval?metric_key=train%2Floss&max_results=320"
    shown = "".join(f"&run_ids={run}" for run in runs[:20])

    def chart() -> None:
        with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/{one}{shown}", timeout=120) as answer:
            answer.read()

    timed("one loss chart of 20 runs", chart, server)
    timed("comparison of six runs", lambda: compare(address, runs[:6]), server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", help="URI of a store with at least one scored run, such as sqlite:///mlflow.db")
    parser.add_argument("--experiment", default="lookalike/heights")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--port", default="5077")
    chosen = parser.parse_args()
    from mlflow import MlflowClient

    source = MlflowClient(chosen.store)
    found = source.get_experiment_by_name(chosen.experiment)
    if found is None:
        sys.exit(f"error: {chosen.store} has no experiment {chosen.experiment}")
    order = found.tags["mlflow.experiment.primaryMetric.name"]
    (template,) = source.search_runs([found.experiment_id], f"metrics.`{order}` > 0", max_results=1)
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        start = time.monotonic()
        runs = fill(uri, template, chosen.runs)
        print(f"{len(runs)} runs made in {time.monotonic() - start:.0f} s", flush=True)
        env = os.environ | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_PORT": chosen.port}
        address, log = f"http://127.0.0.1:{chosen.port}", Path(folder) / "ui.log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, "-m", "lookalike", "ui"], env=env, stdout=output, stderr=output
            ) as process,
        ):
            try:
                while "answers" not in log.read_text(encoding="utf-8"):
                    if process.poll() is not None:
                        sys.exit(log.read_text(encoding="utf-8"))
                    time.sleep(0.2)
                pages = MlflowRuns(uri=uri, experiment="lookalike")
                data = pages.experiment_of(template.data.tags["data"])
                measure(address, data, runs, order, psutil.Process(process.pid))
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
