"""The S3 server that the tests start, its keys and a client."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def client(endpoint: str):  # type: ignore[no-untyped-def]  # noqa: ANN201  # boto3 has no types
    """A client of moto's server."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # moto takes any
    )


def start_s3() -> ThreadedMotoServer:
    """Start a server that handles one request at a time.

    moto first looks whether an object exists and then writes it, so two conditional creates at the
    same moment could both succeed. S3 itself decides between them.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    wsgi: Any = server._server
    handle, lock = wsgi.app, threading.Lock()

    def handle_alone(environ: Any, start_response: Any) -> Any:
        with lock:
            return handle(environ, start_response)

    wsgi.app = handle_alone
    return server
