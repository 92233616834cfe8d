"""Hide the user's environment from tests: variables that steer a tool, and the home folder with its settings.

`conftest.py` imports this module before any other, in the process that pytest starts in and in those that xdist starts.
"""

import atexit
import os
import re
import shutil
import tempfile

STEERS = re.compile(
    r"(MLFLOW|WANDB|DVC|GIT|HYDRA|OPTUNA|RAY|SLURM|SLURMD|SRUN|PL|TORCH|TORCHELASTIC|OMP|MKL|OPENBLAS|XDG)_.*|MPL.*"
    r"|MAKE(FLAGS|LEVEL|FILES|OVERRIDES)|MFLAGS"
    r"|PYTHON(?!PATH$|DONTWRITEBYTECODE$).*|NETRC|RANK|WORLD_SIZE|(LOCAL|GROUP)_RANK|MASTER_(ADDR|PORT)"
)
"""Names of variables that change what a command does."""

if "TESTS_HOME" not in os.environ:
    for name in filter(STEERS.fullmatch, list(os.environ)):
        del os.environ[name]
    os.environ["TESTS_HOME"] = os.environ["HOME"] = tempfile.mkdtemp(prefix="home-")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
