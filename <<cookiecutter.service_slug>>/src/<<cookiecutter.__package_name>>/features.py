"""Turns a request into features. Training and serving use the same function, so they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

CARRIERS = (
    *("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL"),
    *("HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"),
)
ORIGINS = ("EWR", "JFK", "LGA")
WEATHER = (
    "temperature_f",
    "humidity_percent",
    "wind_speed_mph",
    "precipitation_in",
    "visibility_mi",
    "pressure_mb",
)
FEATURES = ("minute_of_day", "weekday", "carrier", "origin", "distance_miles", *WEATHER)


def features(request: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the features of one request that keeps its contract, in the order of ``FEATURES``.

    A field that the request leaves out is NaN, which the models treat as a missing value.
    """
    departure = datetime.fromisoformat(request["scheduled_departure"])
    weather = request.get("weather") or {}
    return (
        departure.hour * 60 + departure.minute,
        departure.weekday(),
        CARRIERS.index(request["carrier"]),
        ORIGINS.index(request["origin"]),
        request["distance_miles"],
        *(weather.get(name, math.nan) for name in WEATHER),
    )


def matrix(requests: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    """Return the features of many requests, shape (requests, features)."""
    return np.array([features(request) for request in requests], dtype=np.float64)
