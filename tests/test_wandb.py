"""Tests of W&B: who counts as logged in, and which run a model has. A small server answers like W&B's."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from server_helpers import environment

KEY = "0" * 40
VIEWER = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
FINGERPRINT = "0123456789abcdef"


class FakeServer(ThreadingHTTPServer):
    """Answer W&B's questions for the user and for the runs with a fingerprint."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, str] = {}
        """The id of the run with a fingerprint."""
        self.host = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: FakeServer

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        asked: Any = json.loads(content) if self.path == "/graphql" else {"query": ""}
        data: Any = {"viewer": VIEWER}
        if "runs(" in asked["query"]:
            wanted = str(asked["variables"]["filters"])
            ids = [id_ for fingerprint, id_ in self.server.runs.items() if fingerprint in wanted or id_ in wanted]
            edges = [{"node": {"id": id_, "name": id_, "projectId": "7", "tags": []}, "cursor": "0"} for id_ in ids]
            page = {"endCursor": None, "hasNextPage": False}
            data = {"project": {"internalId": "7", "readOnly": False, "runs": {"edges": edges, "pageInfo": page}}}
            data["project"]["runCount"] = len(ids)
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A self-hosted server; this user has nothing of W&B yet."""
    import wandb

    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    fake = FakeServer()
    thread = threading.Thread(target=fake.serve_forever, daemon=True)
    thread.start()
    yield fake
    wandb.teardown()
    fake.shutdown()
    thread.join()


def is_offline() -> bool:
    """Return whether a new process would record offline."""
    import wandb

    from lookalike.tracking.wandb_runs import WandbRuns

    wandb.teardown()
    return WandbRuns(project="lookalike").mode == "offline"


def test_who_logged_in_to_a_server_of_their_own_is_online(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_offline()
    monkeypatch.setenv("NETRC", str(tmp_path / "keys"))
    (tmp_path / "keys").write_text(f"machine {server.host} login user password {KEY}\n")
    assert is_offline(), "the key is that of another server"
    monkeypatch.setenv("WANDB_BASE_URL", f"http://{server.host}")
    assert not is_offline()
    monkeypatch.delenv("NETRC")
    assert is_offline()
    (tmp_path / ".netrc").write_text(f"machine {server.host} login user password {KEY}\n")
    assert not is_offline()
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert not is_offline()


def test_a_run_that_was_deleted_on_the_server_gets_another_id_and_is_recorded_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lookalike.tracking.wandb_runs import WandbRun, WandbRuns

    monkeypatch.setenv("WANDB_BASE_URL", f"http://{server.host}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    project = WandbRuns(project="lookalike")
    record = {
        "fingerprint": FINGERPRINT, "name": "heights-vae", "data_digest": "d", "code_digest": "c",
        "domain": {"name": "heights"}, "configuration": {"model": {}, "seed": 0},
    }  # fmt: skip

    def opened() -> WandbRun:
        return project.open(record, training=False)

    first = opened()
    assert first.arguments["config"]["fingerprint"] == FINGERPRINT
    assert first.arguments["id"] != FINGERPRINT
    server.runs[FINGERPRINT] = first.arguments["id"]
    project.ledger.note(FINGERPRINT, {"train": "a digest"})
    assert (opened().arguments["id"], opened().recorded("train")) == (first.arguments["id"], "a digest")
    del server.runs[FINGERPRINT]
    again = opened()
    assert again.arguments["id"] != first.arguments["id"]
    assert again.recorded("train") is None
    server.runs[FINGERPRINT] = "made-elsewhere"
    assert (opened().arguments["id"], opened().recorded("train")) == ("made-elsewhere", None)
