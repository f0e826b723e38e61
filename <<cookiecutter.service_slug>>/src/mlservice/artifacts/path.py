"""Names an artifact by what it was made from, so that the same call finds the same artifact.

The path is ``task/parameter=value,.../code`` below the store's root. It is readable in a listing,
and different parameters never share a path. A part that is too long for a file system is cut and
gets a hash of the whole part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from urllib.parse import quote

_MAX_PART_LENGTH = 120
_HASH_LENGTH = 16


def artifact_path(service: str, task: str, parameters: Mapping[str, str], code: str) -> str:
    """Return the path of an artifact below the store's root.

    ``parameters`` are the significant ones as texts; they are sorted by name. ``code`` is the
    version of the code that makes the artifact, so changed code never reuses an old result.
    """
    named = ",".join(f"{_safe(key)}={_safe(parameters[key])}" for key in sorted(parameters))
    parts = (_safe(service), _safe(task), named or "-", f"code={_safe(code)}")
    return "/".join(_bounded(part) for part in parts)


def _safe(text: str) -> str:
    """``text`` with all but letters, digits, ``_``, ``-``, ``.`` and ``:`` written as %XX."""
    return (
        quote(text, safe=":").replace("~", "%7E") if text.strip(".") else text.replace(".", "%2E")
    )


def _bounded(part: str) -> str:
    if len(part) <= _MAX_PART_LENGTH:
        return part
    digest = hashlib.sha256(part.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{part[: _MAX_PART_LENGTH - _HASH_LENGTH - 1]}~{digest}"
