"""The services that know what a request lacks: here, the weather at the airport.

Each answer becomes a field of the request before ``features`` gets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from mlservice import Upstream


def weather_wanted(request: Mapping[str, Any]) -> dict[str, str] | None:
    """Return airport and hour (UTC) of the last observation before the hour of departure.

    Return None if the caller has sent the weather.
    """
    if "weather" in request:
        return None
    departure = datetime.fromisoformat(request["scheduled_departure"]).astimezone(UTC)
    before = departure - timedelta(hours=1)
    return {"airport": request["origin"], "hour": before.isoformat()[: len("2013-10-07T13")]}


def weather_then(query: Mapping[str, str]) -> dict[str, float] | None:
    """Return what the real service would answer: the observations of 2013."""
    return _observations().get((query.get("airport", ""), query.get("hour", "")))


@cache
def _observations() -> dict[tuple[str, str], dict[str, float]]:
    from .data import observations  # imports polars, which the gateway does not need

    return observations()


UPSTREAMS = (
    Upstream(
        name="weather",
        path="/v1/observations",
        query=weather_wanted,
        fallback={},
        stand_in=weather_then,
        timeout_ms=200,
        max_age_s=600,
    ),
)
