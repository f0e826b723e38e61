"""The exposure event: a variant of a flag was used for a request, so that it may have an effect."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlservice.events.fields import EventFields
from mlservice.events.unit import UNITS, Unit


class ExposureEvent(NamedTuple):
    """A variant that was used.

    ``time`` is in seconds since 1970. ``unit`` says whether the user or the request was
    randomised. ``salt`` is what the randomisation of the unit depends on besides the unit: the
    flag's name, or None if the flag's rule does not randomise by it. Both are None in events
    written before these fields existed.
    """

    time: float
    request_id: str
    user: str | None
    flag: str
    variant: str
    salt: str | None = None
    unit: Unit | None = None


def to_json(event: ExposureEvent) -> dict[str, Any]:
    """The fields of the JSON, all but the time."""
    return {
        "request_id": event.request_id,
        "user": event.user,
        "unit": event.unit,
        "flag": event.flag,
        "salt": event.salt,
        "variant": event.variant,
    }


def from_json(fields: EventFields) -> ExposureEvent:
    """Read the JSON; raises ``EventError``."""
    return ExposureEvent(
        time=fields.moment("time"),
        request_id=fields.text("request_id"),
        user=fields.optional_text("user"),
        flag=fields.text("flag"),
        variant=fields.text("variant"),
        salt=fields.optional_text("salt"),
        unit=fields.choice("unit", UNITS),
    )
