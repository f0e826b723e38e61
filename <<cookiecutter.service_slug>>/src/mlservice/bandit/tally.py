"""Adds up the rewards of each version, from prediction and reward events in any order.

A reward belongs to the request that it names. Only the first reward of a request counts. A second
one, one that comes after the window, and one whose prediction was never seen are only counted as
such. Predictions on a fallback are left out, because they do not show what a version is worth.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from mlservice.bandit.statistics import Arm
from mlservice.events import Event, PredictionEvent, RewardEvent

_MAX_ORPHANS = 100_000
Missing = Literal["ignore", "zero"]


@dataclass
class _Sums:
    count: float = 0.0
    sum: float = 0.0
    squares: float = 0.0
    at: float = -math.inf

    def add(self, reward: float, moment: float, half_life: float) -> None:
        self.decay(moment, half_life)
        weight = _faded(self.at - moment, half_life)
        self.count += weight
        self.sum += weight * reward
        self.squares += weight * reward**2

    def decay(self, moment: float, half_life: float) -> None:
        """Decay the sums until ``moment``."""
        if moment > self.at:
            factor = _faded(moment - self.at, half_life)
            self.count *= factor
            self.sum *= factor
            self.squares *= factor
            self.at = moment


def _faded(seconds: float, half_life: float) -> float:
    """What a weight of 1 is after ``seconds``; 1 without a half-life."""
    if not half_life:
        return 1.0
    return 0.5 ** (seconds / half_life) if math.isfinite(seconds) else 0.0


@dataclass
class Tally:
    """Sums for each version; ``window`` and ``half_life`` are seconds, a half-life of 0 is none.

    ``missing`` says how a prediction without a reward counts once its window is over: not at all,
    or as a reward of 0. ``doubles``, ``late`` and ``strange`` count the rewards that were not
    used: second ones, late ones, and those without a prediction.
    """

    window: float
    half_life: float = 0.0
    missing: Missing = "ignore"
    doubles: int = 0
    late: int = 0
    strange: int = 0
    _sums: dict[str, _Sums] = field(default_factory=dict)
    _waiting: OrderedDict[str, tuple[str, float]] = field(default_factory=OrderedDict)
    _settled: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _orphans: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def add(self, event: Event) -> None:
        """Count one event; only predictions and rewards of whole requests matter."""
        match event:
            case RewardEvent(row=None):
                self._reward(event.request_id, event.reward, event.time)
            case PredictionEvent(fallbacks=()) if event.version == event.assigned:
                self._predict(event.request_id, event.assigned, event.time)

    def arms(self, now: float) -> dict[str, Arm]:
        """The sums at the moment ``now`` (seconds since 1970)."""
        self._close(now)
        arms = {}
        for version, sums in self._sums.items():
            sums.decay(now, self.half_life)
            arms[version] = Arm(count=sums.count, sum=sums.sum, squares=sums.squares)
        return arms

    def _predict(self, request: str, version: str, moment: float) -> None:
        if request in self._waiting or request in self._settled:
            return  # the same request again: its first prediction counts
        self._sums.setdefault(version, _Sums())
        self._waiting[request] = (version, moment)
        if orphan := self._orphans.pop(request, None):
            self._reward(request, *orphan)

    def _reward(self, request: str, reward: float, moment: float) -> None:
        if request in self._settled:
            if moment - self._settled[request] > self.window:
                self.late += 1
            else:
                self.doubles += 1
        elif request not in self._waiting:
            if request in self._orphans:
                self.doubles += 1
            else:
                self._orphans[request] = (reward, moment)
            if len(self._orphans) > _MAX_ORPHANS:
                self._orphans.popitem(last=False)
                self.strange += 1
        elif moment - self._waiting[request][1] > self.window:
            self.late += 1
        else:
            version, predicted = self._waiting.pop(request)
            self._settled[request] = predicted
            self._sums[version].add(reward, predicted, self.half_life)

    def _close(self, now: float) -> None:
        """Stop waiting for rewards whose window is over."""
        end = now - self.window
        while self._waiting and next(iter(self._waiting.values()))[1] < end:
            request, (version, predicted) = self._waiting.popitem(last=False)
            self._settled[request] = predicted
            if self.missing == "zero":
                self._sums[version].add(0.0, predicted, self.half_life)
        while self._settled and next(iter(self._settled.values())) < end - self.window:
            self._settled.popitem(last=False)
        while self._orphans and next(iter(self._orphans.values()))[1] < end:
            self._orphans.popitem(last=False)
            self.strange += 1
