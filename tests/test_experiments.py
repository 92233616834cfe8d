"""Tests of DVC experiments with files that are new."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]


@pytest.mark.slow
def test_training_a_new_family_names_the_command_that_a_queued_experiment_needs(
    home: Path, run: Callable[..., Done], tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(home, checkout, symlinks=True)
    old, new = "mixture", "newfam"
    shutil.copy(checkout / f"src/lookalike/families/{old}.py", checkout / f"src/lookalike/families/{new}.py")
    text = (checkout / f"conf/model/{old}.yaml").read_text()
    (checkout / f"conf/model/{new}.yaml").write_text(text.replace(f"families.{old}", f"families.{new}"))
    listed = (checkout / "conf" / "pipeline.yaml").read_text()
    (checkout / "conf" / "pipeline.yaml").write_text(listed.replace("[vae]", f"[{new}]"))
    train = ["python", "pipelines/train.py", "data=heights", "budget=smoke", "tracking=none"]
    done = run(checkout, *train, f"model={new}")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "git add -N" in line]
    assert len(said) == 1
    advice = said[0].partition("`dvc exp run`: ")[2].split()
    assert advice == ["git", "add", "-N", f"conf/model/{new}.yaml", f"src/lookalike/families/{new}.py"]
    assert run(checkout, *advice).returncode == 0
    assert "git add" not in run(checkout, *train, f"model={new}").stderr
    assert "git add" not in run(checkout, *train, "model=mixture").stderr
    queued = run(checkout, "dvc", "exp", "run", "--queue")
    assert queued.returncode == 0, queued.stderr
    done = run(checkout, "dvc", "exp", "run", "--run-all")
    assert "No such file" not in done.stdout + done.stderr
    assert f"train@heights-{new}-0" in done.stdout + done.stderr
