"""Feature toggles and A/B tests: what the owner's code asks, and who answers it."""

from mlservice.toggles.current import toggle
from mlservice.toggles.evaluation import Asking, Toggles

__all__ = ["Asking", "Toggles", "toggle"]
