"""Errors as callers see them: problem details (RFC 9457), without internal details.

Both transports send this body. Each transport chooses the status.
"""

from __future__ import annotations

import orjson

from mlservice.errors import RequestError


def problem_details(error: RequestError, status: int, request_id: str) -> bytes:
    """The JSON that describes ``error`` under the transport's ``status``."""
    body = {
        "type": f"urn:mlservice:problem:{error.code}",
        "title": error.code.replace("_", " "),
        "status": status,
        "detail": error.detail,
        "request_id": request_id,
        "faults": [vars(fault) for fault in error.faults],
    }
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # the owner's code may name any value
        faults = [
            {"field": _utf8(fault.field), "value": ascii(fault.value), "rule": _utf8(fault.rule)}
            for fault in error.faults
        ]
        return orjson.dumps(body | {"detail": _utf8(error.detail), "faults": faults})


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
