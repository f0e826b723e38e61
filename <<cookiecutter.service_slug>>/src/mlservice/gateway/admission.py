"""Checks who may send requests and how many: a bearer token and a rate for each client.

The clients are part of the live file, so they can be added, limited or removed without a restart.
Each gateway counts for itself. A client's total rate is its rate times the number of gateways.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from mlservice.errors import TooManyRequests, Unauthorized
from mlservice.live import Client, digest
from mlservice.observe import metrics

_BEARER = b"bearer "
NO_CLIENT = "(none)"


class _Bucket:
    """A token bucket: ``rate`` tokens a second, at most ``burst`` of them."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._updated_at = burst, now

    def acquire(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        self._tokens = min(self.burst, self._tokens + (now - self._updated_at) * self.rate)
        self._updated_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate


class Admission:
    """The known clients; belongs to one event loop."""

    def __init__(self, *, required: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Admit every caller until ``apply``, unless a token is ``required``."""
        self._required = required
        self._clock = clock
        self._clients: Mapping[str, Client] | None = None
        self._names: dict[str, str] = {}
        self._buckets: dict[str, _Bucket] = {}

    def apply(self, clients: Mapping[str, Client] | None) -> None:
        """Set the clients; None admits every caller, unless a token is required."""
        if clients == self._clients:
            return
        before, self._clients = self._clients or {}, clients
        known = clients or {}
        self._names = {client.token_sha256: name for name, client in known.items()}
        now = self._clock()
        self._buckets = {
            name: self._buckets[name] if before.get(name) == client else bucket
            for name, client in known.items()
            if (bucket := _bucket(client, now))
        }

    def admit(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the client's name; raises ``Unauthorized`` and ``TooManyRequests``."""
        if self._clients is None and not self._required:
            return NO_CLIENT
        given = headers.get(b"authorization", b"")
        name = None
        if given[: len(_BEARER)].lower() == _BEARER:
            name = self._names.get(digest(given[len(_BEARER) :].strip()))
        if name is None:
            metrics.CLIENT_REQUESTS.counts[NO_CLIENT, "refused"] += 1
            raise Unauthorized("send a known token in the header: Authorization: Bearer TOKEN")
        bucket = self._buckets.get(name)
        wait = bucket.acquire(self._clock()) if bucket else 0.0
        if bucket and wait:
            metrics.CLIENT_REQUESTS.counts[name, "limited"] += 1
            words = f"{name} may send {bucket.rate:g} requests a second"
            raise TooManyRequests(words, math.ceil(wait))
        metrics.CLIENT_REQUESTS.counts[name, "admitted"] += 1
        return name


def _bucket(client: Client, now: float) -> _Bucket | None:
    if client.per_second is None:
        return None
    burst = client.burst or max(1.0, client.per_second)
    return _Bucket(client.per_second, float(burst), now)
