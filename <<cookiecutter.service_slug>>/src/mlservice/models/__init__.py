"""Published models: which one serves, which did before, and how a new one is put there."""

from mlservice.models.publish import describe, publish
from mlservice.models.registry import Registry

__all__ = ["Registry", "describe", "publish"]
