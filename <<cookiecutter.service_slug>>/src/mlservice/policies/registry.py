"""All policies of the live file; a new one is a module and a line here."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from mlservice.policies.canary import CanaryPolicy
from mlservice.policies.epsilon_greedy import EpsilonGreedyPolicy
from mlservice.policies.thompson import ThompsonPolicy
from mlservice.policies.weights import WeightsPolicy

Routing: TypeAlias = Annotated[
    WeightsPolicy  # one a line
    | CanaryPolicy
    | ThompsonPolicy
    | EpsilonGreedyPolicy,
    Field(discriminator="policy"),
]
"""The live file's ``routing``."""
