"""Turns a score into the answer that callers get, as contracts/response.schema.json says."""

from __future__ import annotations

from typing import Any

LIKELY = 0.35


def respond(score: float) -> dict[str, Any]:
    """The field ``prediction`` of the response for a model's ``score`` (a probability)."""
    return {"late_probability": round(score, 4), "likely_late": score >= LIKELY}
