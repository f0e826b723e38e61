"""The answer."""

from __future__ import annotations

from typing import Any


def respond(score: float) -> dict[str, Any]:
    """The score as it is."""
    return {"score": score}
