"""Joins the gateway's parts: the hot routes, and FastAPI for everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mlservice.errors import MethodNotAllowed, PathNotFound, RequestError
from mlservice.gateway.admission import Admission
from mlservice.gateway.docs_page import add_docs
from mlservice.gateway.endpoint import (
    PREDICT_PATH,
    REWARD_PATH,
    PredictEndpoint,
    RewardEndpoint,
)
from mlservice.gateway.hot_request import HotRoutes
from mlservice.gateway.openapi import OpenApiDocument, read_document
from mlservice.gateway.problems import PROBLEM, problem_body, problem_of
from mlservice.prediction import request_headers
from mlservice.prediction.service import PredictService
from mlservice.settings import Settings


class Gateway:
    """The gateway: its hot routes and its ASGI application."""

    def __init__(self, settings: Settings) -> None:
        """Load the owner's code and the contracts; raises their errors at once."""
        self.service = PredictService(settings)
        admission = Admission(required=settings.access.required)
        self.service.on_live(lambda live: admission.apply(live.clients))
        self.routes = HotRoutes(
            {
                PREDICT_PATH: PredictEndpoint(settings.gateway, self.service.path),
                REWARD_PATH: RewardEndpoint(self.service.events),
            },
            admission,
            settings.gateway.max_request_bytes,
        )
        self.app = self._make_fastapi(read_document(settings))

    @property
    def draining(self) -> bool:
        """Whether the gateway is stopping and answers its last requests."""
        return self.routes.draining

    def drain(self) -> None:
        """Close each connection with its next response."""
        self.routes.draining = True

    def _make_fastapi(self, document: OpenApiDocument) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.service.open()
            yield
            await self.service.close()

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
        app.add_exception_handler(HTTPException, _problem_response)
        add_docs(app, document["info"]["title"])
        openapi_json = orjson.dumps(document)

        @app.get("/openapi.json")
        async def openapi() -> Response:
            return Response(openapi_json, media_type="application/json")

        @app.get("/live")
        async def live() -> dict[str, str]:
            return {"status": "alive"}

        @app.get("/ready")
        async def ready() -> JSONResponse:
            stopping = "the gateway is stopping" if self.draining else None
            if reason := stopping or self.service.unavailable_reason:
                return JSONResponse({"status": "not ready", "reason": reason}, 503)
            return JSONResponse({"status": "ready"})

        return app


async def _problem_response(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method with problem details."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered only for this class
    refused: RequestError
    if error.status_code == 404:
        refused = PathNotFound("there is no such path: see /docs for all paths")
    else:
        refused = MethodNotAllowed("this path has another method: see the header Allow")
    body = problem_body(refused, request_headers.request_id(dict(request.scope["headers"])))
    return Response(body, problem_of(refused).status, error.headers, PROBLEM.decode())
