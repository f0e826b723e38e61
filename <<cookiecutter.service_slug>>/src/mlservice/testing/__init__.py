"""Helpers for the tests of a service: strategies made from its own schemas, pacts, states."""

from mlservice.testing.strategies import messages

__all__ = ["messages"]
