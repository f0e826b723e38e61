"""Published models: which one serves, which ones did before, and how a new one is published."""

from mlservice.models.publish import describe, publish
from mlservice.models.registry import Registry

__all__ = ["Registry", "describe", "publish"]
