"""Feature toggles and A/B tests: what the owner's code asks, and who answers it."""

from mlservice.toggles.current import toggle
from mlservice.toggles.evaluation import ToggleContext, Toggles

__all__ = ["ToggleContext", "Toggles", "toggle"]
