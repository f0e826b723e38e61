"""What the demo needs of the owner's package: real cases, and a second model to compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mlservice.errors import OwnerError
from mlservice.owner import get_function, get_value, load_module, load_upstreams


@dataclass(frozen=True)
class Sample:
    """A real request with a known outcome: its title, and what happened.

    ``outcome`` is what the owner's ``prediction.reward`` takes, if there is one.
    """

    title: str
    request: dict[str, Any]
    happened: str
    outcome: Any = None


@dataclass(frozen=True)
class Challenge:
    """How a second model, the challenger, competes with the stable one.

    ``parameters`` are those of the challenger; ``reward(prediction, outcome)`` is the value of a
    prediction once its outcome is known.
    """

    parameters: Mapping[str, str]
    reward: Callable[[dict[str, Any], Any], float]


def demo_period(package: str) -> str:
    """Load the owner's ``data.DEMO_PERIOD``, a period that has data; raises ``OwnerError``."""
    return str(get_value(load_module(package, "data"), "DEMO_PERIOD", 'DEMO_PERIOD = "2013-10-07"'))


def load_samples(package: str) -> Callable[[datetime, int], Sequence[Sample]]:
    """Load the owner's ``data.samples(after, count)``, which returns real requests.

    Raises ``OwnerError`` if it is missing.
    """
    data = load_module(package, "data")
    return get_function(data, "samples", "def samples(after, count): ...")


def load_challenge(package: str) -> Challenge | None:
    """Load the owner's ``pipeline.CHALLENGER`` and ``prediction.reward``, or None."""
    parameters = getattr(load_module(package, "pipeline"), "CHALLENGER", None)
    reward = getattr(load_module(package, "prediction"), "reward", None)
    return Challenge(parameters, reward) if parameters is not None and callable(reward) else None


def read_samples(package: str, after: datetime, count: int) -> list[Sample]:
    """Return real cases without the fields of upstreams; raises ``OwnerError`` without cases."""
    added = {upstream.name for upstream in load_upstreams(package)}
    samples = load_samples(package)(after, count)
    if not samples:
        raise OwnerError(
            f"samples({after}, {count}) in data.py returned no cases: it must find some from "
            "DEMO_PERIOD on"
        )
    return [_without(sample, added) for sample in samples]


def _without(sample: Sample, names: set[str]) -> Sample:
    request = {key: value for key, value in sample.request.items() if key not in names}
    return replace(sample, request=request)
