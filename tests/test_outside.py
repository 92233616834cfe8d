"""Tests see nothing of the variables and the home folder of whoever runs them."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

HOSTILE = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_RUN_ID": "0", "WANDB_MODE": "online", "HYDRA_FULL_ERROR": "1",
    "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "job", "SLURM_NTASKS": "4", "RANK": "3", "WORLD_SIZE": "4",
    "PYTHONOPTIMIZE": "1", "PYTHONUTF8": "0", "GIT_DIR": "/nowhere", "DVC_STUDIO_TOKEN": "0", "NETRC": "/nowhere",
    "OMP_NUM_THREADS": "7", "XDG_CONFIG_HOME": "/nowhere",
}  # fmt: skip


def test_no_variable_that_steers_a_tool_is_seen() -> None:
    assert HOSTILE.keys() & os.environ.keys() == set()
    assert Path.home() != Path(pwd.getpwuid(os.getuid()).pw_dir)


def test_nor_in_an_environment_that_is_full_of_them() -> None:
    env = {name: value for name, value in os.environ.items() if name != "TESTS_HOME"} | HOSTILE
    home = pwd.getpwuid(os.getuid()).pw_dir
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", __file__, "-k", "no_variable"], env=env | {"HOME": home},
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED tests/test_outside.py::test_no_variable" in done.stdout
