"""Puts the running service into the state that a consumer's pact requires (``given``).

The platform defines the states, the same in every service: those that consumers can distinguish.
pact's verifier requests a state over HTTP. Pact's own server for that never closes its socket, so
this module has a small one.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, cast

from mlservice.local import LocalService

SERVED = "a model is served"
NO_WORKER = "no worker can predict"
STATES = (SERVED, NO_WORKER)
_HOST = "127.0.0.1"
_POLL_SECONDS = 0.02
_UNREADY_SECONDS = 10.0


class States:
    """A context whose ``url`` accepts changes of state; ``unknown`` holds the states that fail."""

    def __init__(self, service: LocalService) -> None:
        """Change the state of ``service``."""
        self.unknown: set[str] = set()
        self._service = service
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,))
        self.url = f"http://{_HOST}:{self._server.server_port}"

    def __enter__(self) -> States:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def change(self, state: str, *, begins: bool) -> bool:
        """Begin or end a state; an unknown one is added to ``unknown``, and False is returned."""
        if state and state not in STATES:
            self.unknown.add(state)
            return False
        if state == NO_WORKER and begins:
            self._service.stop("worker")
            self._wait_until_unready()
        elif state == NO_WORKER:
            self._service.start("worker")
            self._service.wait_until_ready()
        return True

    def _wait_until_unready(self) -> None:
        end = time.monotonic() + _UNREADY_SECONDS
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self._service.url}/ready", timeout=5).close()
            except urllib.error.HTTPError as error:
                error.close()
                return
            time.sleep(_POLL_SECONDS)


class _Server(HTTPServer):
    def __init__(self, states: States) -> None:
        super().__init__((_HOST, 0), _Handler)
        self.states = states


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Handle one change of state; http.server calls this."""
        length = int(self.headers.get("Content-Length") or 0)
        change: dict[str, Any] = json.loads(self.rfile.read(length))
        states = cast(_Server, self.server).states
        known = states.change(
            str(change.get("state") or ""), begins=change.get("action") == "setup"
        )
        self.send_response(200 if known else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing; http.server calls this."""
