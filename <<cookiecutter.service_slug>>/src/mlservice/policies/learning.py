"""What all policies share that learn from rewards which version is best."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from mlservice.bandit.statistics import Arm, Statistics
from mlservice.policies.policy import (
    Learning,
    PolicySettings,
    RewardKind,
    Version,
    Weight,
    normalise,
)


class LearningPolicy(PolicySettings):
    """A policy over the versions of ``weights``, which are in force without fresh statistics.

    ``statistics`` is a URL that is read each ``poll_seconds``; its response is used until it is
    ``stale_seconds`` old. If ``sticky``, a user keeps their version as far as the probabilities
    allow; if not, each request is assigned by itself.
    """

    weights: dict[Version, Annotated[Weight, Field(gt=0)]] = Field(min_length=2)
    statistics: str = Field(pattern="^https?://")
    reward: RewardKind = "bernoulli"
    sticky: bool = False
    poll_seconds: float = Field(10, ge=0.05, le=3600)
    stale_seconds: float = Field(300, gt=0, le=604_800)

    @model_validator(mode="after")
    def _fresh_for_one_poll(self) -> LearningPolicy:
        if self.stale_seconds <= self.poll_seconds:
            raise ValueError(
                f"stale_seconds = {self.stale_seconds} is not above poll_seconds = "
                f"{self.poll_seconds}: every answer would be stale before the next one"
            )
        return self

    @property
    def learns(self) -> Learning:
        """Where the statistics come from."""
        return Learning(self.statistics, self.reward, self.poll_seconds, self.stale_seconds)

    def shares(self, _: Mapping[str, int], statistics: Statistics | None) -> Mapping[str, float]:
        """See ``Policy``."""
        if statistics is None:
            return normalise(self.weights)
        return self.learned_shares(statistics.versions)

    @abstractmethod
    def learned_shares(self, arms: Mapping[str, Arm]) -> Mapping[str, float]:
        """The probability of each version of ``weights``; a version without rewards has no arm."""
