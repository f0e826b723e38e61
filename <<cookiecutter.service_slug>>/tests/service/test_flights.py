"""The owner's tests: the rules that only this service has."""

import json
import math
from datetime import datetime

import numpy as np

from <<cookiecutter.__package_name>>.data import samples
from <<cookiecutter.__package_name>>.features import FEATURES, features, matrix
from <<cookiecutter.__package_name>>.prediction import LIKELY, respond
from <<cookiecutter.__package_name>>.upstreams import UPSTREAMS

FLIGHT = {
    "carrier": "UA",
    "origin": "EWR",
    "distance_miles": 1400.0,
    "scheduled_departure": "2013-10-07T17:05:00-04:00",
}


def test_the_hour_is_that_of_the_airport_and_missing_weather_is_nan() -> None:
    row = dict(zip(FEATURES, features(FLIGHT), strict=True))
    assert row["minute_of_day"] == 17 * 60 + 5
    assert row["weekday"] == 0
    assert math.isnan(row["temperature_f"])


def test_training_and_serving_make_the_same_features() -> None:
    flights = [sample.request for sample in samples(datetime(2013, 7, 4), 50)]
    trained = matrix(flights)
    served = [features(json.loads(json.dumps(flight))) for flight in flights]
    assert np.array_equal(trained, np.array(served), equal_nan=True)


def test_nothing_of_the_flight_itself_is_known_before_it_leaves() -> None:
    allowed = {"carrier", "origin", "distance_miles", "scheduled_departure", "weather"}
    for sample in samples(datetime(2013, 7, 4), 50):
        assert sample.request.keys() <= allowed


def test_a_flight_is_likely_late_from_the_bound_on() -> None:
    assert respond(LIKELY)["likely_late"]
    assert not respond(LIKELY - 0.01)["likely_late"]


def test_the_weather_service_says_of_a_flight_what_training_knew() -> None:
    (weather,) = UPSTREAMS
    for sample in samples(datetime(2013, 7, 1), 50):
        query = weather.query({k: v for k, v in sample.request.items() if k != "weather"})
        assert query is not None
        assert (weather.stand_in(query) or {}) == sample.request["weather"]
        assert weather.query(sample.request) is None
