"""Thompson sampling: what is known of each version's rewards, and what follows from it."""

from mlservice.bandit.statistics import Arm, Statistics, decode_statistics
from mlservice.bandit.tally import Tally
from mlservice.bandit.thompson import probabilities

__all__ = ["Arm", "Statistics", "Tally", "decode_statistics", "probabilities"]
