"""Chooses the version that answers a request, and says with which probability.

Every policy comes down to a probability for each version; a request is dealt by a number between
0 and 1 that follows from its user (or its own id, where there is none), so the same user gets the
same version from every gateway and after every restart, and a changed share moves only as many
users as it must.
"""

from __future__ import annotations

import hashlib
import logging
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import NamedTuple

from mlservice.bandit import Statistics, probabilities
from mlservice.errors import Unavailable
from mlservice.live import STABLE, Policy, ThompsonPolicy, weights_of
from mlservice.observe import metrics

_RANGE = 2**53
log = logging.getLogger("mlservice.gateway")


class Choice(NamedTuple):
    """Which version answers, and why.

    ``assigned`` is the version by policy, with its ``probability``; ``version`` is the one that
    answers: another one where nobody can answer for the first. ``salt`` is the policy's.
    """

    assigned: str
    version: str
    probability: float
    policy: str
    salt: str


@dataclass(frozen=True)
class _Dealing:
    """Probabilities in force, and their sums from the left."""

    shares: Mapping[str, float]
    versions: tuple[str, ...]
    bounds: tuple[float, ...]
    choices: tuple[Choice, ...]
    policy: str
    salt: str

    @classmethod
    def of(cls, shares: Mapping[str, float], policy: str, salt: str = "") -> _Dealing:
        kept = {version: share for version, share in shares.items() if share > 0}
        choices = tuple(Choice(name, name, share, policy, salt) for name, share in kept.items())
        return cls(shares, tuple(kept), tuple(accumulate(kept.values())), choices, policy, salt)

    def deal(self, number: float, ready: Collection[str]) -> Choice:
        """The version for a number from [0, 1), from those that are ``ready`` where one is."""
        choice = self.choices[self._at(number * self.bounds[-1])]
        if choice.version in ready:
            return choice
        others = {other: self.shares[other] for other in self.versions if other in ready}
        if not others:
            raise Unavailable(f"no worker can answer for version {' or '.join(self.versions)}")
        left = _Dealing.of(others, self.policy)
        instead = left.versions[left._at(number * left.bounds[-1])]
        return choice._replace(version=instead)

    def _at(self, number: float) -> int:
        """The place of the version that ``number`` falls to."""
        return min(bisect_right(self.bounds, number), len(self.bounds) - 1)


class Router:
    """The policy in force; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin without a policy: each version has the share of its workers."""
        self._clock = clock
        self._policy: Policy | None = None
        self._statistics: Statistics | None = None
        self._dealing = _Dealing.of({STABLE: 1.0}, "none")
        self._stale = False
        self._seen: Counter[str] = Counter()
        self._workers: dict[str, int] = {}

    def apply(self, policy: Policy | None) -> None:
        """Obey ``policy`` from now on."""
        if policy != self._policy:
            self._policy = policy
            self._statistics = None
            self._deal()

    def learn(self, statistics: Statistics) -> None:
        """Know the rewards, for a policy that asks for them."""
        self._statistics = statistics
        self._deal()

    def count_workers(self, workers: Mapping[str, int]) -> None:
        """Know how many workers of each version can predict."""
        if dict(workers) != self._workers:
            self._workers = dict(workers)
            if self._policy is None:
                self._deal()

    def refresh(self) -> None:
        """Fall back to the weights where the statistics became stale; call it now and then."""
        if isinstance(self._policy, ThompsonPolicy) and self._is_stale(self._policy) != self._stale:
            self._deal()

    def choose(self, user: str) -> Choice:
        """The version for ``user``, or for a request's id where it has none.

        Raises ``Unavailable`` where no worker can answer for any version that has a share.
        """
        choice = self._dealing.deal(unit(f"{self._dealing.salt}/{user}"), self._workers)
        self._seen[choice.version] += 1
        return choice

    @property
    def unavailable_reason(self) -> str | None:
        """Why nobody can be answered, None where everybody can."""
        dealt = self._dealing.versions
        if any(version in self._workers for version in dealt):
            return None
        return f"no worker can answer for version {' or '.join(dealt)}"

    @property
    def sticky(self) -> bool:
        """Whether a user keeps his version, so that ``choose`` wants the user."""
        return not isinstance(self._policy, ThompsonPolicy) or self._policy.sticky

    @property
    def shares(self) -> Mapping[str, float]:
        """The probability of each version that is in force."""
        return dict(self._dealing.shares)

    def _deal(self) -> None:
        policy = self._policy
        if policy is None:
            counts = {version: float(n) for version, n in self._workers.items() if n} or {STABLE: 1}
            total = sum(counts.values())
            self._enforce({version: n / total for version, n in counts.items()}, "none")
            return
        if isinstance(policy, ThompsonPolicy):
            self._stale = self._is_stale(policy)
            if self._statistics and not self._stale:
                self._enforce(
                    probabilities(
                        list(policy.weights),
                        self._statistics.versions,
                        reward=policy.reward,
                        floor=policy.floor,
                    ),
                    "thompson",
                )
                return
        name = "weights" if isinstance(policy, ThompsonPolicy) else policy.policy
        self._enforce(weights_of(policy), name)

    def _enforce(self, shares: Mapping[str, float], name: str) -> None:
        before = self._dealing
        self._dealing = _Dealing.of(shares, name, self._policy.salt if self._policy else "")
        if before.shares != shares:
            if before.policy != name or name != "thompson":
                log.info("shares by policy %s: %s", name, _shown(shares))
            self._seen.clear()
            metrics.say_shares(shares, self._seen)

    def _is_stale(self, policy: ThompsonPolicy) -> bool:
        if self._statistics is None:
            return True
        created: datetime = self._statistics.created.astimezone(UTC)
        return self._clock() - created.timestamp() > policy.stale_seconds


def unit(key: str) -> float:
    """A number from [0, 1) that is always the same for ``key``."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / _RANGE


def _shown(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{version} {share:.4g}" for version, share in shares.items())
