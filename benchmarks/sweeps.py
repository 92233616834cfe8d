"""Measure the overhead of sweeps: `python benchmarks/sweeps.py [--trials 40] [--recorded 1000] [MEASUREMENT …]`.

It works in a copy of this checkout, on prepared heights at the smallest budget. Each line shows a measurement and its
target. The measurements are: overhead, continuing, joblib, at_once, recorded.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

PIPELINE = "data: [heights]\nmodels: [vae]\nfloors: []\nseeds: [0]\nbudget: smoke\ntrainer: cpu\n"


class Bench:
    """A copy of the checkout with prepared heights."""

    def __init__(self, home: Path) -> None:
        self.home = home
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for name in listed.split("\0"):
            if (ROOT / name).is_file() and not name.startswith(("artifacts/", "results/")) and name != "dvc.lock":
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, home / name)
        (home / "conf" / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(home / "src"),
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "true",
        }
        for command in (["git", "init", "-q"], ["dvc", "pull", "-q", "data.dvc"], ["dvc", "repro", "features@heights"]):
            self.run(*command)

    def run(self, *command: str) -> float:
        """Run a command and return its seconds."""
        start = time.monotonic()
        done = subprocess.run(command, cwd=self.home, env=self.env, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            sys.exit(f"{command}: {done.stdout}{done.stderr}")
        return time.monotonic() - start

    def sweep(self, name: str, *overrides: str) -> float:
        """Run a sweep with a store of its own and return its seconds."""
        store = f"tracking.uri=sqlite:///{self.home}/{name}.db"
        fixed = ["-m", "data=heights", "budget=smoke", store, f"sweep.name={name}"]
        return self.run(sys.executable, "-m", "lookalike", "sweep", *fixed, *overrides)

    def states(self, name: str) -> list[dict[str, Any]]:
        """Return the states of a sweep's trials in the order in which they ended."""
        paths = (self.home / "multirun" / name / "trials").glob("*.json")
        return sorted(
            (json.loads(path.read_text(encoding="utf-8")) for path in paths), key=lambda state: float(state["ended"])
        )

    def work(self, fingerprint: str) -> float:
        """Return the seconds that a trial spent on training, sampling and scoring."""
        folder = self.home / "multirun" / "trials" / fingerprint
        costs = (
            json.loads((folder / s / "cost.json").read_text(encoding="utf-8")) for s in ("train", "sample", "evaluate")
        )
        return sum(float(cost["work_seconds"]) for cost in costs)

    def runs(self, name: str) -> list[str]:
        """Return the trials that have a run in a store."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.home}/{name}.db")
        experiment = client.get_experiment_by_name("lookalike/heights/sweeps")
        assert experiment is not None
        found, token = [], None
        while True:
            page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
            found += [run.data.tags["trial"] for run in page if "trial" in run.data.tags]
            if not (token := page.token):
                return found


def report(what: str, found: str, wanted: str, *, holds: bool) -> None:
    print(f"{what:<66} {found:>18}   {wanted:<16} {'holds' if holds else 'MISSED'}", flush=True)


def overhead(bench: Bench, trials: int, _: int) -> None:
    """Measure the time from the end of one trial to the end of the next, minus the work of the next."""
    bench.sweep("overhead", "model=vae", f"seed=range({trials})")
    states = bench.states("overhead")
    beside = [
        after["ended"] - before["ended"] - bench.work(after["fingerprint"])
        for before, after in itertools.pairwise(states)
    ]
    found = statistics.fmean(beside)
    report(f"overhead of a trial, mean of {len(beside)}", f"{found:.2f} s", "≤ 0.5 s", holds=found <= 0.5)


def continuing(bench: Bench, *_: int) -> None:
    """Measure how long a finished sweep of 200 trials of the cheapest model takes to run again."""
    command = ("continuing", "model=uniform", "seed=range(200)")
    bench.sweep(*command)
    found = bench.sweep(*command)
    report("continuing a finished sweep of 200 trials", f"{found:.1f} s", "≤ 20 s", holds=found <= 20)


def joblib(bench: Bench, trials: int, _: int) -> None:
    """Compare trials per minute of two workers and of one.

    The start of the processes is included, so it takes many trials to measure the workers and not their start.
    """
    trials, seconds = 6 * trials, {}
    for jobs in (1, 2):
        first = 1000 * jobs
        launcher = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}")
        seeds = f"seed=range({first},{first + trials})"
        seconds[jobs] = bench.sweep(f"joblib{jobs}", "model=vae", seeds, "budget.scale=0.05", *launcher)
    found = seconds[1] / seconds[2]
    report(f"2 joblib workers compared with one, {trials} trials", f"{found:.2f} ×", "≥ 1.6 ×", holds=found >= 1.6)


def at_once(bench: Bench, *_: int) -> None:
    """Count lost and repeated runs of 16 trials in 16 processes on a store that does not exist yet."""
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=16")
    bench.sweep("at_once", "model=uniform", "seed=range(5000,5016)", *launcher)
    runs = bench.runs("at_once")
    lost, twice = 16 - len(set(runs)), len(runs) - len(set(runs))
    report(
        "16 trials at once on a fresh SQLite store",
        f"{lost} lost, {twice} twice",
        "0 and 0",
        holds=not lost and not twice,
    )


def recorded(bench: Bench, _: int, count: int) -> None:
    """Compare the seconds of the last hundred of many recorded trials with those of the first hundred."""
    bench.sweep("recorded", "model=uniform", f"seed=range(10000,{10000 + count})")
    ends = [state["ended"] for state in bench.states("recorded")]
    part = min(100, count // 4)
    # The very first trial includes imports, so the count starts at its end.
    first, last = ends[part] - ends[0], ends[-1] - ends[-1 - part]
    runs = len(set(bench.runs("recorded")))
    assert runs == count, f"{runs} of {count} trials are recorded"
    report(
        f"{count} trials in a store: last {part} compared with first",
        f"{last / first:.2f} ×",
        "≤ 1.3 ×",
        holds=last <= 1.3 * first,
    )


MEASUREMENTS = {m.__name__: m for m in (overhead, continuing, joblib, at_once, recorded)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--recorded", type=int, default=1000)
    parser.add_argument("measurements", nargs="*", default=list(MEASUREMENTS), metavar="MEASUREMENT")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lookalike-sweeps-") as folder:
        bench = Bench(Path(folder))
        for name in arguments.measurements:
            MEASUREMENTS[name](bench, arguments.trials, arguments.recorded)


if __name__ == "__main__":
    main()
