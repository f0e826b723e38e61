"""Names an artifact by what it was made from, so that the same question finds the same answer.

``task/parameter=value,.../code`` below the store's root: readable in any listing, and one to
one: different parameters never share a path. A part that grows too long for a file system is
cut and gets a hash of the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from urllib.parse import quote

_LONGEST_PART = 120
_HASH_LENGTH = 16


def artifact_path(service: str, task: str, parameters: Mapping[str, str], code: str) -> str:
    """The path of an artifact below the store's root.

    ``parameters`` are the significant ones in their written form; they are sorted by name.
    ``code`` is the version of the code that makes the artifact: a changed algorithm never
    takes an old result for its own.
    """
    named = ",".join(f"{_safe(key)}={_safe(parameters[key])}" for key in sorted(parameters))
    parts = (_safe(service), _safe(task), named or "-", f"code={_safe(code)}")
    return "/".join(_bounded(part) for part in parts)


def _safe(text: str) -> str:
    """``text`` with everything but letters, digits, ``_``, ``-``, ``.`` and ``:`` as %XX."""
    return (
        quote(text, safe=":").replace("~", "%7E") if text.strip(".") else text.replace(".", "%2E")
    )


def _bounded(part: str) -> str:
    if len(part) <= _LONGEST_PART:
        return part
    digest = hashlib.sha256(part.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{part[: _LONGEST_PART - _HASH_LENGTH - 1]}~{digest}"
