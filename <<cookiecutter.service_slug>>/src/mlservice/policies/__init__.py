"""Routing policies: which share of the requests each version of the workers gets."""

from mlservice.policies.canary import CanaryPolicy
from mlservice.policies.epsilon_greedy import EpsilonGreedyPolicy
from mlservice.policies.policy import Learning, Policy, Version, WorkerShares
from mlservice.policies.registry import Routing
from mlservice.policies.thompson import ThompsonPolicy
from mlservice.policies.weights import WeightsPolicy

__all__ = [
    "CanaryPolicy",
    "EpsilonGreedyPolicy",
    "Learning",
    "Policy",
    "Routing",
    "ThompsonPolicy",
    "Version",
    "WeightsPolicy",
    "WorkerShares",
]
