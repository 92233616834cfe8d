"""Variables and signals of launchers and clusters around a stage that one process was asked for: its bytes stay."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.stages.prepare import prepare
from lookalike.stages.train import train
from lookalike.workspace.configuration import compose

pytest_plugins = ["pipeline_fixtures"]

Contents = Callable[[Path], dict[str, str]]

SLURM = {
    "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "job", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "1", "SLURM_NODELIST": "node[1-2]",
    "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "node[1-2]",
}  # fmt: skip

OTHERS = {
    "RANK": "3", "LOCAL_RANK": "3", "NODE_RANK": "x", "GROUP_RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "",
    "MASTER_ADDR": "nowhere", "MASTER_PORT": "x", "LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/none", "LSB_HOSTS": "a b",
    "JSM_NAMESPACE_RANK": "2", "JSM_NAMESPACE_LOCAL_RANK": "2", "JSM_NAMESPACE_SIZE": "4", "KUBERNETES_PORT": "x",
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMI_SIZE": "4", "PMI_RANK": "3", "PMIX_RANK": "3",
    "PL_TRAINER_ACCUMULATE_GRAD_BATCHES": "4", "PL_TRAINER_LIMIT_TRAIN_BATCHES": "3", "PL_GLOBAL_SEED": "x",
}  # fmt: skip
"""Variables of torchrun, LSF, Kubeflow, MPI and Lightning; the last kind changes how Lightning trains."""


def stage(name: str, *overrides: str, **variables: str) -> subprocess.Popen[str]:
    """Start a stage with further environment variables."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables
    return subprocess.Popen(
        [sys.executable, "-m", "lookalike", name, *overrides], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, raw_data: Path) -> Path:
    """A folder whose `artifacts/` holds the prepared heights alone."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(compose(["data=heights", f"paths.data={raw_data}", f"paths.artifacts={folder / 'artifacts'}"]))
    return folder


def overrides(prepared: Path, folder: Path, *more: str) -> list[str]:
    """Copy the prepared heights into a folder and return the overrides of a short training there."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    places = [f"paths.{kind}={folder / kind}" for kind in ("artifacts", "scratch")]
    return ["data=heights", "model=vae", "budget=smoke", "budget.scale=0.01", "tracking=none", *places, *more]


def weights(folder: Path) -> bytes:
    return (folder / "artifacts" / "heights" / "vae" / "0" / "train" / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> bytes:
    """The weights of a training in plain surroundings."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(compose(overrides(prepared, folder)))
    return weights(folder)


@pytest.mark.parametrize("variables", [SLURM, OTHERS], ids=["slurm", "others"])
def test_a_training_in_one_process_takes_nothing_from_its_surroundings(
    variables: dict[str, str], undisturbed: bytes, prepared: Path, tmp_path: Path
) -> None:
    chosen = {name: value for name, value in variables.items() if value}
    out, err = (process := stage("train", *overrides(prepared, tmp_path), **chosen)).communicate(timeout=300)
    assert (process.returncode, err, out.count("\n")) == (0, "", 1), out
    assert weights(tmp_path) == undisturbed


def test_an_incomplete_environment_of_torchrun_is_that_of_no_launcher(
    undisturbed: bytes, prepared: Path, tmp_path: Path
) -> None:
    process = stage("train", *overrides(prepared, tmp_path), TORCHELASTIC_RUN_ID="x", RANK="1")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err, out.count("\n")) == (0, "", 1), out
    assert weights(tmp_path) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_job_that_slurm_ends_and_starts_again_has_the_same_weights(
    number: signal.Signals, undisturbed: bytes, prepared: Path, tmp_path: Path, contents: Contents
) -> None:
    """Lightning would write a checkpoint of its own in the middle of a step, and requeue the job by itself."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/requeued\n")
    scontrol.chmod(0o755)
    one_task = SLURM | {
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0",
        "SLURM_STEP_NUM_TASKS": "1",
    }
    variables = one_task | {"PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    chosen = overrides(prepared, tmp_path)
    before = contents(tmp_path / "artifacts")
    process = stage("train", *chosen, **variables)
    while not list(tmp_path.glob("scratch/*/last.ckpt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert contents(tmp_path / "artifacts") == before
    assert not (tmp_path / "requeued").exists()
    assert [path.name for path in tmp_path.glob("scratch/*/*")] == ["last.ckpt"]
    again = stage("train", *chosen, **variables)
    out, err = again.communicate(timeout=300)
    assert (again.returncode, err) == (0, ""), out
    assert "continuing from step" in out
    assert weights(tmp_path) == undisturbed


@pytest.mark.slow
def test_features_samples_and_scores_take_nothing_from_their_surroundings(
    few_digits: Path, tmp_path: Path, contents: Contents
) -> None:
    """The features stage trains an extractor."""
    found = []
    for name, variables in (("plain", {}), ("slurm", SLURM), ("others", OTHERS)):
        folder = tmp_path / name
        shutil.copytree(few_digits, folder)
        places = [f"paths.{kind}={folder / kind}" for kind in ("artifacts", "scratch")]
        chosen = ["data=mnist", "model=mixture", "budget=smoke", "tracking=none", "budget.features=0.001", *places]
        for work in ("features", "train", "sample", "evaluate"):
            process = stage(work, *chosen, **{name: value for name, value in variables.items() if value})
            out, err = process.communicate(timeout=900)
            assert (process.returncode, err) == (0, ""), out
        costs = ("cost.json",)
        found.append(
            {path: digest for path, digest in contents(folder / "artifacts").items() if not path.endswith(costs)}
        )
    assert found[0] == found[1] == found[2]


def test_a_sweep_with_workers_takes_nothing_from_its_surroundings(
    home: Path, sweep: Callable[..., object], environment: Callable[[Path], dict[str, str]]
) -> None:
    sweep(
        "model=vae", "budget.scale=0.01", "optimizer.lr=0.001,0.002", "tracking=none", "sweep.name=surrounded",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", env=environment(home) | SLURM,
    )  # fmt: skip
    states = [json.loads(path.read_text()) for path in (home / "multirun" / "surrounded" / "trials").glob("*.json")]
    assert [state["state"] for state in states] == ["finished"] * 2
