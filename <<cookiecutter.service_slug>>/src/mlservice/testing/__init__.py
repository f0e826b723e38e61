"""What tests of a service use: strategies made from its own schemas."""

from mlservice.testing.strategies import messages

__all__ = ["messages"]
