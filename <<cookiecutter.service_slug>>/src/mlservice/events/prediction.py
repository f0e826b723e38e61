"""The prediction event: a request was answered, by which version, and why by that one.

It has everything that an A/B analysis needs of a routing experiment: the unit that was
randomised, the salt, the version that the policy assigned, and its probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mlservice.events.fields import EventFields
from mlservice.events.unit import UNITS, Unit


class PredictionEvent(NamedTuple):
    """An answered request.

    ``time`` is in seconds since 1970, ``stages`` are the seconds of each stage. ``prediction`` is
    what the response holds as such: any JSON, a list if the request has many rows. ``version`` is
    the version that answered; ``assigned`` is the one that ``policy`` chose, with
    ``probability``. They differ if no worker of the assigned version could answer. ``salt`` is
    the policy's, and ``unit`` says whether the user or the request was randomised; both are
    None in events written before these fields existed.
    """

    time: float
    request_id: str
    user: str | None
    policy: str
    assigned: str
    probability: float
    version: str
    model_version: str
    prediction: Any
    fallbacks: tuple[str, ...]
    stages: Mapping[str, float]
    salt: str | None = None
    unit: Unit | None = None


def to_json(event: PredictionEvent) -> dict[str, Any]:
    """The fields of the JSON, all but the time."""
    return {
        "request_id": event.request_id,
        "user": event.user,
        "unit": event.unit,
        "policy": event.policy,
        "salt": event.salt,
        "assigned": event.assigned,
        "probability": event.probability,
        "version": event.version,
        "model_version": event.model_version,
        "prediction": event.prediction,
        "fallbacks": event.fallbacks,
        "stages_us": {stage: int(seconds * 1e6) for stage, seconds in event.stages.items()},
    }


def from_json(fields: EventFields) -> PredictionEvent:
    """Read the JSON; raises ``EventError``."""
    return PredictionEvent(
        time=fields.moment("time"),
        request_id=fields.text("request_id"),
        user=fields.optional_text("user"),
        policy=fields.text("policy"),
        assigned=fields.text("assigned"),
        probability=fields.number("probability", 0, 1),
        version=fields.text("version"),
        model_version=fields.text("model_version"),
        prediction=fields.anything("prediction"),
        fallbacks=fields.texts("fallbacks"),
        stages={stage: us / 1e6 for stage, us in fields.numbers("stages_us").items()},
        salt=fields.optional_text("salt"),
        unit=fields.choice("unit", UNITS),
    )
