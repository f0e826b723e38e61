"""The contract and the features as pydantic classes, for the baseline and the other servers.

The rules are those of contracts/*.schema.json in the rendered service. The module needs only
pydantic, so it also runs in the environments of the other servers.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Carrier = Literal[
    "9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"
]
Origin = Literal["EWR", "JFK", "LGA"]
CARRIERS, ORIGINS = get_args(Carrier), get_args(Origin)
Share = Annotated[float, Field(ge=0, le=100)]


class Strict(BaseModel):
    """Refuses fields that the contract does not name."""

    model_config = ConfigDict(extra="forbid")


class Weather(Strict):
    """The last observation; missing values are left out."""

    temperature_f: Annotated[float, Field(ge=-100, le=150)] = math.nan
    humidity_percent: Share = math.nan
    wind_speed_mph: Annotated[float, Field(ge=0, le=2000)] = math.nan
    precipitation_in: Share = math.nan
    visibility_mi: Share = math.nan
    pressure_mb: Annotated[float, Field(ge=800, le=1200)] = math.nan


class Flight(Strict):
    """A request."""

    carrier: Carrier
    origin: Origin
    distance_miles: Annotated[float, Field(ge=1, le=10_000)]
    scheduled_departure: AwareDatetime
    weather: Weather = Weather()


class Prediction(Strict):
    """The inner part of a response."""

    late_probability: Annotated[float, Field(ge=0, le=1)]
    likely_late: bool


class Answer(Strict):
    """A response."""

    request_id: Annotated[str, Field(min_length=1, max_length=64)]
    model_version: Annotated[str, Field(min_length=1)]
    prediction: Prediction


def features(flight: Flight) -> tuple[float, ...]:
    """Return the features of the rendered service, in its order."""
    departure, weather = flight.scheduled_departure, flight.weather
    return (
        departure.hour * 60 + departure.minute,
        departure.weekday(),
        CARRIERS.index(flight.carrier),
        ORIGINS.index(flight.origin),
        flight.distance_miles,
        weather.temperature_f,
        weather.humidity_percent,
        weather.wind_speed_mph,
        weather.precipitation_in,
        weather.visibility_mi,
        weather.pressure_mb,
    )


def answer(score: float, request_id: str) -> Answer:
    """Return the response for a model's score."""
    prediction = Prediction(late_probability=round(score, 4), likely_late=score >= 0.35)
    return Answer(request_id=request_id, model_version="bench", prediction=prediction)
