"""Chooses the version that answers a request, by the policy in force and what is known now.

Every policy comes down to a probability for each version, so that the rest of the service need
not know which policies there are.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from mlservice.bandit import Statistics
from mlservice.live import STABLE
from mlservice.observe import metrics
from mlservice.policies import Policy, WorkerShares
from mlservice.prediction.traffic_split import Choice, TrafficSplit

_NOT_LEARNED = "weights"
"""What events call a policy that learns, while it has no fresh statistics."""
_WORKER_SHARES = WorkerShares(STABLE)
log = logging.getLogger("mlservice.gateway")


class Router:
    """The policy in force; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin without a policy: each version has the share of its workers."""
        self._clock = clock
        self._policy: Policy = _WORKER_SHARES
        self._statistics: Statistics | None = None
        self._split = TrafficSplit.of({STABLE: 1.0}, self._policy.name, "")
        self._fresh = False
        self._seen: Counter[str] = Counter()
        self._workers: dict[str, int] = {}

    def apply(self, policy: Policy | None) -> None:
        """Use ``policy`` from now on; None gives each version the share of its workers."""
        policy = policy or _WORKER_SHARES
        if policy != self._policy:
            self._policy = policy
            self._statistics = None
            self._renew()

    def learn(self, statistics: Statistics) -> None:
        """Use these rewards, if the policy learns."""
        self._statistics = statistics
        self._renew()

    def count_workers(self, workers: Mapping[str, int]) -> None:
        """Know how many workers of each version can predict."""
        if dict(workers) != self._workers:
            self._workers = dict(workers)
            if self._policy.learns is None:
                self._renew()

    def refresh(self) -> None:
        """Stop using statistics that became stale; call it now and then."""
        if self._is_fresh() != self._fresh:
            self._renew()

    def choose(self, user: str) -> Choice:
        """The version for ``user``, or for the id of a request without a user.

        Raises ``Unavailable`` if no worker can answer for any version that has a share.
        """
        choice = self._split.assign(user, self._workers)
        self._seen[choice.version] += 1
        return choice

    @property
    def unavailable_reason(self) -> str | None:
        """Why no request can be answered, None if they can be."""
        if any(version in self._workers for version in self._split.versions):
            return None
        return f"no worker can answer for version {self._split.names}"

    @property
    def sticky(self) -> bool:
        """Whether a user keeps their version, so that ``choose`` needs the user."""
        return self._policy.sticky

    @property
    def shares(self) -> Mapping[str, float]:
        """The probability of each version that is in force."""
        return dict(self._split.shares)

    def _renew(self) -> None:
        """Ask the policy for its shares, and assign by them from now on."""
        self._fresh = self._is_fresh()
        policy, before = self._policy, self._split
        shares = policy.shares(self._workers, self._statistics if self._fresh else None)
        name = _NOT_LEARNED if policy.learns and not self._fresh else policy.name
        self._split = TrafficSplit.of(shares, name, policy.salt)
        if before.shares != shares:
            if before.policy != name or not self._fresh:
                log.info("shares by policy %s: %s", name, _shown(shares))
            self._seen.clear()
            metrics.show_shares(shares, self._seen)

    def _is_fresh(self) -> bool:
        """Whether the policy learns, and from statistics that are not stale."""
        learning = self._policy.learns
        if learning is None or self._statistics is None:
            return False
        created: datetime = self._statistics.created.astimezone(UTC)
        return self._clock() - created.timestamp() <= learning.stale_seconds


def _shown(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{version} {share:.4g}" for version, share in shares.items())
