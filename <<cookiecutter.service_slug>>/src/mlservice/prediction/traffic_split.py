"""Assigns a user or a request to a version by the probabilities in force.

A request is assigned by a number from [0, 1) that follows from its user, or from its own id. So
the same user gets the same version from every gateway and after every restart, and a changed
share moves only as many users as it must.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from mlservice.errors import Unavailable

_RANGE = 2**53


class Choice(NamedTuple):
    """Which version answers, and why.

    ``assigned`` is the version by policy, with its ``probability``. ``version`` is the one that
    answers: another one if no worker of the assigned version can. ``salt`` is the policy's.
    """

    assigned: str
    version: str
    probability: float
    policy: str
    salt: str


@dataclass(frozen=True)
class TrafficSplit:
    """Probabilities in force, and their sums from the left."""

    shares: Mapping[str, float]
    versions: tuple[str, ...]
    bounds: tuple[float, ...]
    choices: tuple[Choice, ...]
    policy: str
    salt: str

    @classmethod
    def of(cls, shares: Mapping[str, float], policy: str, salt: str) -> TrafficSplit:
        """Split by ``shares``, which ``policy`` gave; a version with a share of 0 gets nothing."""
        kept = {version: share for version, share in shares.items() if share > 0}
        choices = tuple(Choice(name, name, share, policy, salt) for name, share in kept.items())
        return cls(shares, tuple(kept), tuple(accumulate(kept.values())), choices, policy, salt)

    def assign(self, user: str, ready: Collection[str]) -> Choice:
        """The version for ``user``: one that is ``ready`` if any is.

        Raises ``Unavailable`` if no version with a share is ready.
        """
        number = unit(f"{self.salt}/{user}")
        choice = self.choices[self._at(number * self.bounds[-1])]
        if choice.version in ready:
            return choice
        others = {other: self.shares[other] for other in self.versions if other in ready}
        if not others:
            raise Unavailable(f"no worker can answer for version {self.names}")
        left = TrafficSplit.of(others, self.policy, self.salt)
        instead = left.versions[left._at(number * left.bounds[-1])]
        return choice._replace(version=instead)

    @property
    def names(self) -> str:
        """The versions with a share, for a message."""
        return " or ".join(self.versions)

    def _at(self, number: float) -> int:
        """The index of the version that ``number`` falls to."""
        return min(bisect_right(self.bounds, number), len(self.bounds) - 1)


def unit(key: str) -> float:
    """A number from [0, 1) that is always the same for ``key``."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / _RANGE
