"""Feature toggles and A/B tests: what the owner's code calls, and how flags are evaluated."""

from mlservice.toggles.current import toggle
from mlservice.toggles.evaluation import ToggleContext, Toggles

__all__ = ["ToggleContext", "Toggles", "toggle"]
