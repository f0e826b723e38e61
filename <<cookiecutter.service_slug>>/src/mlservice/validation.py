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


def explain(
    error: ValidationError, source: str, *, variants_at: tuple[str, ...] | None = None
) -> str:
    """All faults of the text in ``source``, one a line.

    ``variants_at`` is the path of a value with variants, such as the routing policies. pydantic
    adds the name of the variant to that path, which no field of the text has.
    """
    lines = [_fault(item, variants_at) for item in error.errors()]
    return f"{source} cannot be used:\n" + "\n".join(lines)


def _fault(item: Any, variants_at: tuple[str, ...] | None) -> str:
    path = tuple(str(part) for part in item["loc"])
    if item["type"].startswith("union_tag_"):
        return _fault_of_variant(item, path)
    field = ".".join(_without_variant(path, variants_at)) or "(the whole text)"
    text = str(item["msg"]).removeprefix("Value error, ")
    message = f"{text[0].lower()}{text[1:]}"
    remedy = _REMEDIES.get(item["type"])
    if item["type"] == "missing":
        return f"  {field}: {remedy}"
    value = repr(item["input"])
    if len(value) > _MAX_SHOWN:
        value = f"{value[:_MAX_SHOWN]}…"
    return f"  {field} = {value}: {message}{f': {remedy}' if remedy else ''}"


def _fault_of_variant(item: Any, path: tuple[str, ...]) -> str:
    """A text that names no variant, or an unknown one."""
    context = item["ctx"]
    field = ".".join((*path, context["discriminator"].strip("'")))
    if item["type"] == "union_tag_not_found":
        return f"  {field}: {_REMEDIES['missing']}"
    return f"  {field} = {context['tag']!r}: give one of {context['expected_tags']}"


def _without_variant(path: tuple[str, ...], at: tuple[str, ...] | None) -> tuple[str, ...]:
    if at is None or path[: len(at)] != at:
        return path
    return (*at, *path[len(at) + 1 :])
