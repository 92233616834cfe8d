"""Tests of the command `lookalike sweep` on prepared heights with MLflow on SQLite: grids, searches, interruptions."""

import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.sweeps.places import read
from lookalike.workspace.configuration import ROOT, choices

pytest_plugins = ["pipeline_fixtures"]

COMMON = ("-m", "data=heights", "budget=smoke")

Done = subprocess.CompletedProcess[str]


def store(name: str, home: Path) -> list[str]:
    """Return overrides for a tracking store of its own and a name of the sweep."""
    return [f"tracking.uri=sqlite:///{home}/.trace/{name}.db", f"sweep.name={name}"]


@pytest.fixture
def own_store(
    home: Path, environment: Callable[[Path], dict[str, str]], empty_store: Callable[[Path], str]
) -> Callable[[str], dict[str, str]]:
    """`own_store(name)`: environment variables that send the runs of a sweep to a store of its own."""
    return lambda name: environment(home) | {"MLFLOW_TRACKING_URI": empty_store(home / ".trace" / f"{name}.db")}


def client_of(home: Path, name: str) -> Any:
    """Return a client of a store."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{home}/.trace/{name}.db")


def tree(home: Path, name: str, *, store: str | None = None) -> tuple[Any, list[Any]]:
    """Return the parent run of a sweep and its children; a store of its own has no other runs."""
    client = client_of(home, store or name)
    experiment = client.get_experiment_by_name("lookalike/heights/sweeps")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    runs = [run for run in runs if store is None or run.data.tags["sweep"] == name]
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run is not parents[0]]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parents[0].info.run_id}
    trials = [run.data.tags["trial"] for run in children]
    assert len(trials) == len(set(trials)), "a trial has two runs"
    return parents[0], children


def summary(home: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "multirun" / name / "summary.json").read_text())
    return found


def files(home: Path) -> dict[str, int]:
    """Return when each file of a checkout was written, without those of sweeps, stores and the Python compiler."""
    kept = (path for path in home.rglob("*") if path.is_file() and path.suffix != ".pyc")
    others = ("multirun", ".trace", ".git")
    return {str(p): p.stat().st_mtime_ns for p in kept if p.relative_to(home).parts[0] not in others}


def records(home: Path) -> dict[str, int]:
    """Return when the record of each trial was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (home / "multirun" / "trials").glob("*/record.json")}


