"""The error of the bench whose message is shown without a traceback."""

from __future__ import annotations


class BenchError(Exception):
    """Something that keeps the bench from measuring, with the remedy in its message."""
