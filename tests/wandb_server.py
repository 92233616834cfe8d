"""A small server that answers like that of W&B, as far as recording, asking and `wandb sync` need it."""

import gzip
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIEWER = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}

Record = dict[str, Any]


class FakeServer(ThreadingHTTPServer):
    """The server on a free port of the loopback.

    Attributes:
        runs: the id of the run with a fingerprint, as a test sets it.
        held: what was received of each run, by project and id.
        uploads: the content of each file that was received, by its name.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, str] = {}
        self.held: dict[tuple[str, str], Record] = {}
        self.uploads: dict[str, bytes] = {}
        self.host = f"127.0.0.1:{self.server_port}"
        self.uri = f"http://{self.host}"

    def handle_error(self, *_: Any) -> None: ...  # A client may go away.

    # Answers to questions

    def answer(self, query: str, asked: Record) -> Record:
        """Return the data that answer a question."""
        artifact = {"id": "a", "state": "PENDING", "artifactSequence": {"id": "s", "latestArtifact": None}}
        manifest = {"id": "m", "file": {"uploadUrl": f"{self.uri}/upload/manifest", "uploadHeaders": []}}
        answers: dict[str, Callable[[Record], Record]] = {
            "upsertBucket(": self.upsert,
            "query RunResumeStatus": self.resume,
            "createRunFiles(": self.create_files,
            "createArtifact(": lambda _: {"artifact": artifact},
            "createArtifactManifest(": lambda _: {"artifactManifest": manifest},
            "createArtifactFiles(": self.create_artifact_files,
            "commitArtifact(": lambda _: {"artifact": {"id": "a", "digest": "d"}},
        }
        for name, make in answers.items():
            if name in query:
                field = name.rstrip("(") if name.endswith("(") else "model"
                return {field: make(asked)}
        if "serverInfo" in query:
            return {"serverInfo": {"features": []}}
        if "query ArtifactType" in query:
            return {"project": {"artifact": None}}
        return {"project": self.search(asked)} if "runs(" in query else {"viewer": VIEWER}

    def search(self, asked: Record) -> Record:
        """Return the runs of a project with a fingerprint or an id that is wanted."""
        wanted = str(asked["filters"])
        known = {id_: fingerprint for fingerprint, id_ in self.runs.items()}
        for (project, id_), run in self.held.items():
            if project == asked["project"]:
                known[id_] = run["config"]["fingerprint"]
        ids = [id_ for id_, fingerprint in known.items() if fingerprint in wanted or id_ in wanted]
        edges = [{"node": {"id": id_, "name": id_, "projectId": "7", "tags": []}, "cursor": "0"} for id_ in ids]
        page = {"endCursor": None, "hasNextPage": False}
        found = {"edges": edges, "pageInfo": page}
        return {"internalId": "7", "readOnly": False, "runs": found, "runCount": len(ids)}

    def upsert(self, asked: Record) -> Record:
        """Note what describes a run."""
        project = asked["project"]
        run = self.held.setdefault((project, asked["name"]), {"history": [], "summary": {}, "config": {}, "about": {}})
        run["config"] = {key: entry["value"] for key, entry in json.loads(asked["config"] or "{}").items()}
        run["about"] |= {key: asked[key] for key in ("groupName", "jobType", "displayName", "tags") if asked[key]}
        place = {"id": "p", "name": project, "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": "x", "name": asked["name"], "displayName": asked["displayName"], "description": "", "config": "{}",
            "sweepName": None, "historyLineCount": len(run["history"]), "project": place,
        }  # fmt: skip
        return {"bucket": bucket, "inserted": True}

    def resume(self, asked: Record) -> Record:
        """Return what a run that is continued has so far."""
        run = self.held.get((asked["project"], asked["name"]))
        bucket = run and {
            "id": "x", "name": asked["name"], "displayName": asked["name"], "logLineCount": 0, "eventsLineCount": 0,
            "summaryMetrics": json.dumps(run["summary"]), "historyLineCount": len(run["history"]), "eventsTail": "[]",
            "historyTail": json.dumps(run["history"][-1:]), "tags": [], "notes": None,
            "config": json.dumps({key: {"value": value} for key, value in run["config"].items()}),
            "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip
        return {"id": "p", "name": asked["project"], "entity": {"id": "e", "name": "me"}, "bucket": bucket}

    def create_files(self, asked: Record) -> Record:
        """Say where the files of a run go."""
        files = [{"name": name, "uploadUrl": f"{self.uri}/upload/{name}"} for name in asked["files"]]
        return {"runID": "x", "uploadHeaders": [], "files": files}

    def create_artifact_files(self, asked: Record) -> Record:
        """Say where the files of a table go."""
        nodes = [
            {
                "id": file["name"], "name": file["name"], "displayName": file["name"], "uploadHeaders": [],
                "uploadUrl": f"{self.uri}/upload/{file['name']}", "storagePath": file["name"],
                "uploadMultipartUrls": None, "artifact": {"id": "a"},
            }
            for file in asked.get("input", asked)["artifactFiles"]
        ]  # fmt: skip
        return {"files": {"edges": [{"node": node} for node in nodes]}}

    def stream(self, path: str, content: Record) -> None:
        """Take lines of a run's history at their place, and its whole summary, as the real server does."""
        _, _, _, project, id_, _ = path.split("/")
        run = self.held[project, id_]
        for name, part in (content.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                start = part["offset"]
                run["history"][start : start + len(part["content"])] = part["content"]
            elif name == "wandb-summary.json":
                run["summary"] = json.loads(part["content"][-1])


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: FakeServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = json.loads(self.content() or b"{}")
        if self.path == "/graphql":
            self.reply({"data": self.server.answer(content["query"], content.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            self.server.stream(self.path, content)
        self.reply({"exitcode": None, "limits": {}})

    def do_PUT(self) -> None:
        self.server.uploads[self.path.removeprefix("/upload/")] = self.content()
        self.reply({})

    def content(self) -> bytes:
        """Return what was sent."""
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(sent) if self.headers.get("Content-Encoding") == "gzip" else sent

    def reply(self, data: Record) -> None:
        """Send an answer."""
        answer = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...
