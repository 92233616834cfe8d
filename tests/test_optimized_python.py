"""Tests that stages work, and still check their inputs, where Python drops assertions and docstrings."""

import os
import subprocess
import sys
from pathlib import Path

from lookalike.workspace.configuration import ROOT


def run_optimized(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of this checkout under `python -OO`, with all that it writes below a folder."""
    places = [f"paths.{kind}={folder / kind}" for kind in ("artifacts", "scratch")]
    env = os.environ | {"PYTHONOPTIMIZE": "2", "PYTHONPATH": str(ROOT / "src")}
    settings = [] if "--help" in command else ["data=heights", "budget=smoke", "tracking=none", *places]
    arguments = [sys.executable, "-m", "lookalike", *command, *settings]
    return subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=False)


def test_a_cell_is_trained_and_scored_and_mistakes_are_refused_without_assertions(
    tmp_path: Path, raw_data: Path
) -> None:
    for command in (
        ("prepare", f"paths.data={raw_data}"),
        ("features",),
        ("train", "model=vae"),
        ("sample", "model=vae"),
        ("evaluate", "model=vae"),
    ):
        done = run_optimized(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    for mistake in ("data.batch_size=100000", "model.components=0", "likelihood=null", "optimizer={lrr: 1}"):
        done = run_optimized(tmp_path, "train", "model=vae", mistake)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert mistake.split("=")[0] in done.stderr


def test_help_is_printed_without_docstrings(tmp_path: Path) -> None:
    done = run_optimized(tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout
