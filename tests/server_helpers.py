"""An MLflow server on the loopback interface that belongs to one test."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

PATIENCE = 600.0


def environment(**more: str) -> dict[str, str]:
    """Return the environment without variables that name a tracking server."""
    outside = ("MLFLOW_", "WANDB_", "DVC_", "PYTEST_")
    return {k: v for k, v in os.environ.items() if not k.startswith(outside)} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **more,
    }


def free_port() -> int:
    """Return a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(found: Callable[[], object], problem: Callable[[], str] = lambda: "it did not happen in time") -> None:
    """Wait until another process has done something."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.05)


class Server:
    """`mlflow server` on a free port of the loopback, with a database."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database, self.port = folder, database, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.start()

    def start(self) -> None:
        """Start the server, always on the same port, and wait until it answers."""
        places = ["--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "artifacts")]
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *places, *listen],
                env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            eventually(self.answers, self.log.read_text)
        except BaseException:
            self.send(signal.SIGKILL)
            raise

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def send(self, number: int) -> None:
        """Send a signal to all of its processes, and wait if the signal ends them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        if number in (signal.SIGTERM, signal.SIGKILL):
            self.process.wait(PATIENCE)

    def stop(self) -> None:
        try:
            self.send(signal.SIGTERM)
        finally:
            self.send(signal.SIGKILL)
