"""Measure how fast MLflow answers with thousands of runs: `python benchmarks/many_runs.py sqlite:///mlflow.db`.

It copies the metrics, parameters and tags of one real run into a new store many times, with scores that differ, serves
this store as `make ui` does, and times what the pages ask for: the list, a chart, the comparison.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from lookalike.tracking.mlflow_server import MlflowRuns

LIMIT_SECONDS = 3.0


def fill(uri: str, template: Any, count: int) -> list[str]:
    """Create runs with the content of a real one in the experiment of its data set; return their ids."""
    from mlflow.entities import Metric, Param, RunTag

    server, data = MlflowRuns(uri=uri, experiment="lookalike"), template.data.tags["data"]
    params = [Param(key, value) for key, value in template.data.params.items()]
    kept = {key: value for key, value in template.data.tags.items() if not key.startswith("mlflow.")}
    ids = []
    for number in range(count):
        run = server.create(data, f"{template.data.tags['model']} {number}").info.run_id
        metrics = [Metric(key, value * random.uniform(0.8, 1.2), 0, 0) for key, value in template.data.metrics.items()]
        tags = [RunTag(key, value) for key, value in (kept | {"fingerprint": f"{number:016x}"}).items()]
        server.client.log_batch(run, metrics=metrics, params=params, tags=tags)
        server.client.set_terminated(run, "FINISHED")
        ids.append(run)
    return ids


def asked(address: str, path: str, body: dict[str, Any]) -> Any:
    """Return the answer to a request of a page."""
    request = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def timed(what: str, action: Any) -> None:
    """Print the shortest of three times of an action."""
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        action()
        seconds.append(time.monotonic() - start)
    best = min(seconds)
    print(f"{what:<50} {best:6.2f} s   {'holds' if best <= LIMIT_SECONDS else 'MISSED'}", flush=True)


def compare(address: str, runs: list[str]) -> None:
    """Ask for every run, as the page that compares runs does."""
    for run in runs:
        with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/runs/get?run_id={run}", timeout=120) as answer:
            answer.read()


def measure(address: str, experiment: str, runs: list[str], order: str) -> None:
    """Time what the pages ask for."""
    listed = {"experiment_ids": [experiment], "order_by": [f"metrics.`{order}` ASC"], "max_results": 100}
    timed("list of runs, sorted by a score, first 100", lambda: asked(address, "runs/search", listed))
    timed("list of runs, all pages", lambda: asked(address, "runs/search", listed | {"max_results": len(runs)}))
    one = "metrics/get-history-bulk-interval?metric_key=train%2Floss&max_results=320"
    shown = "".join(f"&run_ids={run}" for run in runs[:20])

    def chart() -> None:
        with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/{one}{shown}", timeout=120) as answer:
            answer.read()

    timed("one loss chart of 20 runs", chart)
    timed("comparison of six runs", lambda: compare(address, runs[:6]))


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
                measure(
                    address,
                    MlflowRuns(uri=uri, experiment="lookalike").experiments[template.data.tags["data"]],
                    runs,
                    order,
                )
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
