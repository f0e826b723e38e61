"""The bounds."""

from mlservice import QualityChecks

CHECKS = QualityChecks(low=0.0, high=1.0, loss="squared_error")
