"""Finds the handler of a request, and turns errors into Nomad's plain texts.

Clients match on these texts and statuses, because Nomad has no error codes. Faults act here too,
before and after the handler, so that no handler knows about them.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable

from nomad_double.faults import Faults
from nomad_double.refusal import ApiError
from nomad_double.transport import Answer, Dropped, Request, text

log = logging.getLogger("nomad_double")
Handler = Callable[..., Answer]
_WITHOUT_LEADER = ("/v1/agent/self", "/v1/agent/health", "/v1/client/fs/logs/:id")
_SUFFIXES = (
    "/periodic/force", "/dispatch/payload", "/allocations", "/evaluations", "/deployments",
    "/deployment", "/versions", "/summary", "/plan", "/dispatch", "/revert", "/stable", "/evaluate",
    "/scale", "/services", "/submission", "/actions", "/action",
)  # fmt: skip
_PLACEHOLDER = re.compile(r":[a-z]+")


class Api:
    """The routes and their handlers. It counts the requests of each route."""

    def __init__(self, faults: Faults, *, wrapped_errors: bool) -> None:
        """Begin without routes; ``wrapped_errors`` answers as a server that is not the leader."""
        self.requests: Counter[str] = Counter()
        self._faults = faults
        self._wrapped = wrapped_errors
        self._routes: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []

    def add(self, methods: str, pattern: str, handler: Handler) -> None:
        """Add the handler of a route such as ``GET /v1/job/:id``. PUT and POST are the same."""
        for method in methods.split("|"):
            for name in ("PUT", "POST") if method == "POST" else (method,):
                self._routes.setdefault(pattern, {})[name] = handler
        if ":" in pattern:
            parts = [re.escape(part) for part in _PLACEHOLDER.split(pattern)]
            self._patterns.append((re.compile("([^/]*)".join(parts)), pattern))

    def handle(self, request: Request) -> Answer:
        """Answer a request; raise ``Dropped`` if a fault drops the answer."""
        pattern, arguments = self._route(request.path)
        route = f"{'POST' if request.method == 'PUT' else request.method} {pattern}"
        self.requests[route] += 1
        planned = self._faults.planned_answer(route)
        if planned:
            return text(planned[1], planned[0])
        answer = self._call_handler(request, pattern, arguments)
        if self._faults.drops(route):
            raise Dropped
        return answer

    def _call_handler(self, request: Request, pattern: str, arguments: tuple[str, ...]) -> Answer:
        try:
            if pattern not in self._routes:
                return text("404 page not found\n", 404)
            handler = self._routes[pattern].get(request.method)
            if handler is None:
                raise ApiError("Invalid method", 405)
            if self._faults.no_leader and pattern not in _WITHOUT_LEADER:
                raise ApiError("No cluster leader")
            return handler(request, *arguments)
        except ApiError as error:
            wrapped = self._wrapped and error.status == 500
            return text(f"rpc error: {error.words}" if wrapped else error.words, error.status)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            return text(f"the double failed: {error!r}", 500)

    def _route(self, path: str) -> tuple[str, tuple[str, ...]]:
        """Return the pattern of a path, and the values of its placeholders."""
        if path in self._routes:
            return path, ()
        if path.startswith("/v1/job/"):
            return _job_route(path.removeprefix("/v1/job/"))
        for compiled, pattern in self._patterns:
            found = compiled.fullmatch(path)
            if found:
                return pattern, found.groups()
        return path, ()


def _job_route(rest: str) -> tuple[str, tuple[str, ...]]:
    """Find the route by the end of the path, because job IDs may have slashes."""
    for suffix in _SUFFIXES:
        if rest.endswith(suffix):
            return f"/v1/job/:id{suffix}", (rest.removesuffix(suffix),)
    return "/v1/job/:id", (rest,)
