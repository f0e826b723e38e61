"""Joins the gateway's parts: the hot route in front, FastAPI for everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mlservice.errors import RequestRefused
from mlservice.gateway.admission import Admission
from mlservice.gateway.docs_page import add_docs
from mlservice.gateway.endpoint import (
    PREDICT_PATH,
    REWARD_PATH,
    PredictEndpoint,
    Receive,
    RewardEndpoint,
    Scope,
    Send,
)
from mlservice.gateway.openapi import Document, read_document
from mlservice.gateway.problems import PROBLEM, problem
from mlservice.live import Live
from mlservice.prediction import request_headers
from mlservice.prediction.service import PredictService
from mlservice.settings import Settings


class Gateway:
    """The gateway as an ASGI application."""

    def __init__(self, settings: Settings) -> None:
        """Open the owner's side and the contracts; raises their errors at once."""
        self.parts = PredictService(settings)
        self.admission = Admission(required=settings.access.required)
        if self.parts.live is not None:
            self.parts.live.subscribe(self._admit)
        self.predict = PredictEndpoint(settings.gateway, self.admission, self.parts.answering)
        self.rewards = RewardEndpoint(settings.gateway, self.admission, self.parts.events)
        self._rest = self._make_rest(read_document(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        path = scope["path"] if scope["type"] == "http" else None
        if path == PREDICT_PATH:
            await self.predict(scope, receive, send)
        elif path == REWARD_PATH:
            await self.rewards(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    @property
    def draining(self) -> bool:
        """Whether it answers its last requests."""
        return self.predict.draining

    def drain(self) -> None:
        """Close each connection with its next answer from now on."""
        self.predict.draining = self.rewards.draining = True

    def _admit(self, live: Live) -> None:
        self.admission.apply(live.clients)

    def _make_rest(self, document: Document) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.parts.begin()
            yield
            await self.parts.close()

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
        app.add_exception_handler(HTTPException, _refuse)
        add_docs(app, document["info"]["title"])
        described = orjson.dumps(document)

        @app.get("/openapi.json")
        async def openapi() -> Response:
            return Response(described, media_type="application/json")

        @app.get("/live")
        async def live() -> dict[str, str]:
            return {"status": "alive"}

        @app.get("/ready")
        async def ready() -> JSONResponse:
            stopping = "the gateway stops" if self.draining else None
            if reason := stopping or self.parts.answering.unavailable_reason:
                return JSONResponse({"status": "not ready", "reason": reason}, 503)
            return JSONResponse({"status": "ready"})

        return app


async def _refuse(request: Request, error: Exception) -> Response:
    """The problem details of a path or method that there is not."""
    assert isinstance(error, HTTPException)  # noqa: S101  # the handler is for these alone
    missing = error.status_code == 404
    code = "not_found" if missing else "method_not_allowed"
    words = "there is no such path: see /docs" if missing else "this path has another method"
    refused = RequestRefused(error.status_code, code, words)
    body = problem(refused, request_headers.request_id(dict(request.scope["headers"])))
    return Response(body, refused.status, error.headers, PROBLEM.decode())
