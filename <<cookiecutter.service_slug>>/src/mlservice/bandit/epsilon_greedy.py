"""Epsilon-greedy (Sutton and Barto 2018, "Reinforcement Learning", section 2.2).

It learns more slowly than Thompson sampling, but its probabilities are easy to explain: they
change only when another version takes the lead, and they assume nothing about the rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlservice.bandit.statistics import Arm


def probabilities(
    versions: Sequence[str], arms: Mapping[str, Arm], *, epsilon: float
) -> dict[str, float]:
    """The probability with which each of ``versions`` is chosen; they add up to 1.

    ``epsilon`` is spread evenly over all versions. The rest goes to the version with the highest
    mean reward; versions that tie for it share the rest evenly. A version without rewards is
    only explored: if it counted as the best, it would get nearly all requests until its first
    rewards come, which may take hours. If no version has rewards, all tie.
    """
    means = {
        version: arm.sum / arm.count
        for version in versions
        if (arm := arms.get(version)) is not None and arm.count > 0
    }
    highest = max(means.values(), default=0.0)
    best = {version for version, mean in means.items() if mean == highest} or set(versions)
    explored = epsilon / len(versions)
    greedy = (1 - epsilon) / len(best)
    return {version: explored + greedy * (version in best) for version in versions}
