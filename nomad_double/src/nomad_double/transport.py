"""HTTP/1.1 with keep-alive around the API: listens, reads requests, writes answers or streams.

The standard library's HTTP server is not used, because the double must also break connections, hold
hundreds of blocking queries, and end a stream as each version of Nomad ends it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import responses
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote

_TEXT = "text/plain; charset=utf-8"
_MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request. The path is decoded, so ``%2F`` and ``/`` are the same."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def arg(self, name: str, default: str = "") -> str:
        """Return the first value of a query argument."""
        values = self.query.get(name)
        return values[0] if values else default

    @property
    def token(self) -> str:
        """The request's secret."""
        token = self.headers.get("x-nomad-token", "")
        kind, _, bearer = self.headers.get("authorization", "").partition(" ")
        return token or (bearer.strip() if kind.lower() == "bearer" else "")


@dataclass(frozen=True)
class Answer:
    """One answer. ``stream`` is sent piece by piece; then the connection closes.

    Without ``chunked`` only the end of the connection marks the end of a stream.
    """

    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None
    chunked: bool = True


class Dropped(Exception):  # noqa: N818  # named for what happens
    """The connection closes without an answer."""


def text(words: str, status: int) -> Answer:
    """Return a plain text, as all of Nomad's errors are."""
    return Answer(status, words.encode(), _TEXT)


def as_json(value: Any, index: int | None = None, **headers: str) -> Answer:
    """Return a value as JSON; ``index`` is the X-Nomad-Index."""
    more = {} if index is None else {"X-Nomad-Index": str(index)}
    return Answer(body=json.dumps(value).encode(), headers={**more, **headers})


class Transport:
    """The listener; ``handle`` is called in a thread for each connection."""

    def __init__(self, port: int, handle: Callable[[Request], Answer]) -> None:
        """Listen on 127.0.0.1; port 0 takes a free port."""
        self._handle = handle
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server: _Listener | None = None
        self.port = port
        self.open()

    def open(self) -> None:
        """Listen on the same port as at first."""
        if self._server is not None:
            return
        self._server = _Listener(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True, name="nomad-http"
        ).start()

    def close(self) -> None:
        """Close the listener and all connections."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of one connection until it ends."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._connections.add(connection)
        try:
            with connection.makefile("rb") as reader:
                while self._server is not None and self._exchange(connection, reader):
                    pass
        except (OSError, ValueError, Dropped):
            return
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _exchange(self, connection: socket.socket, reader: BinaryIO) -> bool:
        request = _read(reader)
        if request is None:
            return False
        answer = self._handle(request)
        keep = answer.stream is None and request.headers.get("connection", "").lower() != "close"
        connection.sendall(_head(answer, keep) + (b"" if answer.stream else answer.body))
        if answer.stream is not None:
            with contextlib.closing(answer.stream) as stream:  # type: ignore[type-var]  # a generator
                for piece in stream:
                    connection.sendall(_chunk(piece) if answer.chunked else piece)
                connection.sendall(b"0\r\n\r\n" if answer.chunked else b"")
        return keep


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], transport: Transport) -> None:
        self._transport = transport
        super().__init__(address, socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, _: Any) -> None:
        self._transport.serve(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that broke."""


def _read(reader: BinaryIO) -> Request | None:
    line = reader.readline(65_536)
    parts = line.decode("latin-1").split()
    if len(parts) != 3:
        return None
    headers: dict[str, str] = {}
    while (header := reader.readline(65_536)) not in (b"\r\n", b"\n", b""):
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    path, _, query = parts[1].partition("?")
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return Request(parts[0], unquote(path), found, headers, _body(reader, headers))


def _body(reader: BinaryIO, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while size := int(reader.readline().split(b";")[0], 16):
            pieces.append(reader.read(size))
            reader.readline()
        reader.readline()
        return b"".join(pieces)
    size = int(headers.get("content-length") or 0)
    if size > _MAX_BODY:
        raise Dropped
    return reader.read(size) if size else b""


def _head(answer: Answer, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}",
        f"Content-Type: {answer.kind}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    if answer.stream is None:
        lines.append(f"Content-Length: {len(answer.body)}")
    elif answer.chunked:
        lines.append("Transfer-Encoding: chunked")
    if not keep:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
