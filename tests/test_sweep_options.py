"""Tests of what a sweep does with Hydra's options and Python's: obeyed, or refused with the way that works."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]

COMMON = ("budget.scale=0.01", "tracking=none")


def counts(folder: Path) -> dict[str, int]:
    """Return how many trials of a sweep ended in each way."""
    found: dict[str, int] = json.loads((folder / "summary.json").read_text())["counts"]
    return found


def test_a_sweep_s_folder_can_be_chosen_and_holds_nothing_else(
    home: Path, sweep: Callable[..., Done], tmp_path: Path
) -> None:
    for _ in range(2):
        sweep(*COMMON, "model=uniform", "seed=0,1", f"hydra.sweep.dir={tmp_path}/own", "+hydra.job.env_set.NOTE=1")
    assert counts(tmp_path / "own") == {"finished": 2}
    assert {path.name for path in tmp_path.iterdir()} == {"own", "trials"}
    assert not (home / "multirun").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    for asked, more in (("notes", []), ("trials", []), ("own", ["sweep.name=x"])):
        done = sweep(*COMMON, "model=uniform", f"hydra.sweep.dir={tmp_path / asked}", *more, code=1)
        assert f"hydra.sweep.dir={tmp_path / asked}: " in done.stderr


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir: a sweep cannot obey it. Its folder is hydra.sweep.dir"),
        ("hydra.run.dir=x", "hydra.run.dir: a sweep cannot obey it"),
        ("hydra.mode=RUN", "hydra.mode: a sweep cannot obey it"),
        ("hydra.output_subdir=.hydra", "hydra.output_subdir: a sweep cannot obey it"),
        ("hydra.job.name=x", "hydra.job.name: a sweep cannot obey it"),
        ("hydra.job.config_name=config", "hydra.job.config_name: a sweep cannot obey it"),
        ("+hydra.job.env_copy=[HOME]", "hydra.job.env_copy: a sweep cannot obey it"),
        ("~hydra.help", "hydra.help: a sweep cannot obey it"),
        ("--config-name=x", "'--config-name=x': write KEY=VALUE"),
        ("hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=0: it must be a whole number above 0"),
        ("hydra.launcher.n_jobs=2", "unknown key 'hydra.launcher.n_jobs'"),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "the launcher started no trial (ValueError: n_jobs == 0"),
        ("hydra/sweeper=optuna +search=vae hydra.sweeper.startup=-1", "hydra.sweeper.startup=-1: it must be a whole"),
        ("hydra/sweeper=optuna +search=vae hydra.sweeper.seed=x", "hydra.sweeper.seed=x: it must be a whole number"),
    ],
)
def test_an_option_that_a_sweep_cannot_obey_is_refused(sweep: Callable[..., Done], option: str, says: str) -> None:
    model = [] if "+search" in option else ["model=uniform"]
    done = sweep(*COMMON, *model, *option.split(), code=1)
    assert f"error: {says}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("level", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_sweeps_run_in_a_python_without_assert_statements(
    home: Path, sweep: Callable[..., Done], environment: Callable[[Path], dict[str, str]], level: str
) -> None:
    env = environment(home) | {"PYTHONOPTIMIZE": level}
    grid = ["model=mixture", f"seed=range(0,{level})", "hydra/launcher=joblib"]
    sweep(*COMMON, *grid, f"sweep.name=grid{level}", env=env, fresh=True)
    search = ["hydra/sweeper=optuna", "+search=vae", "hydra.sweeper.n_trials=2"]
    sweep(*COMMON, *search, f"sweep.name=search{level}", env=env, fresh=True)
    assert counts(home / "multirun" / f"grid{level}") == {"finished": int(level)}
    assert counts(home / "multirun" / f"search{level}") == {"finished": 2}


def test_a_data_set_with_hyphens_is_searched_and_promoted(home: Path, run: Callable[..., Done], tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(home, checkout, symlinks=True)

    def command(*arguments: str) -> Done:
        done = run(checkout, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    shutil.copytree(checkout / "data" / "heights", checkout / "data" / "cifar-10")
    text = (checkout / "conf" / "data" / "heights.yaml").read_text()
    (checkout / "conf" / "data" / "cifar-10.yaml").write_text(text.replace("name: heights", "name: cifar-10"))
    listed = (checkout / "conf" / "pipeline.yaml").read_text()
    (checkout / "conf" / "pipeline.yaml").write_text(listed.replace("[heights]", "[cifar-10]"))
    command("dvc", "repro", "features@cifar-10")
    command("git", "add", "-A")
    command("git", "commit", "-qm", "A data set")
    sweep = ["python", "-m", "lookalike", "sweep", "data=cifar-10", "budget=smoke", *COMMON]
    command(*sweep, "model=vae", "optimizer.lr=1e-3,2e-3", "sweep.name=hyphens")
    row = json.loads((checkout / "multirun" / "hyphens" / "summary.json").read_text())["configurations"][0]
    assert (row["data"], row["model"]) == ("cifar-10", "vae")
    done = command("python", "-m", "lookalike", "promote", "hyphens", f"trial={row['trials'][0]}")
    assert "dvc repro evaluate@cifar-10-vae-0" in done.stdout
    assert os.fspath(Path("conf/model/vae.yaml")) in command("git", "status", "--porcelain").stdout
