"""A new version gets a small share of the users first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import model_validator

from mlservice.bandit.statistics import Statistics
from mlservice.policies.policy import PolicySettings, Share, Version


class CanaryPolicy(PolicySettings):
    """``share`` of the users get the version ``canary``, all others ``stable``."""

    sticky: ClassVar[bool] = True

    policy: Literal["canary"]
    share: Share
    canary: Version = "canary"
    stable: Version = "stable"

    @model_validator(mode="after")
    def _two(self) -> CanaryPolicy:
        if self.canary == self.stable:
            raise ValueError(f"canary and stable are both '{self.stable}': name two versions")
        return self

    def shares(self, _: Mapping[str, int], __: Statistics | None) -> Mapping[str, float]:
        """See ``Policy``."""
        return {self.stable: 1 - self.share, self.canary: self.share}
