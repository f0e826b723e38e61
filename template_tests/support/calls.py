"""Requests to a gateway over plain HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


def post(
    url: str, body: bytes | dict[str, Any], **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, JSON and headers of a request to predict; ``X_A`` becomes the header ``X-A``."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{url}/v1/predict", data, named)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read()), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), dict(error.headers)


def ready(url: str) -> bool:
    """Whether a gateway is ready; one that is not must say why."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return not (error.code == 503 and json.loads(error.read())["reason"])
