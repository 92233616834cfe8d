"""Tests of tracking with real stages, MLflow on SQLite and W&B offline: content of runs, and failures."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.report.numbers import describe
from lookalike.tracking import views
from lookalike.tracking.content import HEADLINE
from lookalike.tracking.notes import NOTE
from lookalike.workspace.configuration import Config, compose
from warm import Warm

pytest_plugins = ["pipeline_fixtures"]

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600.0
FINGERPRINT = "0123456789abcdef"

Snapshot = dict[str, Any]


def environment(**more: str) -> dict[str, str]:
    """Return the variables of a stage that runs this checkout's package without an outside tracking server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "WANDB_"))}
    return kept | {"PYTHONPATH": str(ROOT / "src")} | more


class Workspace:
    """A folder in which stages of heights run."""

    def __init__(self, folder: Path, warm: Warm) -> None:
        self.folder, self.warm = folder, warm
        self.store = f"sqlite:///{folder}/mlflow.db"

    def command(self, stage: str, *overrides: str) -> list[str]:
        places = [f"paths.{kind}={self.folder / kind}" for kind in ("artifacts", "scratch", "results")]
        fixed = ["data=heights", "budget=smoke", "trainer.threads=1", f"tracking.uri={self.store}", *places]
        return [sys.executable, "-m", "lookalike", stage, *fixed, *overrides]

    def run(self, stage: str, *overrides: str, fails: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
        _, _, *command = self.command(stage, *overrides)
        done = self.warm.run(*command, cwd=Path.cwd(), env=environment(**env), timeout=PATIENCE)
        assert (done.returncode != 0) == fails, done.stderr
        return done

    def copy(self, folder: Path) -> "Workspace":
        """Copy the files, without the store."""
        (folder / "artifacts").mkdir(parents=True)
        subprocess.run(["cp", "-r", str(self.folder / "artifacts"), str(folder)], check=True)
        return Workspace(folder, self.warm)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Workspace:
    """Prepared heights, with nothing trained."""
    workspace = Workspace(tmp_path_factory.mktemp("prepared"), warm)
    for stage in ("prepare", "features"):
        workspace.run(stage)
    return workspace


@pytest.fixture(scope="module")
def tracked(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A VAE that was trained, sampled and evaluated with MLflow."""
    workspace = prepared.copy(tmp_path_factory.mktemp("tracked"))
    for stage in ("train", "sample", "evaluate"):
        done = workspace.run(stage, "model=vae")
        assert "tracking:" not in done.stderr
    return workspace


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setattr(views, "WAIT_SECONDS", PATIENCE)  # a machine that tests share can be very slow


def client(store: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(store)


def runs(store: str, experiment: str = "lookalike/heights") -> list[Any]:
    found = client(store).get_experiment_by_name(experiment)
    return list(client(store).search_runs([found.experiment_id])) if found else []


def only(store: str) -> Any:
    (run,) = runs(store)
    return run


def files(store: str, run: Any, folder: str | None = None) -> list[str]:
    """Return the paths of all artifacts of a run."""
    found = client(store).list_artifacts(run.info.run_id, folder)
    return sorted(path for file in found for path in (files(store, run, file.path) if file.is_dir else [file.path]))


def artifact(store: str, run: Any, path: str) -> str:
    """Return where an artifact of a run lies."""
    return str(client(store).download_artifacts(run.info.run_id, path))


def preview_steps(store: str, run: Any) -> list[int]:
    shown = [re.match(r"images/samples\+step\+(\d+)\+.*(?<!compressed)\.png", path) for path in files(store, run)]
    return sorted(int(match[1]) for match in shown if match)


def history(store: str, run: Any, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(store).get_metric_history(run.info.run_id, key)]


def snapshot(store: str) -> Snapshot:
    """Return the content of a store's only run, without times and random names."""
    run = only(store)
    kept = [path for path in files(store, run) if not path.startswith("images/")]
    return {
        "status": run.info.status,
        "params": run.data.params,
        "tags": run.data.tags
        | {"mlflow.note.content": run.data.tags[NOTE].replace(run.info.run_id, "ID"), "described": ""},
        "metrics": {key: history(store, run, key) for key in run.data.metrics},
        "files": kept,
        "previews": preview_steps(store, run),
        "data": [(found.dataset.name, found.dataset.digest) for found in run.inputs.dataset_inputs],
    }


def eventually(found: Callable[[], bool]) -> None:
    """Wait until another process has done something."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def one(path: Path, query: str) -> Any:
    """Return one value from the database of a store, or None if it does not exist yet."""
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            row = database.execute(query).fetchone()
    except sqlite3.OperationalError:
        return None
    return row and row[0]


def status(workspace: Workspace) -> str:
    return one(workspace.folder / "mlflow.db", "select status from runs") or ""


def config_of(store: str, *overrides: str) -> Config:
    return compose(["data=heights", "model=vae", "budget=smoke", f"tracking.uri={store}", *overrides])


def record(**more: Any) -> dict[str, Any]:
    """Return the record of a model that is about to be trained."""
    domain = {
        "name": "heights", "kind": "table", "shape": [1], "labels": [],
        "variables": [{"type": "Ordered", "levels": 1120, "low": 0.0, "step": 0.1, "unit": "inch"}],
    }  # fmt: skip
    return {
        "fingerprint": FINGERPRINT,
        "name": "heights-vae",
        "configuration": {"model": {"_target_": "lookalike.families.vae.VAE", "widths": [1, 2]}, "seed": 0},
        "domain": domain,
        "data_digest": "d" * 64,
        "code_digest": "c" * 64,
    } | more


def test_one_run_holds_all_stages(tracked: Workspace) -> None:
    run, held = only(tracked.store), snapshot(tracked.store)
    cell = tracked.folder / "artifacts" / "heights" / "vae" / "0"
    model = json.loads((cell / "train" / "model.json").read_text())
    assert held["status"] == "FINISHED"
    assert held["tags"]["fingerprint"] == model["fingerprint"]
    assert held["tags"]["data_digest"] == model["data_digest"]
    assert re.fullmatch("[0-9a-f]{40}|unknown", held["tags"]["git_commit"])
    assert held["tags"]["git_dirty"] in ("true", "false", "unknown")
    assert held["params"]["model.sizes.hidden"] == "[64, 64]"
    assert held["params"]["likelihood.importance_samples"] == "50"
    assert float(held["params"]["optimizer.lr"]) == model["configuration"]["optimizer"]["lr"]
    assert held["data"] == [("heights", model["data_digest"][:8])]
    for split in ("train", "validation"):
        rows = np.genfromtxt(cell / "train" / f"loss_{split}.csv", delimiter=",", names=True)
        assert held["metrics"][f"{split}/loss"] == list(zip(rows["step"], rows["loss"], strict=True))
    scores = json.loads((cell / "evaluate" / "metrics.json").read_text())
    for name, version in json.loads((cell / "evaluate" / "cost.json").read_text())["versions"].items():
        assert held["tags"][f"protocol.versions.{name}"] == version
    for name, entry in scores.items():
        shown = name if name in HEADLINE else f"scores/{name}"
        assert held["metrics"][shown] == [(0, entry["value"])]
        assert held["metrics"][f"{shown}_error"] == [(0, entry["standard_error"])]
        p_value = held["metrics"].get(f"scores/{name}_p_value")
        assert p_value == ([(0, entry["p_value"])] if "p_value" in entry else None)
        assert "settings" in held["tags"][f"protocol.{name}"] or "extractor" in held["tags"][f"protocol.{name}"]
    for stage in ("train", "sample", "evaluate"):
        assert held["metrics"][f"cost/{stage}_work_seconds"][0][1] > 0
        assert held["metrics"][f"cost/{stage}_peak_memory_mb"][0][1] > 0
    assert held["metrics"]["cost/parameters"] == [(0, model["parameters"])]
    assert len(held["metrics"]["system/cpu_utilization_percentage"]) >= 1
    assert held["files"] == ["metrics.json", "model.json", "preview.npz", "samples.png", "weights.safetensors"]
    with np.load(cell / "sample" / "samples.npz") as file, np.load(artifact(tracked.store, run, "preview.npz")) as kept:
        assert len(kept["samples"]) == 64
        assert (kept["samples"] == file["samples"][:64]).all()
    with np.load(cell / "train" / "previews.npz") as previews:
        assert held["previews"] == sorted(int(name.removeprefix("step_")) for name in previews.files)
        assert len(held["previews"]) >= 3
    assert run.info.run_name == "vae"


def test_a_run_shows_few_headline_scores_and_describes_itself(tracked: Workspace) -> None:
    run = only(tracked.store)
    top = {key for key in run.data.metrics if "/" not in key}
    assert top <= {f"{name}{part}" for name in HEADLINE for part in ("", "_error")}
    assert {"bits_per_dim", "bits_per_dim_error", "wasserstein_1", "wasserstein_1_error"} <= top
    assert len(top) <= 12
    groups = {key.partition("/")[0] for key in run.data.metrics if "/" in key}
    assert groups == {"scores", "cost", "train", "validation", "system"}
    tags = run.data.tags
    assert [tags[key] for key in ("data", "family", "model", "seed")] == ["heights", "vae", "vae", "0"]
    assert run.data.params["family"] == "vae"
    bits = describe({"value": run.data.metrics["bits_per_dim"], "error": run.data.metrics["bits_per_dim_error"]})
    assert f"| Bits per dimension | ≤ {bits} |" in tags[NOTE]
    assert f"![samples](get-artifact?path=samples.png&run_uuid={run.info.run_id})" in tags[NOTE]
    finals = [path for path in files(tracked.store, run) if path.startswith("images/final_samples+step+0+")]
    assert len([path for path in finals if path.endswith(".png")]) == 1


def test_an_experiment_per_data_set_is_laid_out_and_described(tracked: Workspace) -> None:
    tracked.run("record")
    found = client(tracked.store).get_experiment_by_name("lookalike/heights")
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert found.tags["mlflow.experiment.primaryMetric.name"] == "wasserstein_1"
    state = json.loads(json.loads(found.tags["mlflow.sharedViewState.scores"])["state"])
    assert state["orderByKey"] == "metrics.`wasserstein_1`"
    assert {"metrics.`bits_per_dim`", "metrics.`wasserstein_1_error`"} <= set(state["selectedColumns"])
    run, note = only(tracked.store), found.tags[NOTE]
    assert f"(#/experiments/{found.experiment_id}/runs?" in note
    assert "viewStateShareKey=scores" in note
    assert f"| [vae](#/experiments/{found.experiment_id}/runs/{run.info.run_id}?" in note


def test_a_description_by_the_user_stays(
    tracked: Workspace, tmp_path: Path, empty_store: Callable[[Path], str]
) -> None:
    store = empty_store(tmp_path / "mlflow.db")
    tracked.run("record", f"tracking.uri={store}")
    run = only(store)
    client(store).set_tag(run.info.run_id, NOTE, "mine")
    client(store).delete_tag(run.info.run_id, "recorded.evaluate")
    client(store).set_experiment_tag(run.info.experiment_id, NOTE, "ours")
    tracked.run("record", f"tracking.uri={store}")
    assert only(store).data.tags[NOTE] == "mine"
    assert client(store).get_experiment(run.info.experiment_id).tags[NOTE] == "ours"


def test_losses_are_recorded_while_training_runs(tracked: Workspace) -> None:
    run = only(tracked.store)
    points = client(tracked.store).get_metric_history(run.info.run_id, "train/loss")
    assert len({point.timestamp for point in points}) == len(points)


def test_recording_again_changes_nothing(tracked: Workspace) -> None:
    before = snapshot(tracked.store)
    done = tracked.run("record")
    assert "up to date" in done.stdout
    assert snapshot(tracked.store) == before


def test_a_new_server_gets_the_same_content_from_the_files(tracked: Workspace, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/elsewhere/mlflow.db"
    done = tracked.run("record", f"tracking.uri={store}")
    assert re.search(r"heights-vae [0-9a-f]{16}: train, sample, evaluate\n", done.stdout)
    live, again = snapshot(tracked.store), snapshot(store)
    for held in (live, again):
        held["metrics"] = {key: points for key, points in held["metrics"].items() if not key.startswith("system/")}
        held["tags"] = {key: tag for key, tag in held["tags"].items() if "git" not in key}  # the tree may change
    assert again == live


def test_the_environment_names_the_server_before_the_configuration(
    tracked: Workspace, tmp_path: Path, empty_store: Callable[[Path], str]
) -> None:
    store = empty_store(tmp_path / "mlflow.db")
    tracked.run("record", MLFLOW_TRACKING_URI=store, MLFLOW_RUN_ID="a run of somebody else")
    assert len(runs(store)) == 1


def test_files_of_another_model_are_not_recorded(tracked: Workspace, tmp_path: Path) -> None:
    workspace = tracked.copy(tmp_path)
    cost = tmp_path / "artifacts" / "heights" / "vae" / "0" / "sample" / "cost.json"
    cost.write_text(json.dumps(json.loads(cost.read_text()) | {"fingerprint": "of another"}))
    assert ": train, evaluate\n" in workspace.run("record").stdout


def test_a_later_stage_makes_a_lost_run_again(tracked: Workspace, tmp_path: Path) -> None:
    workspace = tracked.copy(tmp_path)
    workspace.run("sample", "model=vae")
    held = snapshot(workspace.store)
    assert held["status"] == "FINISHED"
    assert held["metrics"]["train/loss"]
    assert {"recorded.train", "recorded.sample"} <= held["tags"].keys()
    assert "recorded.evaluate" not in held["tags"]


def test_a_dead_server_costs_one_line_and_gets_the_run_later(prepared: Workspace, tmp_path: Path) -> None:
    workspace = prepared.copy(tmp_path)
    start = time.monotonic()
    done = workspace.run("train", "model=independent", "tracking.uri=http://user:secret@127.0.0.1:9")
    assert time.monotonic() - start < 60
    assert done.stderr.splitlines() == [
        "tracking: http://127.0.0.1:9 can't be reached (Connection refused); the run goes on, record it later with: "
        "lookalike record"
    ]
    assert (tmp_path / "artifacts" / "heights" / "independent" / "0" / "train" / "weights.safetensors").is_file()
    still = workspace.run("record", "tracking.uri=http://127.0.0.1:9", fails=True)
    assert (still.returncode, still.stdout) == (1, "")
    assert still.stderr == "error: http://127.0.0.1:9 can't be reached (Connection refused)\n"
    workspace.run("record")
    assert snapshot(workspace.store)["tags"]["model"] == "independent"


def test_a_recorder_that_is_left_without_a_server_waits_for_its_stage_in_silence() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lookalike.tracking"], env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as recorder:  # fmt: skip
        assert recorder.stdin is not None
        assert recorder.stderr is not None
        tracking = {"mlflow": True, "wandb": False, "uri": "http://127.0.0.1:9", "experiment": "lookalike"}
        run = {"kind": "open", "record": record(steps=1), "sampling": {}, "cell": "nowhere"}
        for message in ({"kind": "expect", "tracking": tracking}, run):
            recorder.stdin.write(json.dumps(message) + "\n")
        recorder.stdin.flush()
        assert "can't be reached" in recorder.stderr.readline()
        time.sleep(1)
        recorder.stdin.close()
        assert recorder.stderr.read() == ""
        assert recorder.wait(PATIENCE) == 0


def start(workspace: Workspace, *overrides: str) -> subprocess.Popen[str]:
    """Start training in a process group of its own, like a terminal; return when it has a checkpoint."""
    training = subprocess.Popen(
        workspace.command("train", "model=vae", "budget.scale=0.06", *overrides),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run with it ignored
    )
    eventually(lambda: any(workspace.folder.glob("scratch/*/last.ckpt")) or training.poll() is not None)
    assert training.poll() is None
    return training


def test_ctrl_c_marks_the_run_killed_and_the_next_command_continues_it(prepared: Workspace, tmp_path: Path) -> None:
    workspace = prepared.copy(tmp_path)
    with start(workspace) as training:
        os.killpg(training.pid, signal.SIGINT)
        assert training.wait(PATIENCE) == 130
    eventually(lambda: status(workspace) == "KILLED")
    workspace.run("train", "model=vae", "budget.scale=0.06")
    held = snapshot(workspace.store)
    assert held["status"] == "FINISHED"
    rows = np.genfromtxt(tmp_path / "artifacts/heights/vae/0/train/loss_train.csv", delimiter=",", names=True)
    assert [step for step, _ in held["metrics"]["train/loss"]] == rows["step"].tolist()
    assert len(held["previews"]) == len(set(held["previews"]))


def test_a_killed_process_leaves_a_killed_run(prepared: Workspace, tmp_path: Path) -> None:
    workspace = prepared.copy(tmp_path)
    with start(workspace) as training:
        training.kill()
        training.wait(PATIENCE)
    eventually(lambda: status(workspace) == "KILLED")


def test_an_error_marks_the_run_failed(prepared: Workspace, tmp_path: Path) -> None:
    workspace = prepared.copy(tmp_path)
    done = workspace.run("train", "model=vae", "optimizer.lr=1e30", "trainer.checks=1", fails=True)
    assert (done.returncode, status(workspace)) == (1, "FAILED")
    assert done.stderr.startswith("error: the loss is")


def test_eight_processes_at_once_on_a_fresh_store_lose_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    config = config_of(store)

    def train(i: int) -> None:
        with views.opened(config, record(fingerprint=f"{i:016x}")) as view:
            for step in range(300):
                view.metrics({"train/loss": 1.0 / (step + 1 + i)}, step)
            view.samples(np.full((5, 1), 66.0), 299)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(train, range(8)))
    assert capfd.readouterr().err == ""
    found = {run.data.tags["fingerprint"]: run for run in runs(store)}
    assert set(found) == {f"{i:016x}" for i in range(8)}
    assert len(runs(store)) == 8
    for run in found.values():
        assert run.info.status == "FINISHED"
        assert [step for step, _ in history(store, run, "train/loss")] == list(range(300))
        assert preview_steps(store, run) == [299]


def test_settings_that_change_keep_the_parameter_and_show_in_a_tag(
    tmp_path: Path, empty_store: Callable[[Path], str]
) -> None:
    store = empty_store(tmp_path / "mlflow.db")
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "samples.png").write_bytes(b"a picture")
    for steps in (10, 20, 10):
        (folder / "settings.json").write_text(json.dumps({"steps": steps}))
        with views.opened(config_of(store), record(steps=1)) as view:
            view.record("sample", folder)
        run = only(store)
        assert run.data.params["sampling.steps"] == "10"
        assert run.data.tags.get("now.sampling.steps") == (None if steps == 10 else "20")


def test_a_view_that_fails_leaves_its_stage_alone(
    tmp_path: Path, empty_store: Callable[[Path], str], capfd: pytest.CaptureFixture[str]
) -> None:
    store = empty_store(tmp_path / "mlflow.db")
    with views.opened(config_of(store), record()) as view:
        view.record("train", tmp_path / "nothing")
        view.metrics({"train/loss": 1.0}, 1)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"tracking: {store} can't be written (")
    assert only(store).info.status == "FINISHED"


def test_a_slow_recorder_is_waited_for_no_longer_than_is_sensible(
    prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(views, "WAIT_SECONDS", 0.1)
    workspace = prepared.copy(tmp_path)
    with views.opened(config_of(workspace.store), record()):
        pass
    assert status(workspace) == ""
    assert "not done after" in capfd.readouterr().err
    eventually(lambda: status(workspace) == "FINISHED")


def test_the_report_is_kept_with_the_runs_that_it_is_about(tracked: Workspace, tmp_path: Path) -> None:
    workspace = tracked.copy(tmp_path)
    cell, draft = tmp_path / "artifacts" / "heights" / "vae" / "0", tmp_path / "results-draft"
    (tmp_path / "artifacts" / "mnist").mkdir()
    (draft / "figures").mkdir(parents=True)
    (draft / "cards").mkdir()
    scores = json.loads((cell / "evaluate" / "metrics.json").read_text())
    (draft / "leaderboard.json").write_text(json.dumps({"heights": {"vae": scores}}))
    figures = ("figures/all.svg", "figures/heights-vae.png", "figures/mnist-vae.png")
    for name in ("report.html", *figures, "cards/heights-vae.md", "cards/heights-gan.md"):
        (draft / name).write_text(name)
    config = config_of(workspace.store, f"paths.artifacts={tmp_path / 'artifacts'}")
    views.record_report(config, draft)
    run = only(workspace.store)
    assert files(workspace.store, run, "report") == [
        "report/cards/heights-vae.md", "report/figures/all.svg", "report/figures/heights-vae.png", "report/report.html"
    ]  # fmt: skip
    draft.rename(tmp_path / "results")
    assert "up to date" in workspace.run("record").stdout
    (tmp_path / "results" / "leaderboard.json").write_text(json.dumps({"heights": {"vae": {}}}))
    (tmp_path / "results" / "report.html").write_text("of other scores")
    assert "up to date" in workspace.run("record").stdout


@pytest.mark.slow
def test_another_seed_is_a_run_of_its_own_that_record_and_report_find(tracked: Workspace, tmp_path: Path) -> None:
    workspace = tracked.copy(tmp_path)
    for stage in ("train", "sample", "evaluate"):
        workspace.run(stage, "model=vae", "seed=1")
    run = only(workspace.store)
    assert (run.info.run_name, run.info.status, run.data.tags["seed"]) == ("vae seed 1", "FINISHED", "1")
    assert run.data.params["seed"] == "1"
    assert {f"recorded.{stage}" for stage in ("train", "sample", "evaluate")} <= run.data.tags.keys()
    assert re.fullmatch(r"\d+\.\d+.*", run.data.tags["protocol.versions.torch"])

    model = tmp_path / "artifacts" / "heights" / "vae"
    values = {
        seed: json.loads((model / seed / "evaluate" / "metrics.json").read_text())["wasserstein_1"]["value"]
        for seed in ("0", "1")
    }
    board = {"wasserstein_1": {"value": values["0"], "seeds": values}}
    (tmp_path / "results" / "figures").mkdir(parents=True)
    (tmp_path / "results" / "leaderboard.json").write_text(json.dumps({"heights": {"vae": board}}))
    (tmp_path / "results" / "report.html").write_text("page")
    lines = workspace.run("record").stdout.splitlines()[1:]
    assert [re.sub(r" [0-9a-f]{16}", "", line).strip() for line in lines] == [
        "heights-vae: train, sample, evaluate, report", "heights-vae with seed 1: report"
    ]  # fmt: skip
    check_seeds(workspace.store, values)
    assert workspace.run("record").stdout.count("up to date") == 2
    check_seeds(workspace.store, values)


def check_seeds(store: str, values: dict[str, float]) -> None:
    """Check that two seeds are one run with mean and deviation, and below it one run per seed."""
    children = [run for run in runs(store) if "aggregate" not in run.data.tags]
    assert sorted(run.data.params["seed"] for run in children) == ["0", "1"]
    assert all(files(store, run, "report") == ["report/report.html"] for run in children)
    (parent,) = [run for run in runs(store) if "aggregate" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert (parent.info.run_name, parent.info.status) == ("vae (2 seeds)", "FINISHED")
    assert [parent.data.tags[key] for key in ("data", "family", "model", "seed")] == ["heights", "vae", "vae", "0, 1"]
    assert "seed" not in parent.data.params
    assert parent.data.metrics["wasserstein_1"] == pytest.approx(np.mean(list(values.values())))
    assert parent.data.metrics["wasserstein_1_deviation"] == pytest.approx(np.std(list(values.values()), ddof=1))
    assert {key.partition("/")[0] for key in parent.data.metrics if "/" in key} == {"scores"}
    assert not [key for key in parent.data.metrics if key.endswith(("_error", "_p_value"))]
    assert "get-artifact?path=samples.png" in parent.data.tags[NOTE]
    note = client(store).get_experiment(parent.info.experiment_id).tags[NOTE]
    assert "[vae (2 seeds)]" in note
    assert "[vae]" not in note


def test_wandb_offline_writes_a_run_folder_with_the_same_content(tracked: Workspace, tmp_path: Path) -> None:
    done = tracked.run("record", "tracking=wandb", WANDB_DIR=str(tmp_path))
    assert ": train, sample, evaluate\n" in done.stdout
    fingerprint = only(tracked.store).data.tags["fingerprint"]
    run_id = json.loads((tmp_path / "wandb" / "recorded.json").read_text())[fingerprint]["id"]
    (folder,) = (tmp_path / "wandb").glob(f"offline-run-*-{run_id}")
    content = (folder / f"run-{run_id}.wandb").read_bytes()
    assert len(content) > 1000
    assert fingerprint.encode() in content
    kept = {path.name for path in (folder / "files").rglob("*") if path.is_file()}
    assert {"metrics.json", "model.json", "samples.png", "weights.safetensors"} <= kept
    assert "up to date" in tracked.run("record", "tracking=wandb", WANDB_DIR=str(tmp_path)).stdout
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1


def test_wandb_records_while_training_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with views.opened(config_of("unused", "tracking=wandb"), record()) as view:
        view.metrics({"train/loss": 1.0}, 1)
        view.samples(np.full((5, 1), 66.0), 1)
    assert capfd.readouterr().err == ""
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list((folder / "files" / "media" / "images").glob("samples*.png"))


def test_without_tracking_no_process_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> Iterator[None]:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with views.opened(config_of("unused", "tracking=none"), record()) as view:
        view.metrics({"train/loss": 1.0}, 1)
        view.record("train", tmp_path)
    views.record_report(config_of("unused", "tracking=none"), tmp_path)


def test_a_stage_does_not_import_what_its_recorder_needs() -> None:
    code = "import sys, lookalike.tracking.views; print({'mlflow', 'wandb', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_messages_call_a_store_has_no_password_and_nothing_that_was_added(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lookalike.tracking.mlflow_server import MlflowRuns, place_of

    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    MlflowRuns(uri="sqlite:///mlflow.db", experiment="named")  # MLflow changes the variable
    assert place_of("sqlite:///mlflow.db") == store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@example.org/mlflow")
    assert place_of("sqlite:///mlflow.db") == "https://example.org/mlflow"
