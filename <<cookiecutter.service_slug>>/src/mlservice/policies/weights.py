"""Each version gets a fixed share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from mlservice.bandit.statistics import Statistics
from mlservice.policies.policy import PolicySettings, Version, Weight, normalise


class WeightsPolicy(PolicySettings):
    """The share of a version is its weight divided by the sum of all; a user keeps theirs."""

    sticky: ClassVar[bool] = True

    policy: Literal["weights"]
    weights: dict[Version, Weight] = Field(min_length=1)

    @field_validator("weights")
    @classmethod
    def _some(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("every weight is 0: give one version more")
        return weights

    def shares(self, _: Mapping[str, int], __: Statistics | None) -> Mapping[str, float]:
        """See ``Policy``."""
        return normalise(self.weights)
