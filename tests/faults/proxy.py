"""A tracking server in trouble: requests to a real one pass through here and are refused, delayed or cut off."""

import http.client
import http.server
import threading
import time
import urllib.parse
from typing import Any, Literal

Trouble = Literal["none", "error", "hang", "cut before", "cut after"]

HANG_SECONDS = 120.0


class Proxy(http.server.ThreadingHTTPServer):
    """Passes HTTP requests on to a server.

    Attributes:
        trouble: what happens to requests: an answer with status 500, no answer, or a cut connection before or after the
            server did what it was asked for.
        first: the number of the first request that this happens to, from 1 on.
        last: the number of the last one; None for all later ones.
        count: the number of requests so far.
    """

    daemon_threads = True
    trouble: Trouble
    first: int
    last: int | None

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urllib.parse.urlsplit(target).netloc
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.set("none")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def set(self, trouble: Trouble, *, first: int = 1, last: int | None = None) -> None:
        """Make trouble from now on, and count requests anew."""
        self.trouble, self.first, self.last, self.count = trouble, first, last, 0

    def next(self) -> Trouble:
        """Return what happens to the next request."""
        with self.lock:
            self.count += 1
            concerned = self.first <= self.count and (self.last is None or self.count <= self.last)
            return self.trouble if concerned else "none"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have gone."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection, with any number of requests."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        trouble = self.server.next()
        if trouble == "error":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if trouble == "hang":
            time.sleep(HANG_SECONDS)
        if trouble in ("hang", "cut before"):
            self.close_connection = True
            return
        target = http.client.HTTPConnection(self.server.target, timeout=HANG_SECONDS)
        target.request(self.command, self.path, body, dict(self.headers))
        answer = target.getresponse()
        content = answer.read()
        target.close()
        if trouble == "cut after":
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Handler, f"do_{method}", Handler.handle_any)
