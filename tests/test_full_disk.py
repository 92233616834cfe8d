"""A disk that is too small: one line that names the place, and everything that stood there before is whole."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pipeline_fixtures"]

Contents = Callable[[Path], dict[str, str]]

SMALL = """
mount -t tmpfs -o size={size}k tmpfs {place} && cp -r {start}/. {place} || exit 99
{command}
status=$?
cp -r {place} {after}
exit $status
"""
"""Runs a command while a small disk is mounted, which nobody else sees, and keeps what is on it afterwards."""


def on_small_disk(place: Path, kilobytes: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run `lookalike` with a folder on a disk of that size; afterwards `<folder>-after` holds what is on the disk."""
    start = place.with_name(f"{place.name}-start")
    start.mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
    quoted = " ".join([sys.executable, "-m", "lookalike", *command])
    script = SMALL.format(size=kilobytes, place=place, start=start, after=f"{place}-after", command=quoted)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    user = ["--map-root-user"] if os.getuid() else []
    done = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 99 or shutil.which("mount") is None:
        pytest.skip(f"no disk can be mounted here: {done.stderr}")
    return done


pytestmark = pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux's namespaces")

TRAINING = ("data=heights", "model=vae", "budget=smoke", "budget.scale=0.01", "tracking=none")


def test_a_scratch_folder_that_is_too_small_keeps_the_last_whole_checkpoint(
    heights_cell: Path, tmp_path: Path, contents: Contents, call_stage: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for name in ("whole", "small"):
        shutil.copytree(heights_cell / "artifacts" / "heights" / "prepared", tmp_path / name / "heights" / "prepared")
    whole = [*TRAINING, f"paths.artifacts={tmp_path / 'whole'}", f"paths.scratch={tmp_path / 'unused'}"]
    assert call_stage("train", *whole).returncode == 0

    scratch, chosen = tmp_path / "scratch", [*TRAINING, f"paths.artifacts={tmp_path / 'small'}"]
    done = on_small_disk(scratch, 320, "train", *chosen, f"paths.scratch={scratch}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot write a checkpoint of 0.2 MB to " + str(scratch))
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1

    kept = tmp_path / "scratch-after"
    assert [path.name for path in kept.glob("*/*")] == ["last.ckpt"]
    again = call_stage("train", *chosen, f"paths.scratch={kept}")
    assert again.returncode == 0, again.stderr
    assert "continuing from step" in again.stdout
    name = "heights/vae/0/train/weights.safetensors"
    assert (tmp_path / "small" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("stage", ["train", "sample", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_a_full_disk_of_results_ends_a_stage_in_one_line_and_changes_nothing(
    stage: str, heights_cell: Path, tmp_path: Path, contents: Contents
) -> None:
    shutil.copytree(heights_cell / "artifacts", tmp_path / "artifacts")
    start, place = tmp_path / "cell-start", tmp_path / "cell"
    shutil.copytree(tmp_path / "artifacts" / "heights" / "vae" / "0", start)
    before = contents(start)
    pages = sum(1 + path.stat().st_size // 4096 for path in start.rglob("*") if path.is_file())
    places = [
        f"paths.artifacts={tmp_path / 'artifacts'}",
        f"paths.cell={place}",
        f"paths.scratch={tmp_path / 'scratch'}",
    ]
    done = on_small_disk(place, 4 * pages + 4, stage, *TRAINING, *places)
    problem = f"error: cannot write to {place / stage}: No space left on device; what stood there before is unchanged\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", problem)
    assert contents(tmp_path / "cell-after") == before