def test_a_grid_is_a_tree_of_runs_and_the_same_command_again_runs_nothing(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    grid = ["model=vae,mixture", "seed=0,1", "sweep.name=grid"]
    there = files(home)
    offline = home / ".trace" / "wandb-grid"
    done = sweep(*grid, "tracking=both", env=own_store("grid") | {"WANDB_DIR": str(offline)})
    assert files(home) == there, "a sweep writes below multirun/ only"
    lines = [line for line in done.stdout.splitlines() if "heights" in line or re.match("[0-9a-f]{8} ", line)]
    assert len(lines) == 5, "a trial is one line of output, and so is the verdict"
    assert "tracking:" not in done.stderr
    found = summary(home, "grid")
    assert found["counts"] == {"finished": 4}
    assert [sorted(row["seeds"]) for row in found["configurations"]] == [[0, 1], [0, 1]]
    assert found["split"] == "validation"
    parent, children = tree(home, "grid")
    assert (parent.info.status, {child.info.status for child in children}) == ("FINISHED", {"FINISHED"})
    assert len(children) == 4
    for child in children:
        folder = home / "multirun" / "trials" / child.data.tags["trial"]
        scores = json.loads((folder / "evaluate" / "metrics.json").read_text())
        assert scores["bits_per_dim"]["split"] == "validation"
        assert not [name for name, entry in scores.items() if "test" in (entry.get("split"), entry.get("reference"))]
        assert child.data.metrics["bits_per_dim"] == pytest.approx(scores["bits_per_dim"]["value"])
        assert child.data.params["seed"] == child.info.run_name[-1]
        assert child.data.params["model"] == child.data.tags["family"] == child.data.tags["model"]
    check_parent(client_of(home, "grid"), parent, found)
    check_group(offline, found)
    assert "lookalike sweep -m data=heights" in parent.data.tags["command"]
    figures = {path.name for path in (home / "multirun" / "grid" / "figures").iterdir()}
    assert {"parallel_coordinates.png", "optimization_history.png", "importance.png"} <= figures
    assert {item.path for item in client_of(home, "grid").list_artifacts(parent.info.run_id, "figures")} == {
        f"figures/{name}" for name in figures
    }
    digest = json.loads((home / "artifacts/heights/prepared/summary.json").read_text())["digest"]
    assert parent.data.tags["data_digest"] == digest
    assert json.loads(parent.data.tags["sampler"])["name"] == "grid"

    before = records(home)
    again = sweep(*grid, "hydra/launcher=joblib", env=own_store("grid"))
    assert records(home) == before
    assert "Launching" not in again.stdout + again.stderr
    assert summary(home, "grid")["configurations"] == found["configurations"]
    assert len(tree(home, "grid")[1]) == 4
    after = tree(home, "grid")[0].data
    assert (after.params, after.metrics) == (parent.data.params, parent.data.metrics)
    # Another sweep with one more seed runs only that seed.
    sweep("model=mixture", "seed=0,1,2", "sweep.name=other", "tracking=none")
    assert len(records(home).keys() - before.keys()) == 1
    # Hydra's own sweeper does the same.
    sweep("model=mixture", "seed=1,2,3", "sweep.name=basic", "tracking=none", "hydra/sweeper=basic")
    assert len(records(home).keys() - before.keys()) == 2
    assert summary(home, "basic")["counts"] == {"finished": 3}


def check_parent(client: Any, parent: Any, found: dict[str, Any]) -> None:
    """Check what the run of the grid shows: what was searched, the best trial, a description, a view of the trials."""
    best = found["configurations"][0]
    held, first = parent.data, best["trials"][0]
    asked = {
        "data": "heights", "family": "mixture, vae", "objective": "bits_per_dim", "split": "validation",
        "sampler": "grid", "space.model": "vae,mixture", "space.seed": "0,1", "fixed.budget": "smoke",
    }  # fmt: skip
    assert held.params == asked
    assert (held.tags["data"], held.tags["family"], held.tags["trials.finished"]) == ("heights", "mixture, vae", "4")
    assert (held.tags["best"], held.tags["best.model"]) == (best["title"], best["model"])
    assert held.tags["best_trial"] == first
    score = best["scores"]["bits_per_dim"]
    assert held.metrics == {"bits_per_dim": score["mean"], "bits_per_dim_error": score["error"]}
    (entry,) = parent.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("heights", held.tags["data_digest"][:8])

    note, experiment = held.tags["mlflow.note.content"], client.get_experiment(parent.info.experiment_id)
    promotion = "" if found["verdict"]["heights"]["winner"] else f" trial={first[:8]}"
    assert f"lookalike promote grid{promotion}\n" in note
    assert held.tags["command"] in note
    assert f"get-artifact?path=samples.png&run_uuid={parent.info.run_id}" in note
    assert "samples.png" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    for row in found["configurations"]:
        mean, half = (row["scores"]["bits_per_dim"][key] for key in ("mean", "half_width"))
        assert f"| {row['model']} | 2 | {mean:.5g} ± {half:.2g} |" in note
    runs = {run.data.tags["trial"]: run for run in client.search_runs([experiment.experiment_id], "tags.trial != ''")}
    assert f"[{first[:8]}](#/experiments/{experiment.experiment_id}/runs/{runs[first].info.run_id}" in note
    assert held.tags["best_trial_number"] == runs[first].data.tags["trial_number"]
    assert sorted(run.data.tags["trial_number"] for run in runs.values()) == ["1", "2", "3", "4"]

    view = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.sweep-grid"])["state"])
    assert "viewStateShareKey=sweep-grid" in note
    assert "viewStateShareKey=sweep-grid" in experiment.tags["mlflow.note.content"]
    assert view["searchFilter"] == f'tags.mlflow.parentRunId = "{parent.info.run_id}"'
    (lines,) = [chart for chart in view["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert (lines["selectedParams"], lines["selectedMetrics"]) == (["model", "seed"], ["bits_per_dim"])
    for run in runs.values():
        assert run.data.params.keys() >= {"model", "seed"}
        assert "bits_per_dim" in run.data.metrics


def check_group(offline: Path, found: dict[str, Any]) -> None:
    """Check the runs in W&B: one per trial, and one with the best value and the table of all configurations."""
    ledger = json.loads((offline / "wandb" / "recorded.json").read_text())
    assert {entry["project"] for entry in ledger.values()} == {"lookalike-heights-sweeps"}
    assert len(list((offline / "wandb").glob("offline-run-*"))) == len(ledger) == 5
    trials = {name.removeprefix("grid-"): entry["summary"] for name, entry in ledger.items() if "evaluate" in entry}
    assert set(trials) == {trial for row in found["configurations"] for trial in row["trials"]}
    for row in found["configurations"]:
        held = sorted(trials[trial]["bits_per_dim"] for trial in row["trials"])
        assert held == pytest.approx(sorted(row["scores"]["bits_per_dim"]["values"]))
        assert {trials[trial]["sample_table"]["nrows"] for trial in row["trials"]} == {64}
    (parent,) = [entry["summary"] for entry in ledger.values() if "sweep" in entry]
    assert parent["bits_per_dim"] == pytest.approx(found["configurations"][0]["scores"]["bits_per_dim"]["mean"])
    assert (parent["configurations"]["nrows"], parent["final_samples"]["_type"]) == (2, "image-file")
    assert parent["parallel_coordinates"]["_type"] == "image-file"


def test_a_failed_trial_is_named_and_does_not_end_the_sweep(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    # A loss that is NaN, and a network that needs more memory than the process may have.
    grid = [
        "model=vae",
        "optimizer.lr=1e30,1e-3",
        "model.sizes.table.hidden=[64,64],[64,1000000]",
        "sweep.name=fails",
        "trainer.checks=1",
    ]
    done = sweep(*grid, env=own_store("fails"), code=1, preexec_fn=limit_memory)
    assert "trials: 3 failed, 1 finished" in done.stdout
    assert "the loss is nan" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    # The same command repeats failed trials only.
    before, tried = records(home), {path: path.stat().st_mtime_ns for path in errors(home)}
    again = sweep(*grid, env=own_store("fails"), code=1, preexec_fn=limit_memory)
    assert "trials: 3 failed, 1 finished" in again.stdout
    assert records(home) == before
    assert len(tried) == 3
    assert all(path.stat().st_mtime_ns > tried[path] for path in errors(home))
    failures = summary(home, "fails")["failures"]
    assert len([one for one in failures if re.search("memory|alloc", one["error"])]) == 2
    parent, children = tree(home, "fails")
    assert parent.info.status == "FAILED"
    assert sorted(child.info.status for child in children) == ["FAILED"] * 3 + ["FINISHED"]


def errors(home: Path) -> list[Path]:
    """Return the error files of failed trials."""
    return sorted((home / "multirun" / "trials").glob("*/error.txt"))


def limit_memory() -> None:
    """Limit the memory of this process to 3 GB."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))


def trials(home: Path, name: str) -> list[Path]:
    """Return the states of the trials of a sweep that began."""
    return list((home / "multirun" / name / "trials").glob("*.json"))


def started(home: Path, name: str) -> int:
    """Return how many trials of a sweep began."""
    return len(trials(home, name))


def check_whole(home: Path, name: str, count: int, *, store: str | None = None) -> None:
    """Check that every trial of a sweep is finished and has one run."""
    assert summary(home, name)["counts"] == {"finished": count}
    parent, children = tree(home, name, store=store)
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ["FINISHED"] * count)
    best = min(child.data.metrics["bits_per_dim"] for child in children)
    assert parent.data.tags["best_trial"] in {child.data.tags["trial"] for child in children}
    assert parent.data.metrics["bits_per_dim"] >= best


def test_a_sweep_continues_after_a_kill_and_an_interruption(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    name, env = "killed", own_store("killed")
    overrides = ["model=vae,flow", "optimizer.lr=2e-3,1e-3", f"sweep.name={name}"]
    command = ["python", "-m", "lookalike", "sweep", *COMMON, *overrides]
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            command, cwd=home, env=env, start_new_session=True, stdout=subprocess.PIPE, text=True
        )
        before, deadline = records(home), time.monotonic() + 300
        while len(records(home)) == len(before) and time.monotonic() < deadline:
            time.sleep(0.1)
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
        process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    parent, children = tree(home, name)
    assert parent.info.status == "KILLED"
    assert {child.info.status for child in children} <= {"FINISHED", "KILLED"}
    before = records(home)
    assert started(home, name) < 4 or len(before) < 4
    sweep(*overrides, env=env)
    assert {key: value for key, value in records(home).items() if key in before} == before
    check_whole(home, name, 4)


def test_joblib_s_workers_share_a_sweep(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep("model=mixture,independent", "seed=11,12", "sweep.name=workers", *launcher, env=own_store("workers"))
    check_whole(home, "workers", 4)


def test_two_sweeps_at_once_share_a_store_and_the_trials_that_both_have(
    home: Path, own_store: Callable[[str], dict[str, str]]
) -> None:
    env = own_store("both")
    seeds = {"one": "51,52,53", "two": "53,52,54"}
    commands = {
        name: ["python", "-m", "lookalike", "sweep", *COMMON, "model=vae", f"seed={seed}", f"sweep.name={name}"]
        for name, seed in seeds.items()
    }
    sweeps = [
        subprocess.Popen(command, cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands.values()
    ]
    while sweeps[0].poll() is None and not started(home, "one"):
        time.sleep(0.1)
    same = subprocess.run(commands["one"], cwd=home, env=env, capture_output=True, text=True, check=False)
    said = [process.communicate(timeout=300)[0] for process in sweeps]
    assert [process.returncode for process in sweeps] == [0, 0], said
    owner = f" (pid {sweeps[0].pid})" if Path("/proc/locks").exists() else ""
    assert (same.returncode, f"the sweep one is running in another process{owner}" in same.stderr) == (1, True)
    states = {name: [read(path) for path in trials(home, name)] for name in seeds}
    for name in seeds:
        check_whole(home, name, 3, store="both")
        assert "tracking:" not in "".join(said)
    ended = [{state["fingerprint"]: state["ended"] for state in states[name]} for name in seeds]
    shared = ended[0].keys() & ended[1].keys()
    assert len(shared) == 2
    assert all(ended[0][trial] == ended[1][trial] for trial in shared), "a trial was run twice"


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(
    home: Path, sweep: Callable[..., Done], environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    # The first worker that comes to score a trial is killed, as by a system that is out of memory.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, threading, time\n"
        f"mark = {str(tmp_path / 'mark')!r}\n"
        "def watch():\n"
        "    while 'lookalike.evaluation' not in sys.modules: time.sleep(0.01)\n"
        "    try: os.close(os.open(mark, os.O_CREAT | os.O_EXCL))\n"
        "    except FileExistsError: return\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if any('loky' in part for part in sys.orig_argv): threading.Thread(target=watch, daemon=True).start()\n"
    )
    env = {**environment(home), "PYTHONPATH": f"{tmp_path}{os.pathsep}{home / 'src'}"}
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking=none"]
    done = sweep("model=mixture,uniform", "seed=21,22", "sweep.name=replaced", *launcher, env=env)
    assert (tmp_path / "mark").exists()
    assert "the launcher failed (TerminatedWorkerError" in done.stderr
    assert summary(home, "replaced")["counts"] == {"finished": 4}


@pytest.mark.slow
def test_a_trial_whose_worker_the_system_kills_for_its_memory_fails_alone(
    home: Path, sweep: Callable[..., Done], environment: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    # The kernel does this where a group of processes has a limit: a process that takes more is killed silently.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, threading, time\n"
        "def watch():\n"
        "    while True:\n"
        "        pages = int(open('/proc/self/statm').read().split()[1])\n"
        "        if pages * os.sysconf('SC_PAGESIZE') > 1.5e9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        time.sleep(0.02)\n"
        "if any('loky' in part for part in sys.orig_argv): threading.Thread(target=watch, daemon=True).start()\n"
    )
    env = {**environment(home), "PYTHONPATH": f"{tmp_path}{os.pathsep}{home / 'src'}"}
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracking=none"]
    grid = ["model=vae", "model.sizes.table.hidden=[64,4000000],[64,64],[32,32]", "seed=23,24", "sweep.name=memory"]
    done = sweep(*grid, *launcher, env=env, code=1)
    assert summary(home, "memory")["counts"] == {"failed": 2, "finished": 4}
    assert done.stdout.count("its process was killed 3 times, perhaps because it took too much memory") == 2


@pytest.mark.parametrize("launcher", [pytest.param("ray", marks=pytest.mark.slow), "submitit_local"])
def test_clusters_launch_a_sweep(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]], launcher: str
) -> None:
    pytest.importorskip(launcher.partition("_")[0])
    seeds = {"ray": "31,32", "submitit_local": "33,34"}[launcher]
    sweep(
        "model=mixture",
        f"seed={seeds}",
        f"sweep.name={launcher}",
        f"hydra/launcher={launcher}",
        env=own_store(launcher),
    )
    check_whole(home, launcher, 2)


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_shares_a_sweep(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    env = own_store("nodes") | {"RAY_TMPDIR": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    node = ["ray", "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
    head = ["--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false"]
    nodes = []
    try:
        for more in (head, [f"--address={address}"]):
            nodes.append(subprocess.Popen([*node, *more], cwd=home, env=env, stdout=subprocess.DEVNULL))
            time.sleep(8)
        there = ["hydra/launcher=ray", f"hydra.launcher.address={address}"]
        sweep("model=vae", "seed=35,36,37,38", "sweep.name=nodes", *there, env=env)
    finally:
        for process in reversed(nodes):
            process.terminate()
            process.wait(60)
    check_whole(home, "nodes", 4)
    # A node has one CPU and runs one trial at a time; some trials ran at the same time, so there were two nodes.
    spans = sorted((state["started"], state["ended"]) for state in map(read, trials(home, "nodes")))
    assert any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def test_a_search_continues_with_its_study(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    search = ["hydra/sweeper=optuna", "+search=vae", "hydra.sweeper.startup=2", "sweep.name=search"]
    sweep(*search, "hydra.sweeper.n_trials=2", env=own_store("search"))
    before = records(home)
    sweep(*search, "hydra.sweeper.n_trials=4", env=own_store("search"))
    assert len(records(home).keys() - before.keys()) == 2
    assert {key: value for key, value in records(home).items() if key in before} == before
    found = summary(home, "search")
    assert found["counts"] == {"finished": 4}
    parent, children = tree(home, "search")
    assert len(children) == 4
    assert json.loads(parent.data.tags["sampler"])["name"] == "optuna"
    assert len({child.data.params["lr"] for child in children}) == 4
    assert all(float(c.data.params["lr"]) == float(c.data.params["optimizer.lr"]) for c in children)
    assert parent.data.tags["best.lr"] in {child.data.params["lr"] for child in children}


def test_a_hopeless_trial_is_pruned_and_counts(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    # The lowest of these learning rates learn nothing within the budget.
    search = [
        "hydra/sweeper=optuna", "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=9", "model=vae",
        "optimizer.lr=tag(log, interval(1e-8, 1e-2))", "sweep.prune=validation/loss", "sweep.name=hopeless",
        "budget.scale=0.01",
    ]  # fmt: skip
    done = sweep(*search, env=own_store("hopeless"))
    counts = summary(home, "hopeless")["counts"]
    assert counts.keys() == {"finished", "pruned"}
    assert sum(counts.values()) == 9
    assert "is worse than that of other trials" in done.stdout
    parent, children = tree(home, "hopeless")
    assert parent.info.status == "FINISHED"
    pruned = [child for child in children if child.data.tags["trial_state"] == "pruned"]
    assert {child.info.status for child in pruned} == {"KILLED"}
    assert len(pruned) == counts["pruned"]
    full = [child for child in children if child not in pruned]
    assert {child.info.status for child in full} == {"FINISHED"}
    # The slow ones were pruned, before their curves were complete.
    rate = "lr"
    assert max(float(c.data.params[rate]) for c in pruned) < max(float(c.data.params[rate]) for c in full)
    lengths = {child.data.tags["trial"]: curve(home, child.data.tags["trial"]) for child in children}
    assert max(lengths[c.data.tags["trial"]] for c in pruned) < min(lengths[c.data.tags["trial"]] for c in full)
    before = records(home)
    sweep(*search, env=own_store("hopeless"))
    assert records(home) == before
    assert summary(home, "hopeless")["counts"] == counts
    assert len(tree(home, "hopeless")[1]) == 9


def curve(home: Path, trial: str) -> int:
    """Return the number of validation checks of a trial."""
    return (home / "multirun" / "trials" / trial / "curves.jsonl").read_text().count("validation/loss")


def test_two_objectives_have_a_pareto_front(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    done = sweep(
        "hydra/sweeper=optuna", "model=mixture", "model.sizes.table.components=tag(int, interval(1, 40))",
        "objective=[bits_per_dim,parameters]", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler=nsga2",
        "sweep.name=front", env=own_store("front"),
    )  # fmt: skip
    assert "Pareto front (bits_per_dim, parameters):" in done.stdout
    found = summary(home, "front")
    scores = {row["title"]: [score["mean"] for score in row["scores"].values()] for row in found["configurations"]}
    assert len(scores) == 4
    beaten = {
        name for name, mine in scores.items()
        if any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in scores.values())
    }  # fmt: skip
    assert {row["title"] for row in found["pareto_front"]} == scores.keys() - beaten
    parent, children = tree(home, "front")
    for name in ("bits_per_dim", "parameters"):
        assert parent.data.metrics[name] == min(child.data.metrics[name] for child in children)
    assert set(parent.data.tags["pareto_front"].split("; ")) == scores.keys() - beaten
    drawn = {item.path for item in client_of(home, "front").list_artifacts(parent.info.run_id, "figures")}
    assert "figures/pareto_front.png" in drawn


@pytest.mark.slow
@pytest.mark.parametrize("family", choices("search"))
def test_the_search_space_of_every_family_can_be_searched(home: Path, sweep: Callable[..., Done], family: str) -> None:
    # On tables; families without a likelihood are compared by their samples.
    objective = ["objective=wasserstein_1"] if family in ("gan", "one_step") else []
    name = f"space-{family}"
    search = ["hydra/sweeper=optuna", f"+search={family}", "hydra.sweeper.n_trials=2", f"sweep.name={name}"]
    sweep(*search, *objective, "tracking=none")
    assert summary(home, name)["counts"] == {"finished": 2}


@pytest.mark.slow
def test_the_commands_of_the_documentation_run_as_they_are_printed(
    home: Path, run: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line and "SWEEP" not in line]
    assert sum("lookalike sweep" in command for command in commands) >= 3
    for command in commands:
        done = run(home, *shlex.split(command, comments=True), env=own_store("printed"))
        assert done.returncode == 0, (command, done.stdout, done.stderr)


REFUSALS = """
import json, sys
from lookalike.workspace.errors import UserError
from lookalike.sweeps.command import run
said = []
for arguments in json.loads(sys.argv[1]):
    try:
        said.append(str(run(arguments)))
    except UserError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_mistakes_are_reported_before_any_work(home: Path, run: Callable[..., Done]) -> None:
    wrong = {
        ("model=gan,vae",): "objective=bits_per_dim: gan has no likelihood",
        ("model=vae", "objective=frechet_distance"): "heights is of kind table",
        ("model=vae", "objective=nothing"): "there is no such objective",
        ("model=vae", "optimizer.lr=1e-3,-1"): "optimizer.lr=-1: input should be greater than 0",
        ("model=vae", "model.latent.table=2,-1"): "model.latent=-1",
        ("model=vae", "optimizer.lr=interval(1e-4,1e-3)"): "a grid takes values, not intervals",
        ("model=vae", "hydra/sweeper=optuna"): "nothing to search",
        ("data=heights,moons", "model=vae"): "add moons to `data` in conf/pipeline.yaml",
        ("model=vae", "sweep.name=../x"): "sweep.name=../x",
        ("+search=vae", "hydra/sweeper=optuna", "objective=[bits_per_dim,parameters]"): "hydra.sweeper.pruner=null",
        (
            "+search=vae",
            "hydra/sweeper=optuna",
            "hydra.sweeper.n_trials=0",
        ): "hydra.sweeper.n_trials=0: it must be a whole",
        ("+search=vae", "hydra/sweeper=optuna", "hydra.sweeper.sampler=foo"): "hydra.sweeper.sampler=foo: choose from",
        ("model=vae", "label=female,male"): "label=female: a sweep compares whole models",
        ("model=vae", "label=female"): "label=female: a sweep compares whole models",
        ("model=vae", "nonsense"): "write KEY=VALUE",
    }
    commands = [["data=heights", "budget=smoke", "tracking=none", *arguments] for arguments in wrong]
    before = sorted((home / "multirun").glob("*")) if (home / "multirun").is_dir() else []
    done = run(home, "python", "-c", REFUSALS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    for arguments, said in zip(wrong, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert wrong[arguments] in said, arguments
    assert (sorted((home / "multirun").glob("*")) if (home / "multirun").is_dir() else []) == before


def test_data_that_dvc_did_not_prepare_are_refused_with_the_command_that_does(
    home: Path, sweep: Callable[..., Done]
) -> None:
    prepared = home / "artifacts" / "heights" / "prepared"
    path = prepared / "train_labels.npy"
    content = path.read_bytes()
    path.unlink()  # it may be a link into DVC's cache
    try:
        path.write_bytes(content + b"x")
        done = sweep("model=vae", "tracking=none", code=1)
        assert "is not what dvc.lock says" in done.stderr
        assert "`dvc repro prepare@heights features@heights`" in done.stderr
    finally:
        path.write_bytes(content)
    prepared.rename(prepared.with_name("away"))
    try:
        assert "`dvc repro prepare@heights" in sweep("model=vae", "tracking=none", code=1).stderr
    finally:
        prepared.with_name("away").rename(prepared)


def test_a_server_that_is_away_is_no_obstacle_and_gets_the_sweep_later(
    home: Path, sweep: Callable[..., Done], run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]], own_store: Callable[[str], dict[str, str]],
) -> None:  # fmt: skip
    away = environment(home) | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = sweep("model=independent", "seed=0,1", "sweep.name=away", env=away)
    assert done.stderr.count("tracking: http://127.0.0.1:9 can't be reached") == 1
    assert "lookalike record" in done.stderr
    others = [folder for folder in (home / "multirun").iterdir() if folder.name not in ("trials", "away")]
    for folder in others:
        folder.rename(home / ".trace" / folder.name)
    try:
        for new in ("2", "no"):
            recorded = run(home, "python", "-m", "lookalike", "record", env=own_store("away"))
            assert recorded.returncode == 0, recorded.stderr
            assert f"sweep away: {new} trials that were not recorded" in recorded.stdout
    finally:
        for folder in others:
            (home / ".trace" / folder.name).rename(folder)
    parent, children = tree(home, "away")
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ["FINISHED"] * 2)


def test_a_winner_goes_into_its_file_and_the_pipeline_trains_the_same_weights(
    home: Path, sweep: Callable[..., Done], run: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    def promote(*arguments: str, code: int = 1) -> Done:
        done = run(home, "python", "-m", "lookalike", "promote", *arguments, env=own_store("winner"))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    sweep("model=vae", "optimizer.lr=4e-3,2.5e-3", "sweep.name=winner", env=own_store("winner"))
    found = summary(home, "winner")["verdict"]["heights"]
    assert found["winner"] is None  # one seed each, with the smallest budget
    trial = summary(home, "winner")["configurations"][0]["trials"][0]
    lr = summary(home, "winner")["configurations"][0]["title"].partition("=")[2]
    path = home / "conf" / "model" / "vae.yaml"
    before = path.read_text()

    assert "unknown sweep 'nothing': there are" in promote("nothing").stderr
    assert "has no winner: within error of the best: 1 configuration(s)" in promote("winner").stderr
    assert "trial=" in promote("winner", "trial=zz").stderr
    path.write_text(before + "\n# A note.\n")
    assert "conf/model/vae.yaml has changes that are not committed" in promote("winner", f"trial={trial}").stderr
    run(home, "git", "commit", "-qam", "A note")
    assert "was edited since the sweep" in promote("winner", f"trial={trial}").stderr
    path.write_text(before)
    run(home, "git", "commit", "-qam", "No note")
    digests = home / "artifacts" / "heights" / "prepared" / "summary.json"
    content = digests.read_text()
    digests.unlink()
    digests.write_text(re.sub(r'"digest": "....', '"digest": "0000', content))
    assert "a winner of other data" in promote("winner", f"trial={trial}").stderr
    digests.write_text(content)
    assert path.read_text() == before

    done = promote("winner", f"trial={trial[:6]}", code=0)
    assert f"+  lr: {lr}" in done.stdout
    changed = [line for line in path.read_text().splitlines() if line not in before.splitlines()]
    assert [line.strip() for line in changed] == [f"lr: {lr}"]
    assert "trains the very same model" in done.stdout
    parent, children = tree(home, "winner")
    assert parent.data.tags["promoted"].startswith(trial)
    assert [child.data.tags["trial"] for child in children if "promoted" in child.data.tags] == [trial]

    repro = run(home, "dvc", "repro", "sample@heights-vae-0", env=own_store("pipeline"))
    assert repro.returncode == 0, repro.stderr
    ran = re.findall("Running stage '(.*)'", repro.stdout)
    assert ran == ["train@heights-vae-0", "sample@heights-vae-0"]
    weights = home / "multirun" / "trials" / trial / "train" / "weights.safetensors"
    assert (home / "artifacts/heights/vae/0/train/weights.safetensors").read_bytes() == weights.read_bytes()
    # Its score is the same too, if it is scored like the trial: on validation data and not on the test set.
    scoring = ["python", "pipelines/evaluate.py", "data=heights", "model=vae", "budget=smoke", "split=validation"]
    scored = run(home, *scoring, env=own_store("pipeline"))
    assert scored.returncode == 0, scored.stderr
    scores = json.loads((home / "tries/heights/vae/split=validation/evaluate/metrics.json").read_text())
    assert scores == json.loads((home / "multirun" / "trials" / trial / "evaluate" / "metrics.json").read_text())
