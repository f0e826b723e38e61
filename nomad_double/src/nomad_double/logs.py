"""The tasks' logs over the API: plain or in frames, from an offset, or followed.

A frame is a JSON document with a part of the file in base64. Nomad's command line reads frames;
people and scripts read plain text.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nomad_double.client import Client
from nomad_double.refusal import ApiError
from nomad_double.state import State
from nomad_double.transport import Answer, Request

_FRAME_BYTES = 64 * 1024
_HEARTBEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class _LogQuery:
    file: Path
    name: str
    start: int
    plain: bool
    follow: bool


def log_answer(state: State, client: Client, request: Request, name: str) -> Answer:
    """Answer ``GET /v1/client/fs/logs/ALLOC``; raise ``ApiError`` as Nomad does."""
    wanted = _log_query(state, client, request, name)
    kind = "text/plain" if wanted.plain else "application/json"
    if wanted.follow:
        return Answer(kind=kind, stream=_follow(wanted, lambda: _ended(state, name)))
    data = _read(wanted.file, wanted.start)
    if wanted.plain:
        return Answer(body=data, kind=kind)
    return Answer(body=b"".join(_frames(wanted, data, wanted.start)), kind=kind)


def _log_query(state: State, client: Client, request: Request, name: str) -> _LogQuery:
    task, kind = request.arg("task"), request.arg("type")
    if not name:
        raise ApiError("must provide a valid alloc id", 400)
    if not task:
        raise ApiError("must provide task name", 400)
    if kind not in ("stdout", "stderr"):
        raise ApiError("must provide log type (stdout/stderr)", 400)
    follow, plain = _flag(request, "follow"), _flag(request, "plain")
    offset, origin = _offset(request), request.arg("origin") or "start"
    if origin not in ("start", "end"):
        raise ApiError("origin must be start or end", 400)
    file = _file(state, client, name, task, kind)
    size = file.stat().st_size
    start = max(0, size - offset) if origin == "end" else min(offset, size)
    return _LogQuery(file, f"alloc/logs/{task}.{kind}.0", start, plain, follow)


def _file(state: State, client: Client, name: str, task: str, kind: str) -> Path:
    alloc = state.allocs.get(name)
    if alloc is None:
        raise ApiError(f'Unknown allocation "{name}"', 404)
    runner = client.runner(name)
    if runner is None:
        raise ApiError(f"state for allocation {name} not found on client", 404)
    if task not in runner.tasks:
        raise ApiError(f'unknown task name "{task}"', 400)
    if not runner.tasks[task].state.started_at:
        raise ApiError(f'task "{task}" not started yet. No logs available', 404)
    file = runner.tasks[task].log_file(kind)
    if not file.exists():
        raise ApiError(f'log entry for task "{task}" and log type "{kind}" not found', 404)
    return file


def _follow(wanted: _LogQuery, ended: Callable[[], bool]) -> Iterator[bytes]:
    at, quiet = wanted.start, 0.0
    while True:
        over = ended()
        data = _read(wanted.file, at)
        if data:
            yield data if wanted.plain else b"".join(_frames(wanted, data, at))
            at, quiet = at + len(data), 0.0
        elif over:
            return
        elif not wanted.plain and quiet >= _HEARTBEAT_SECONDS:
            quiet = 0.0
            yield b"{}"
        time.sleep(_LOOK_SECONDS)
        quiet += _LOOK_SECONDS


def _frames(wanted: _LogQuery, data: bytes, start: int) -> Iterator[bytes]:
    for at in range(0, len(data), _FRAME_BYTES):
        piece = data[at : at + _FRAME_BYTES]
        frame = {
            "File": wanted.name,
            "Offset": start + at + len(piece),
            "Data": base64.b64encode(piece).decode(),
        }
        yield json.dumps(frame).encode()


def _ended(state: State, name: str) -> bool:
    alloc = state.allocs.get(name)
    return alloc is None or alloc.ended or state.closed


def _read(file: Path, start: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read()


def _flag(request: Request, name: str) -> bool:
    value = request.arg(name)
    if value.lower() not in ("", "1", "t", "true", "0", "f", "false"):
        raise ApiError(
            f'failed to parse {name} field to boolean: strconv.ParseBool: parsing "{value}": '
            "invalid syntax", 400,
        )  # fmt: skip
    return value.lower() in ("1", "t", "true")


def _offset(request: Request) -> int:
    value = request.arg("offset") or "0"
    if not value.lstrip("-").isdigit():
        raise ApiError(
            f'error parsing offset: strconv.ParseInt: parsing "{value}": invalid syntax', 400
        )
    return int(value)
