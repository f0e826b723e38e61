"""What is known of each version's rewards, and with which probabilities to choose by that."""

from mlservice.bandit.statistics import Arm, Statistics, decode_statistics
from mlservice.bandit.tally import Tally

__all__ = ["Arm", "Statistics", "Tally", "decode_statistics"]
