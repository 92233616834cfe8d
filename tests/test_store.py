"""Tests of the local store: files that cannot be written, a checkout that is moved or copied, an old database."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.workspace.configuration import ROOT
from server_helpers import environment as variables
from warm import Warm

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(key)


@pytest.fixture
def lookalike(warm: Warm, tmp_path: Path) -> Callable[..., Done]:
    """`lookalike(stage, *overrides, code=0)`: a command on heights that reads and writes below `tmp_path`."""

    def call(stage: str, *overrides: str, code: int = 0, **env: str) -> Done:
        places = [f"paths.{kind}={tmp_path / kind}" for kind in ("artifacts", "scratch", "results")]
        given = [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "data=heights", "budget=smoke", *places, *overrides]
        done = warm.run(
            "lookalike", stage, *given, cwd=Path.cwd(), env=variables(PYTHONPATH=str(ROOT / "src"), **env), timeout=600
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def runs(store: Path) -> list[Any]:
    """Return the runs of a store, in the order of their names and seeds."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("lookalike/heights")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return sorted(found, key=lambda run: (run.info.run_name, run.data.params["seed"]))


def files(run: Any) -> set[str]:
    """Return the names of the files of a run, without pictures of samples."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def test_numbers_arrive_while_files_cannot_and_record_brings_the_files(
    heights_cell: Path, tmp_path: Path, lookalike: Callable[..., Done]
) -> None:
    shutil.copytree(heights_cell / "artifacts", tmp_path / "artifacts")
    (tmp_path / "mlartifacts").touch()
    done = lookalike("train", "model=vae", "seed=1")
    assert re.fullmatch(
        rf"tracking: sqlite:///{tmp_path}/mlflow\.db has all numbers, but can't take the files of the runs \(.*: "
        rf"{tmp_path}/mlartifacts.*\); the run goes on, record it later with: lookalike record\n",
        done.stderr,
    )
    (run,) = runs(tmp_path / "mlflow.db")
    assert run.info.status == "FINISHED"
    losses = (tmp_path / "artifacts" / "heights" / "vae" / "1" / "train" / "loss_train.csv").read_text().splitlines()
    assert run.data.metrics["train/loss"] == float(losses[-1].split(",")[losses[0].split(",").index("loss")])
    assert {"cost/train_work_seconds", "cost/parameters"} <= run.data.metrics.keys()

    done = lookalike("record", code=1)
    assert len(re.findall(r"  heights-vae(?: with seed 1)?: not everything could be recorded\n", done.stdout)) == 2
    assert re.fullmatch(r"error: .* has all numbers, but can't take the files of the runs \(.*\)\n", done.stderr)
    evaluated, trained = runs(tmp_path / "mlflow.db")
    assert {"train/loss", "bits_per_dim", "cost/evaluate_work_seconds"} <= evaluated.data.metrics.keys()

    (tmp_path / "mlartifacts").unlink()
    assert re.search(r"vae \w+: train, sample, evaluate\n  .*seed 1 \w+: train\n", lookalike("record").stdout)
    assert files(trained) == {"model.json", "weights.safetensors"}
    assert files(evaluated) == {"metrics.json", "model.json", "preview.npz", "samples.png", "weights.safetensors"}
    assert len(re.findall("up to date\n", lookalike("record").stdout)) == 2


def test_a_damaged_cell_does_not_keep_the_others_from_being_recorded(
    heights_cell: Path, tmp_path: Path, lookalike: Callable[..., Done]
) -> None:
    shutil.copytree(heights_cell / "artifacts", tmp_path / "artifacts")
    damaged = tmp_path / "artifacts" / "heights" / "gan" / "0" / "train" / "model.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    done = lookalike("record", code=1)
    assert re.search(
        r"  heights-gan: not everything could be recorded\n  heights-vae .*: train, sample, eval", done.stdout
    )
    assert re.fullmatch(rf"error: .*damaged: {damaged} .*\n", done.stderr)
    assert len(runs(tmp_path / "mlflow.db")) == 1


def places(store: Path) -> str:
    """Return everything that a store says about its artifacts."""
    with sqlite3.connect(store) as database:
        return "\n".join(database.iterdump())


def test_a_moved_or_copied_store_names_the_artifacts_beside_it(
    heights_cell: Path, tmp_path: Path, lookalike: Callable[..., Done]
) -> None:
    before, moved, copied = (tmp_path / name for name in ("it's before", "moved", "copied"))

    def call(stage: str, folder: Path, *overrides: str) -> Done:
        places = [f'paths.{kind}="{folder / kind}"' for kind in ("artifacts", "scratch", "results")]
        return lookalike(stage, *places, *overrides, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")

    shutil.copytree(heights_cell / "artifacts", before / "artifacts")
    call("record", before)
    call("register", before)
    assert before.as_uri() in places(before / "mlflow.db")
    before.rename(moved)
    call("train", moved, "model=mixture")
    assert not before.exists()
    assert [len(files(run)) for run in runs(moved / "mlflow.db")] == [2, 5]
    assert before.as_uri() not in places(moved / "mlflow.db")

    shutil.copytree(moved, copied)
    original = places(moved / "mlflow.db")
    call("sample", copied, "model=mixture")
    assert [len(files(run)) for run in runs(copied / "mlflow.db")] == [4, 5]
    assert [len(files(run)) for run in runs(moved / "mlflow.db")] == [2, 5]
    assert places(moved / "mlflow.db") == original
    assert str(moved) not in places(copied / "mlflow.db")
    shutil.rmtree(moved)
    done = subprocess.run(
        [sys.executable, "-c", "import mlflow; mlflow.pyfunc.load_model('models:/lookalike-heights@vae')"],
        env=variables(MLFLOW_TRACKING_URI=f"sqlite:///{copied}/mlflow.db", PYTHONPATH=""),
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
