"""The error that the API answers with: an HTTP status and a plain text.

Nomad has no error codes, so the text is the contract: callers match on it.
"""

from __future__ import annotations


class ApiError(Exception):
    """An error in Nomad's words. Nearly all errors of the domain have status 500."""

    def __init__(self, words: str, status: int = 500) -> None:
        """Keep the status, and the words, which are the whole body."""
        super().__init__(words)
        self.words = words
        self.status = status
