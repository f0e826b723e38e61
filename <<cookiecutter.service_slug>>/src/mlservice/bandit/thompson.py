"""Thompson sampling (Thompson 1933; Russo et al. 2018, "A Tutorial on Thompson Sampling").

The textbook draws from the posteriors for each request. Here the probability that a version is
the best is computed once for each new statistics, and requests are split by it. The policy is the
same, but each choice has an exact propensity, which the analysis of events needs, and all
gateways with the same statistics split alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlservice.bandit.statistics import Arm

Array = npt.NDArray[np.float64]
_DRAWS = 20_000
_NO_REWARDS = Arm()


def probabilities(
    versions: Sequence[str], arms: Mapping[str, Arm], *, reward: str, floor: float
) -> dict[str, float]:
    """The probability with which each of ``versions`` is chosen; they add up to 1.

    It is the probability of being the best by the posteriors (Beta for "bernoulli", normal-gamma
    for "gaussian" ``reward``), and at least ``floor``. Versions without rewards have the prior.
    """
    known = [arms.get(version, _NO_REWARDS) for version in versions]
    generator = np.random.default_rng(_seed(versions, known))
    draw = _beta if reward == "bernoulli" else _normal_gamma
    best = np.argmax(draw(known, generator), axis=0)
    shares = np.bincount(best, minlength=len(versions)) / _DRAWS
    shares = floor + (1 - floor * len(versions)) * shares
    return dict(zip(versions, shares.tolist(), strict=True))


def _seed(versions: Sequence[str], arms: Sequence[Arm]) -> int:
    """A seed that is the same in all gateways with the same statistics."""
    text = repr([(name, arm.count, arm.sum) for name, arm in zip(versions, arms, strict=True)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _beta(arms: Sequence[Arm], generator: np.random.Generator) -> Array:
    """Draws of each version's rate, shape (versions, draws), from Beta(1 + wins, 1 + losses)."""
    wins = [max(0.0, arm.sum) for arm in arms]
    losses = [max(0.0, arm.count - arm.sum) for arm in arms]
    return np.array(
        [generator.beta(1 + w, 1 + n, _DRAWS) for w, n in zip(wins, losses, strict=True)]
    )


def _normal_gamma(arms: Sequence[Arm], generator: np.random.Generator) -> Array:
    """Draws of each version's mean, shape (versions, draws), variance unknown.

    The posterior is the normal-gamma of Murphy 2007, "Conjugate Bayesian analysis of the
    Gaussian distribution", section 3. The prior counts as one reward with mean and variance of
    all rewards, so the unit of the rewards does not matter.
    """
    count = sum(arm.count for arm in arms)
    mean = sum(arm.sum for arm in arms) / count if count else 0.0
    squares = sum(arm.squares for arm in arms) / count if count else 1.0
    variance = max(squares - mean**2, 1e-12 * squares, 1e-200)  # precisions stay finite
    return np.array([_means(arm, mean, variance, generator) for arm in arms])


def _means(arm: Arm, mean: float, variance: float, generator: np.random.Generator) -> Array:
    own = arm.sum / arm.count if arm.count else mean
    spread = max(arm.squares - arm.sum * own, 0.0)
    weight = 1 + arm.count
    centre = (mean + arm.sum) / weight
    shape = 1 + arm.count / 2
    rate = variance + spread / 2 + arm.count * (own - mean) ** 2 / (2 * weight)
    precision = generator.gamma(shape, 1 / rate, _DRAWS)
    scale: Array = 1 / np.sqrt(np.maximum(precision, 1e-300) * weight)
    return centre + scale * generator.standard_normal(_DRAWS)
