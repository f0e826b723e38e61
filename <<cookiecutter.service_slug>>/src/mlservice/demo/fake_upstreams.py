"""A server in place of all upstreams, which answers what the owner's ``stand_in`` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mlservice.address import listen
from mlservice.demo.samples import demo_period, load_samples
from mlservice.errors import OwnerError
from mlservice.owner import Upstream, load_upstreams
from mlservice.pipeline import parse_period
from mlservice.settings import Settings


def serve_fake_upstreams(settings: Settings, port: int) -> None:
    """Serve until SIGTERM or SIGINT; raises ``OwnerError`` if there is no upstream."""
    upstreams = load_upstreams(settings.service.package)
    if not upstreams:
        raise OwnerError(
            f"src/{settings.service.package}/upstreams.py names no upstream, so there is none to "
            "fake"
        )
    _try_all(settings, upstreams)
    with listen("stand-ins", "127.0.0.1", port, "by --port") as listener:
        config = uvicorn.Config(make_app(upstreams), log_level="warning", access_log=False)
        uvicorn.Server(config).run([listener])


def make_app(upstreams: Sequence[Upstream]) -> Starlette:
    """Return the server as an ASGI application: each upstream below its name."""
    routes = [Route(f"/{each.name}{each.path}", _answer(each)) for each in upstreams]
    return Starlette(routes=routes)


def _try_all(settings: Settings, upstreams: Sequence[Upstream]) -> None:
    """Ask each upstream once, so that it has read its data before the first request."""
    package = settings.service.package
    period = parse_period(demo_period(package), settings.pipeline.retrain_every)
    for sample in load_samples(package)(period, 1):
        for upstream in upstreams:
            bare = {key: value for key, value in sample.request.items() if key != upstream.name}
            if (query := upstream.query(bare)) is not None:
                upstream.stand_in(query)


def _answer(upstream: Upstream) -> Callable[[Request], Any]:
    def answer(request: Request) -> JSONResponse:
        found = upstream.stand_in(dict(request.query_params))
        if found is None:
            return JSONResponse({"detail": "stand_in returned nothing for these parameters"}, 404)
        return JSONResponse(found)

    return answer
