"""A served model under 200 parallel and malformed requests: bounded, and the answers stay right."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from fault_fixtures import Done
from pipeline_fixtures import quick
from server_helpers import environment as variables
from server_helpers import eventually, free_port

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

MEMORY_BYTES = 600 * 2**20
"""How much the processes of the server may grow."""

Answer = tuple[int, Any]


class Service:
    """`mlflow models serve` of the champion of heights."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.port, self.log = free_port(), folder / "serve.log"
        command = ["models", "serve", "-m", "models:/lookalike-heights@champion", "--env-manager", "local"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command, "--port", str(self.port), "--workers", "1"],
                env=variables(MLFLOW_TRACKING_URI=uri), cwd=folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        return False

    def post(self, body: bytes, kind: str = "application/json") -> Answer:
        """Return the status and the content of the answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        with contextlib.closing(connection):
            connection.request("POST", "/invocations", body, {"Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read()
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, content.decode(errors="replace")

    def ask(self, **request: Any) -> Answer:
        return self.post(json.dumps({"inputs": [request]}).encode())

    def memory(self) -> int:
        """Return the memory of all processes in bytes."""
        root = psutil.Process(self.process.pid)
        return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture(scope="module")
def service(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, checkout: Path, run: Callable[..., Done],
    places: Callable[[Path], list[str]], environment: Callable[[Path], dict[str, str]],
    empty_store: Callable[[Path], str],
) -> Iterator[Service]:  # fmt: skip
    """The registered VAE of heights, served."""
    folder = tmp_path_factory.mktemp("served")
    uri = empty_store(folder / "mlflow.db")
    env = environment(checkout) | {"MLFLOW_TRACKING_URI": uri}
    command = ("register", "data=heights", *quick("heights", "vae")[1:2], *places(whole))
    done = run(checkout, "python", "-m", "lookalike", *command, env=env)
    assert done.returncode == 0, done.stderr
    service = Service(folder, uri)
    try:
        eventually(service.answers, service.log.read_text)
        yield service
    finally:
        service.stop()


DEEP = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
MALFORMED: list[tuple[bytes, str]] = [
    (b"", "application/json"),
    (b"{", "application/json"),
    (b"\x00\xff\xfe" * 100, "application/json"),
    (b"null", "application/json"),
    (b"[]", "application/json"),
    (b'{"inputs": 3}', "application/json"),
    (b'{"inputs": [{"count": "many"}]}', "application/json"),
    (b'{"inputs": [{"count": 1e99}]}', "application/json"),
    (b'{"inputs": [{"count": 100000000}]}', "application/json"),
    (b'{"inputs": [{"count": -1}]}', "application/json"),
    (b'{"inputs": [{"count": 1, "seed": -7}]}', "application/json"),
    (b'{"inputs": [{"count": 1, "path": "/etc/passwd"}]}', "application/json"),
    (b'{"inputs": [{"data": [[NaN]]}]}', "application/json"),
    (b'{"inputs": [{"data": [["x"]]}]}', "application/json"),
    (b'{"inputs": [{"data": [[1e308]]}]}', "application/json"),
    (b'{"inputs": [{"data": []}]}', "application/json"),
    (b'{"inputs": [' + b'{"count": 10000},' * 50 + b'{"count": 1}]}', "application/json"),
    (DEEP, "application/json"),
    (b'{"inputs": [{"data": [' + b"[1.0]," * 200_000 + b"[1.0]]}]}", "application/json"),
    (b"count\n5\n", "text/csv"),
    (b"<x/>", "application/xml"),
    (b"cos\nsystem\n(S'touch pwned'\ntR.", "application/octet-stream"),
]


def garbage(port: int) -> None:
    """Talk nonsense to a server."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, contextlib.suppress(OSError):
        connection.sendall(b"\x16\x03\x01" + os.urandom(200) + b"\r\n\r\n")
        connection.recv(1000)


def check_load(service: Service, *, total: int) -> None:
    """Send requests, half of them malformed, in parallel; good ones get the answers that they get alone."""
    rows = [[66.0], [70.5]]
    alone = {seed: service.ask(count=20, seed=seed) for seed in range(4)}
    score = service.ask(data=rows)
    assert {status for status, _ in [*alone.values(), score]} == {200}, (alone, score)
    before = service.memory()
    waiting = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(10)]  # they never send anything
    for connection in waiting[:5]:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")

    def one(number: int) -> Answer:
        if number % 40 == 39:
            garbage(service.port)
            return 0, None
        if number % 2:
            return service.post(*MALFORMED[number // 2 % len(MALFORMED)])
        return service.ask(data=rows) if number % 8 == 6 else service.ask(count=20, seed=number // 2 % 4)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(one, range(total)))
    for connection in waiting:
        connection.close()
    for number, (status, content) in enumerate(answers):
        if number % 2 == 0:
            assert (status, content) == (score if number % 8 == 6 else alone[number // 2 % 4]), number
        elif number % 40 != 39:
            body = MALFORMED[number // 2 % len(MALFORMED)][0]
            # MLflow's server reads the lists itself, and gives up a hundred thousand of them in each other.
            assert 400 <= status < 500 or (body, status) == (DEEP, 500), (body[:80], status, str(content)[:500])
            assert "Traceback" not in str(content), (body[:80], str(content)[:2000])
    assert service.memory() - before < MEMORY_BYTES
    assert service.ask(count=20, seed=3) == alone[3]
    assert not list(service.log.parent.glob("pwned"))


def test_sixty_requests_at_once(service: Service) -> None:
    check_load(service, total=60)


@pytest.mark.slow
def test_two_hundred_requests_at_once(service: Service) -> None:
    check_load(service, total=200)
