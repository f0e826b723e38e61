"""Turns a score into the response for callers, which contracts/response.schema.json defines."""

from __future__ import annotations

from typing import Any

from mlservice import toggle

LIKELY = 0.35
CAUTIOUS = 0.25


def respond(score: float) -> dict[str, Any]:
    """Return the field ``prediction`` of the response for a model's ``score`` (a probability)."""
    bound = CAUTIOUS if toggle("cautious", default=False) else LIKELY
    return {"late_probability": round(score, 4), "likely_late": score >= bound}


def reward(prediction: dict[str, Any], late: bool) -> float:
    """Return what a prediction turned out to be worth: 1 if it was right, else 0."""
    return float(prediction["likely_late"] == late)
