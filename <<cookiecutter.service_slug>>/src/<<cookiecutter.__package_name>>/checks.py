"""The bounds that a model's scores must keep before the model is published."""

from mlservice import QualityChecks

CHECKS = QualityChecks(low=0.0, high=1.0, min_spread=0.01, margin=0.005)
