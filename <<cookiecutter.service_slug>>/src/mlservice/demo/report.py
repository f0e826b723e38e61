"""How the demo tells what it does; the command line prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Report(Protocol):
    """Takes what the demo shows."""

    def step(self, number: int, title: str) -> None:
        """A numbered step begins."""

    def line(self, text: str) -> None:
        """A line of text below the step."""

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table below the step."""

    def command(self, text: str) -> None:
        """A shell command, on a line of its own so that it can be copied."""
