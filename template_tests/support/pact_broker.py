"""A pact broker in a few links (HAL), as much as pact's verifier asks of one.

The real one is written in Ruby, and no registry that the tests reach has it.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Broker:
    """A broker that holds ``pacts``; what it was asked and told is kept."""

    pacts: list[dict[str, Any]]
    pending: bool = False
    url: str = ""
    asked: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def answer(self, method: str, path: str, body: Any) -> dict[str, Any]:
        if path == "/":
            return self._links({"pb:provider-pacts-for-verification": "for", "pb:provider": "it"})
        if path == "/for":
            self.asked += [body] if method == "POST" else []
            listed = [self._listed(number) for number in range(len(self.pacts))]
            return {**self._links({"self": "for"}), "_embedded": {"pacts": listed}}
        if path.startswith("/pacts/"):
            pact = self.pacts[int(path.removeprefix("/pacts/"))]
            links = {"pb:publish-verification-results": "results", "pb:provider": "it"}
            return {**pact, **self._links(links)}
        if path == "/results":
            self.results.append(body)
        return self._links({"pb:version-tag": "tag", "pb:branch-version": "branch"})

    def _listed(self, number: int) -> dict[str, Any]:
        properties = {"pending": self.pending, "notices": []}
        links = self._links({"self": f"pacts/{number}"})
        return {"shortDescription": "latest", "verificationProperties": properties, **links}

    def _links(self, paths: dict[str, str]) -> dict[str, Any]:
        return {"_links": {name: {"href": f"{self.url}/{path}"} for name, path in paths.items()}}


@contextlib.contextmanager
def serving(broker: Broker) -> Iterator[Broker]:
    """The broker on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            broker.tokens.add(self.headers.get("Authorization"))
            answer = broker.answer(self.command, self.path, json.loads(sent) if sent else None)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/hal+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815  # http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        broker.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield broker
        finally:
            server.shutdown()
            thread.join()
