"""Messages for what is wrong with a JSON text: field, value and remedy of each fault."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

_MAX_SHOWN = 80
_REMEDIES = {
    "json_invalid": "it is cut or no JSON: let whoever writes it write a new file and rename it",
    "extra_forbidden": "there is no such field: remove it, or deploy a version that knows it",
    "missing": "is missing: add it",
    "literal_error": "another format: deploy this service and its jobs from the same commit",
}


def explain(error: ValidationError, source: str) -> str:
    """All faults of the text in ``source``, one a line."""
    return f"{source} cannot be used:\n" + "\n".join(_fault(item) for item in error.errors())


def _fault(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "(the whole text)"
    message = f"{item['msg'][0].lower()}{item['msg'][1:]}"
    remedy = _REMEDIES.get(item["type"])
    if item["type"] == "missing":
        return f"  {field}: {remedy}"
    value = repr(item["input"])
    if len(value) > _MAX_SHOWN:
        value = f"{value[:_MAX_SHOWN]}…"
    return f"  {field} = {value}: {message}{f': {remedy}' if remedy else ''}"
