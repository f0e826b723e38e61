"""What the gateway needs of a routing policy, so that no other code checks a policy's class.

A version is a name that workers carry in the live file, such as "stable" and "canary"; a
retrained model keeps its version's name. A policy is the live file's ``routing`` section. It has
the settings that it obeys and no others, so a setting without an effect is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from mlservice.bandit.statistics import Statistics

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
RewardKind = Literal["bernoulli", "gaussian"]


@dataclass(frozen=True)
class Learning:
    """Where a policy's statistics come from: ``url``, read each ``poll_seconds``.

    Statistics older than ``stale_seconds`` are not used. ``reward`` says what rewards can be.
    """

    url: str
    reward: RewardKind
    poll_seconds: float
    stale_seconds: float


class Policy(Protocol):
    """A routing policy.

    ``name`` is what events and logs call it. ``salt`` names the experiment: another salt assigns
    all users again. If ``sticky``, a user keeps their version as far as the shares allow; if
    not, each request is assigned by itself. ``learns`` is None if it needs no statistics.
    """

    @property
    def name(self) -> str:
        """See the class."""

    @property
    def salt(self) -> str:
        """See the class."""

    @property
    def sticky(self) -> bool:
        """See the class."""

    @property
    def learns(self) -> Learning | None:
        """See the class."""

    def shares(
        self, workers: Mapping[str, int], statistics: Statistics | None
    ) -> Mapping[str, float]:
        """The probability of each version; they add up to 1.

        ``workers`` counts the workers of each version that can predict; a policy that learns
        does not depend on it. ``statistics`` are None if the policy does not learn, or if there
        are none that are fresh.
        """


class PolicySettings(BaseModel):
    """What all policies of the live file share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    salt: str = Field("", max_length=200)

    @property
    def name(self) -> str:
        """The policy's name in the live file."""
        return self.policy

    @property
    def learns(self) -> Learning | None:
        """None: most policies need no statistics."""
        return None


class WorkerShares:
    """The policy of a live file without ``routing``: each version has its workers' share."""

    name: ClassVar[str] = "none"
    salt: ClassVar[str] = ""
    sticky: ClassVar[bool] = True
    learns: ClassVar[None] = None

    def __init__(self, default: str) -> None:
        """Give everything to the version ``default`` while there are no workers."""
        self._default = default

    def shares(self, workers: Mapping[str, int], _: Statistics | None) -> Mapping[str, float]:
        """See ``Policy``."""
        return normalise({v: n for v, n in workers.items() if n} or {self._default: 1})


def normalise(weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each version by its weight; they add up to 1."""
    total = sum(weights.values())
    return {version: weight / total for version, weight in weights.items()}
