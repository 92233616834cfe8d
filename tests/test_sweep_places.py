"""Tests of where a sweep can run and write: folders with any name, and Hydra's own options for places."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.workspace.grammar import quoted

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]

COMMON = ("data=heights", "budget=smoke", "budget.scale=0.01")


@pytest.fixture(scope="module")
def strange(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared checkout whose name has everything that Hydra gives a meaning to."""
    place = tmp_path_factory.mktemp("strange") / "my project (2), josé's a,b x=y [z] {1} ${w} \\"
    shutil.copytree(home, place, symlinks=True)
    return place


@pytest.fixture(scope="module")
def command(strange: Path, run: Callable[..., Done]) -> Callable[..., Done]:
    """`command(name, *overrides, code=0)`: a command of `lookalike` in that checkout, which has to end with a code."""

    def start(name: str, *overrides: str, code: int = 0) -> Done:
        done = run(strange, "python", "-m", "lookalike", name, *overrides)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return start


def counts(folder: Path) -> dict[str, int]:
    """Return how many trials of a sweep ended in each way."""
    found: dict[str, int] = json.loads((folder / "summary.json").read_text())["counts"]
    return found


LAUNCHERS = {
    "basic": ["model=mixture", "seed=0,1"],
    "joblib": ["model=mixture", "seed=2,3", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["model=mixture", "seed=4,5"],
    "ray": ["model=mixture", "seed=6,7"],
}


@pytest.mark.parametrize(
    "launcher",
    ["basic", "joblib", *(pytest.param(name, marks=pytest.mark.slow) for name in ("submitit_local", "ray"))],
)
def test_a_grid_runs_in_a_folder_of_any_name(strange: Path, command: Callable[..., Done], launcher: str) -> None:
    pytest.importorskip("submitit" if "submitit" in launcher else launcher if launcher != "basic" else "joblib")
    beside = set(strange.parent.iterdir())
    done = command("sweep", *COMMON, f"hydra/launcher={launcher}", f"sweep.name={launcher}", *LAUNCHERS[launcher])
    assert counts(strange / "multirun" / launcher) == {"finished": 2}
    assert "tracking:" not in done.stderr
    assert set(strange.parent.iterdir()) == beside


def test_a_search_runs_in_a_folder_of_any_name_and_its_winner_is_promoted(
    strange: Path, command: Callable[..., Done], run: Callable[..., Done]
) -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "+search=vae", "sweep.name=search"]
    command("sweep", *COMMON, *search)
    assert counts(strange / "multirun" / "search") == {"finished": 2}
    best = json.loads((strange / "multirun" / "search" / "summary.json").read_text())["configurations"][0]
    assert "promoted" in command("promote", "search", f"trial={best['trials'][0][:8]}").stdout
    run(strange, "git", "checkout", "-q", "conf")


def test_paths_of_any_name_are_read_and_written(strange: Path, command: Callable[..., Done]) -> None:
    elsewhere = strange.parent / "x=y (1), é"
    shutil.copytree(strange / "artifacts", elsewhere / "artifacts")
    places = [f"paths.{kind}={quoted(elsewhere / kind)}" for kind in ("artifacts", "scratch")]
    asked = f"hydra.sweep.dir={quoted(elsewhere / 'sweep, 1')}"
    for _ in range(2):
        command("sweep", *COMMON, "model=uniform,mixture", *places, asked, "hydra/launcher=joblib")
    assert counts(elsewhere / "sweep, 1") == {"finished": 2}
    assert {path.name for path in elsewhere.iterdir()} <= {"artifacts", "scratch", "sweep, 1", "trials"}
