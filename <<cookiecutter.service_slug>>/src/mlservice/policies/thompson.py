"""Each version is chosen with the probability that it is the best one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from mlservice.bandit.statistics import Arm
from mlservice.policies.learning import LearningPolicy
from mlservice.policies.policy import Share


class ThompsonPolicy(LearningPolicy):
    """Thompson sampling; ``floor`` is the least probability of each version."""

    policy: Literal["thompson"]
    floor: Share = 0.01

    @model_validator(mode="after")
    def _room_to_choose(self) -> ThompsonPolicy:
        if self.floor * len(self.weights) >= 1:
            raise ValueError(
                f"floor = {self.floor} for {len(self.weights)} versions leaves nothing to choose: "
                f"give less than {1 / len(self.weights):.3g}"
            )
        return self

    def learned_shares(self, arms: Mapping[str, Arm]) -> Mapping[str, float]:
        """See ``LearningPolicy``."""
        from mlservice.bandit.thompson import probabilities  # numpy: a command needs none

        return probabilities(list(self.weights), arms, reward=self.reward, floor=self.floor)
