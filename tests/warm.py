"""Run scripts in processes forked from one that has imported the large libraries once.

Tests start dozens of scripts, and each would spend seconds on importing torch, Lightning and MLflow. Nothing of this
project is imported beforehand, so every script runs the code of its own checkout. Tests of the start of a process
(signals, limits, duration) start a real one.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

IMPORTS = ("torch", "pytorch_lightning", "mlflow", "hydra", "optuna", "matplotlib.figure", "scipy.stats")

ALONE = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OPENBLAS_NUM_THREADS": "1",
}
"""By which none of these starts a thread of its own when it is imported: a fork has but one."""


ROOT = Path(__file__).resolve().parents[1]


class Warm:
    """A process that forks others, one at a time.

    Args:
        clean: returns a clean copy of this checkout. What is to run in this one runs there, so that it sees nothing of
            the artifacts and sweeps of whoever runs the tests.
    """

    def __init__(self, clean: Callable[[], Path]) -> None:
        self.clean = clean
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHONPATH"))}
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=kept | ALONE, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, script: str, *arguments: str, cwd: Path, env: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """A script to its end, its output as text.

        Raises:
            subprocess.TimeoutExpired: it took longer; it was killed, and with it the process that would fork others.
        """
        if cwd == ROOT:
            cwd = self.clean()
            env = env | {"PYTHONPATH": env.get("PYTHONPATH", "").replace(f"{ROOT}", f"{cwd}")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            outputs = [Path(folder) / name for name in ("out", "err")]
            job = {"command": [script, *arguments], "cwd": str(cwd), "env": env, "outputs": [str(p) for p in outputs]}
            print(json.dumps(job), file=self.process.stdin, flush=True)
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired([script, *arguments], timeout)
            status = int(self.process.stdout.readline())
            texts = [path.read_text() for path in outputs]
        return subprocess.CompletedProcess([script, *arguments], status, *texts)

    def close(self) -> None:
        """Let the process end."""
        self.process.communicate()


def become(command: list[str], cwd: str, env: dict[str, str], outputs: list[str]) -> None:
    """Be a script that was just started."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    sys.orig_argv = [sys.executable, *command]
    sys.path[:1] = [str(Path(command[0]).parent.resolve()), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    if command[0] == "lookalike":
        runpy.run_module("lookalike", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(command[0], run_name="__main__")


def serve() -> None:
    """Import, then fork for every line of standard input, and answer each with an exit status."""
    for name in IMPORTS:
        importlib.import_module(name)
    assert psutil.Process().num_threads() == 1, "a fork would lose the other threads"
    gc.freeze()
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            become(**json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
