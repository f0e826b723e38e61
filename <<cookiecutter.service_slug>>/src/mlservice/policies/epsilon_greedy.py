"""The best version so far gets most requests, and all versions share the rest evenly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from mlservice.bandit.epsilon_greedy import probabilities
from mlservice.bandit.statistics import Arm
from mlservice.policies.learning import LearningPolicy
from mlservice.policies.policy import Share


class EpsilonGreedyPolicy(LearningPolicy):
    """Epsilon-greedy: ``epsilon`` is the share of the requests that explores.

    It is spread evenly, so no version has less than ``epsilon`` divided by their number.
    """

    policy: Literal["epsilon_greedy"]
    epsilon: Annotated[Share, Field(gt=0)] = 0.1

    def learned_shares(self, arms: Mapping[str, Arm]) -> Mapping[str, float]:
        """See ``LearningPolicy``."""
        return probabilities(list(self.weights), arms, epsilon=self.epsilon)
