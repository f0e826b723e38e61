"""Dispatches of parameterized jobs: the checks, and the child that is made.

The order of the checks matters, because a caller sees only the first error.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Mapping
from typing import Any

from nomad_double.refusal import ApiError

Json = dict[str, Any]
_MAX_PAYLOAD = 16_384


def decoded_payload(body: Mapping[str, Any]) -> bytes:
    """Return the payload of a dispatch; raise ``ApiError`` (400) if it is no base64."""
    text = body.get("Payload") or ""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        bad = next((i for i, c in enumerate(str(text)) if not (c.isalnum() or c in "+/=")), 0)
        raise ApiError(f"illegal base64 data at input byte {bad}", 400) from None


def check_dispatch(
    parent: Json | None, name: str, payload: bytes, meta: Mapping[str, str], priority: int
) -> None:
    """Raise ``ApiError`` with Nomad's first reason to refuse the dispatch."""
    if parent is None:
        raise ApiError("parameterized job not found")
    block = parent["ParameterizedJob"]
    if block is None or parent["Dispatched"]:
        raise ApiError(f'Specified job "{name}" is not a parameterized job')
    if parent["Stop"]:
        raise ApiError(f'Specified job "{name}" is stopped')
    if block["Payload"] == "required" and not payload:
        raise ApiError("Payload is not provided but required by parameterized job")
    if block["Payload"] == "forbidden" and payload:
        raise ApiError("Payload provided but forbidden by parameterized job")
    if len(payload) > _MAX_PAYLOAD:
        raise ApiError(f"Payload exceeds maximum size; {len(payload)} > {_MAX_PAYLOAD}")
    required, optional = set(block["MetaRequired"] or ()), set(block["MetaOptional"] or ())
    extra = [key for key in meta if key not in required | optional]
    if extra:
        raise ApiError(f"Dispatch request included unpermitted metadata keys: [{' '.join(extra)}]")
    missing = [key for key in required if key not in meta]
    if missing:
        raise ApiError(f"Dispatch did not provide required meta keys: [{' '.join(missing)}]")
    if priority and not 1 <= priority <= 100:
        raise ApiError("dispatch job priority must be between [1, 100]")


def make_child(
    parent: Json, payload: bytes, meta: Mapping[str, str], token: str, body: Mapping[str, Any]
) -> Json:
    """Return the child as a copy of its parent."""
    prefix = body.get("IdPrefixTemplate") or ""
    stamp = f"{int(time.time())}-{secrets.token_hex(4)}"
    name = (
        f"{parent['ID']}/dispatch-{prefix}-{stamp}"
        if prefix
        else f"{parent['ID']}/dispatch-{stamp}"
    )
    return {
        **parent, "ID": name, "Name": name, "ParentID": parent["ID"], "Dispatched": True,
        "DispatchIdempotencyToken": token, "Status": "", "StatusDescription": "", "Stable": False,
        "Payload": base64.b64encode(payload).decode() if payload else None,
        "Meta": {**(parent["Meta"] or {}), **meta} or None, "SubmitTime": time.time_ns(),
        "Priority": body.get("Priority") or parent["Priority"],
    }  # fmt: skip
