"""Joins the gateway's parts: the hot route in front, FastAPI for everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from mlservice.contracts import Contract
from mlservice.door import open_request_side
from mlservice.gateway.endpoint import PredictEndpoint, Receive, Scope, Send
from mlservice.gateway.worker_pool import WorkerPool
from mlservice.live import Live, LiveFollower
from mlservice.settings import Settings

PREDICT_PATH = "/v1/predict"


class Gateway:
    """The gateway as an ASGI application."""

    def __init__(self, settings: Settings) -> None:
        """Open the owner's side and the contracts; raises their errors at once."""
        side = open_request_side(settings.service.package)
        request = Contract.load(settings.contracts / "request.schema.json")
        response = Contract.load(settings.contracts / "response.schema.json")
        path = settings.live_file
        self.live = LiveFollower(path, settings.live) if path else None
        self.workers = WorkerPool(side.names)
        self.predict = PredictEndpoint(settings.gateway, side, request, response, self.workers)
        self._unlisted: tuple[str, ...] = (settings.gateway.worker,)
        self._rest = self._make_rest(settings.service.name, request, response)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and scope["path"] == PREDICT_PATH:
            await self.predict(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    def _begin(self) -> asyncio.Task[None] | None:
        """Know the workers; gives the task that follows the live file, where there is one."""
        if self.live is None:
            self.workers.use(self._unlisted)
            return None
        self.live.subscribe(self._follow)
        return asyncio.create_task(self.live.run())

    def _follow(self, live: Live) -> None:
        """Use the workers of the file, or the settings' where it has never listed any."""
        if live.workers is not None:
            self._unlisted = ()
        self.workers.use(self._unlisted if live.workers is None else live.workers)

    def _make_rest(self, name: str, request: Contract, response: Contract) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            following = self._begin()
            yield
            await self.predict.coalescer.drain()
            if following:
                following.cancel()
            await self.workers.close()

        app = FastAPI(title=name, docs_url=None, redoc_url=None, lifespan=lifespan)

        @app.get("/live", summary="Whether the process is alive")
        async def live() -> dict[str, str]:
            return {"status": "alive"}

        @app.get(
            "/ready",
            summary="Whether requests can be answered",
            responses={503: {"description": "No worker can predict, or the gateway stops"}},
        )
        async def ready() -> JSONResponse:
            trouble = "the gateway stops" if self.predict.draining else self.workers.trouble
            if trouble:
                return JSONResponse({"status": "not ready", "reason": trouble}, 503)
            return JSONResponse({"status": "ready"})

        generated = app.openapi

        def openapi() -> dict[str, Any]:
            document = generated()
            document["paths"][PREDICT_PATH] = {"post": _operation(request, response)}
            return document

        app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
        return app


def _operation(request: Contract, response: Contract) -> dict[str, Any]:
    problem = {"content": {"application/problem+json": {"schema": {"type": "object"}}}}
    return {
        "summary": "Predict",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request.schema}},
        },
        "responses": {
            "200": {
                "description": "The prediction",
                "content": {"application/json": {"schema": response.schema}},
            },
            "400": {"description": "The body is not JSON", **problem},
            "413": {"description": "The request is too large", **problem},
            "422": {"description": "The request breaks its contract", **problem},
            "500": {"description": "The model has no score for this request", **problem},
            "503": {"description": "Nobody can predict just now; see Retry-After", **problem},
            "504": {"description": "The deadline passed", **problem},
        },
    }
