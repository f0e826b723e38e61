"""What the API answers instead of a result: an HTTP status and a plain text."""

from __future__ import annotations


class ApiError(Exception):
    """An error as Nomad words it; nearly all errors of the domain have the status 500."""

    def __init__(self, words: str, status: int = 500) -> None:
        """Keep the words, which are the whole body, and the status."""
        super().__init__(words)
        self.words = words
        self.status = status
