"""Sweeps by their command, on the heights that DVC prepared, with MLflow on SQLite: grids, searches, interruptions."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pipeline_fixtures"]

COMMON = ("-m", "data=heights", "budget=smoke")

Done = subprocess.CompletedProcess[str]


def store(name: str, home: Path) -> list[str]:
    """A tracking store of its own, and a name for the sweep."""
    return [f"tracking.uri=sqlite:///{home}/.trace/{name}.db", f"sweep.name={name}"]


@pytest.fixture
def own_store(home: Path, environment: Callable[[Path], dict[str, str]]) -> Callable[[str], dict[str, str]]:
    """`own_store(name)`: variables by which a sweep's runs go to a store of its own."""
    return lambda name: environment(home) | {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/.trace/{name}.db"}


def tree(home: Path, name: str) -> tuple[Any, list[Any]]:
    """The parent run and its children; there are no others."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/.trace/{name}.db")
    experiment = client.get_experiment_by_name("lookalike")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
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


def records(home: Path) -> dict[str, int]:
    """When each trial's record was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (home / "multirun" / "trials").glob("*/record.json")}


def test_a_grid_is_a_tree_of_runs_and_the_same_command_again_runs_nothing(
    home: Path, sweep: Callable[..., Done], run: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    grid = ["model=vae,mixture", "seed=0,1", "sweep.name=grid"]
    done = sweep(*grid, env=own_store("grid"))
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
        assert child.data.metrics["objective/bits_per_dim"] == child.data.metrics["bits_per_dim"]
        assert child.data.params["seed"] == child.info.run_name[-1]
    assert parent.data.tags["space.seed"] == "0,1"
    assert "sweep.py -m data=heights" in parent.data.tags["command"]
    figures = {path.name for path in (home / "multirun" / "grid" / "figures").iterdir()}
    assert {"parallel_coordinates.png", "optimization_history.png", "importance.png"} <= figures
    assert run(home, "git", "status", "--porcelain").stdout == "", "a sweep writes below multirun/ alone"

    before = records(home)
    again = sweep(*grid, "hydra/launcher=joblib", env=own_store("grid"))
    assert records(home) == before
    assert "Launching" not in again.stdout + again.stderr
    assert summary(home, "grid")["configurations"] == found["configurations"]
    assert len(tree(home, "grid")[1]) == 4
    # Another sweep with one more seed runs that alone.
    sweep("model=mixture", "seed=0,1,2", "sweep.name=other", "tracking=none")
    assert len(records(home).keys() - before.keys()) == 1
    # So does Hydra's own sweeper.
    sweep("model=mixture", "seed=1,2,3", "sweep.name=basic", "tracking=none", "hydra/sweeper=basic")
    assert len(records(home).keys() - before.keys()) == 2
    assert summary(home, "basic")["counts"] == {"finished": 3}


def test_a_trial_that_fails_ends_no_sweep_and_is_named(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    # A loss that is NaN, and a network that there is no memory for, under a limit of the process.
    done = sweep(
        "model=vae", "optimizer.lr=1e30,1e-3", "model.vector.hidden=[64,64],[64,1000000]", "sweep.name=fails",
        env=own_store("fails"), code=1, preexec_fn=limit_memory,
    )  # fmt: skip
    assert "trials: 3 failed, 1 finished" in done.stdout
    assert "the loss is nan" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    failures = summary(home, "fails")["failures"]
    assert len([one for one in failures if re.search("memory|alloc", one["error"])]) == 2
    parent, children = tree(home, "fails")
    assert parent.info.status == "FAILED"
    assert sorted(child.info.status for child in children) == ["FAILED"] * 3 + ["FINISHED"]


def limit_memory() -> None:
    """A process that may take 6 GB."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, 6 * 2**30))


def kill_and_continue(
    home: Path, command: list[str], env: dict[str, str], *, delays: list[float], signals: list[int]
) -> None:
    """Start a command and kill it after each delay, workers and all; then let it end."""
    for delay, number in zip(delays, signals, strict=True):
        process = subprocess.Popen(
            command, cwd=home, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        if number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(120)


def started(home: Path, name: str) -> int:
    """How many trials of a sweep began."""
    return len(list((home / "multirun" / name / "trials").glob("*.json")))


def check_whole(home: Path, name: str, count: int) -> None:
    """Every trial of a sweep is there once, finished, with one run."""
    assert summary(home, name)["counts"] == {"finished": count}
    parent, children = tree(home, name)
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ["FINISHED"] * count)
    for child in children:
        history = child.data.metrics
        assert history["objective/bits_per_dim"] == history["bits_per_dim"]


def test_a_sweep_that_was_killed_and_interrupted_goes_on(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    name, env = "killed", own_store("killed")
    overrides = ["model=vae,flow", "optimizer.lr=2e-3,1e-3", f"sweep.name={name}"]
    command = ["python", "pipelines/sweep.py", *COMMON, *overrides]
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
    before = records(home)
    assert started(home, name) < 4 or len(before) < 4
    sweep(*overrides, env=env)
    assert {key: value for key, value in records(home).items() if key in before} == before
    check_whole(home, name, 4)


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_ten_random_moments_has_every_trial_once(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    name, env, rng = "random", own_store("random"), random.Random(0)
    overrides = ["model=vae,flow,mixture", "seed=5,6,7", f"sweep.name={name}"]
    command = ["python", "pipelines/sweep.py", *COMMON, *overrides]
    delays = [rng.uniform(2, 25) for _ in range(10)]
    kill_and_continue(home, command, env, delays=delays, signals=[signal.SIGKILL] * 10)
    sweep(*overrides, env=env)
    check_whole(home, name, 9)


def test_joblib_s_workers_share_a_sweep(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep("model=mixture,independent", "seed=11,12", "sweep.name=workers", *launcher, env=own_store("workers"))
    check_whole(home, "workers", 4)


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
    assert "the launcher gave up (TerminatedWorkerError" in done.stderr
    assert summary(home, "replaced")["counts"] == {"finished": 4}


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


def test_a_search_goes_on_with_what_its_study_knows(
    home: Path, sweep: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    search = ["hydra/sweeper=optuna", "+search=vae", "hydra.sweeper.startup=2", "sweep.name=search"]
    sweep(*search, "hydra.sweeper.n_trials=2", env=own_store("search"))
    before = records(home)
    sweep(*search, "hydra.sweeper.n_trials=4", env=own_store("search"))
    assert len(records(home).keys() - before.keys()) == 2
    assert {key: value for key, value in records(home).items() if key in before} == before
    parent, children = tree(home, "search")
    assert len(children) == 4
    assert json.loads(parent.data.tags["sampler"])["name"] == "optuna"
    values = {child.data.params["optimizer.lr"] for child in children}
    assert len(values) == 4


def test_two_objectives_have_a_pareto_front(home: Path, sweep: Callable[..., Done]) -> None:
    done = sweep(
        "hydra/sweeper=optuna", "model=vae", "model.components=choice(1,4)", "hydra.sweeper.n_trials=2",
        "objective=[wasserstein_1,parameters]", "hydra.sweeper.sampler=nsga2", "sweep.name=front", "tracking=none",
    )  # fmt: skip
    assert "Pareto front (wasserstein_1, parameters):" in done.stdout
    assert summary(home, "front")["pareto_front"]


REFUSALS = """
import json, sys
from lookalike.core.errors import UserError
from lookalike.sweeps.command import run
said = []
for arguments in json.loads(sys.argv[1]):
    try:
        said.append(str(run(arguments)))
    except UserError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_what_is_wrong_is_said_before_any_work(home: Path, run: Callable[..., Done]) -> None:
    wrong = {
        ("model=gan,vae",): "objective=bits_per_dim: gan has no likelihood",
        ("model=vae", "objective=frechet_distance"): "heights are vectors",
        ("model=vae", "objective=nothing"): "there is no such objective",
        ("model=vae", "optimizer.lr=1e-3,-1"): "optimizer.lr=-1: input should be greater than 0",
        ("model=vae", "model.vector.latent=2,-1"): "model.vector.latent=-1",
        ("model=vae", "optimizer.lr=interval(1e-4,1e-3)"): "a grid takes values, not intervals",
        ("model=vae", "hydra/sweeper=optuna"): "nothing to search",
        ("data=heights,moons", "model=vae"): "add moons to `data` in conf/pipeline.yaml",
        ("model=vae", "sweep.name=../x"): "sweep.name=../x",
        ("+search=vae", "hydra/sweeper=optuna", "objective=[bits_per_dim,parameters]"): "hydra.sweeper.pruner=null",
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


def test_a_server_that_is_away_is_no_obstacle_and_is_told_later(
    home: Path, sweep: Callable[..., Done], run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]], own_store: Callable[[str], dict[str, str]],
) -> None:  # fmt: skip
    away = environment(home) | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = sweep("model=independent", "seed=0,1", "sweep.name=away", env=away)
    assert done.stderr.count("tracking: http://127.0.0.1:9 can't be reached") == 1
    assert "python pipelines/record.py" in done.stderr
    others = [folder for folder in (home / "multirun").iterdir() if folder.name not in ("trials", "away")]
    for folder in others:
        folder.rename(home / ".trace" / folder.name)
    try:
        for new in ("2", "no"):
            told = run(home, "python", "pipelines/record.py", env=own_store("away"))
            assert told.returncode == 0, told.stderr
            assert f"sweep away: {new} trials that were not recorded" in told.stdout
    finally:
        for folder in others:
            (home / ".trace" / folder.name).rename(folder)
    parent, children = tree(home, "away")
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ["FINISHED"] * 2)


def test_a_winner_goes_into_its_file_and_the_pipeline_trains_the_same_weights(
    home: Path, sweep: Callable[..., Done], run: Callable[..., Done], own_store: Callable[[str], dict[str, str]]
) -> None:
    def promote(*arguments: str, code: int = 1) -> Done:
        done = run(home, "python", "pipelines/promote.py", *arguments, env=own_store("winner"))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    sweep("model=vae", "optimizer.lr=4e-3,2.5e-3", "sweep.name=winner", env=own_store("winner"))
    found = summary(home, "winner")["verdict"]["heights"]
    assert found["winner"] is None  # one seed each, at the smallest budget
    trial = summary(home, "winner")["configurations"][0]["trials"][0]
    lr = summary(home, "winner")["configurations"][0]["title"].partition("=")[2]
    path = home / "conf" / "model" / "vae.yaml"
    before = path.read_text()

    assert "unknown sweep 'nothing': there are" in promote("nothing").stderr
    assert "has no winner: 1 configurations are within error of the best" in promote("winner").stderr
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

    repro = run(home, "dvc", "repro", "train@heights-vae", env=own_store("pipeline"))
    assert repro.returncode == 0, repro.stderr
    assert "Running stage 'prepare" not in repro.stdout
    weights = home / "multirun" / "trials" / trial / "train" / "weights.safetensors"
    assert (home / "artifacts/heights/vae/train/weights.safetensors").read_bytes() == weights.read_bytes()
