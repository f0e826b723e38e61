"""The answer."""

from __future__ import annotations

from typing import Any

from mlservice import toggle


def respond(score: float) -> dict[str, Any]:
    """The score as it is, or 0 for those who have the toggle."""
    return {"score": 0.0 if toggle("zero", default=False) else score}
