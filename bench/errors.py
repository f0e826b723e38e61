"""The one error of the bench that is shown as its message alone."""

from __future__ import annotations


class BenchError(Exception):
    """Something that keeps the bench from measuring, with the remedy in its message."""
