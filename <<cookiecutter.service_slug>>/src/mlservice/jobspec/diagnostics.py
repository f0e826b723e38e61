"""Diagnostics about a jobspec, in the form of Nomad's own.

Users know these lines from Nomad, and the line numbers lead them to the mistake. A diagnostic reads
``input.hcl:3,5-9: Summary; Detail``, with ``<nil>`` if it has no place.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlservice.errors import HclError


@dataclass(frozen=True)
class Position:
    """A range of a source text. Lines and columns begin at 1; the end is the column after it."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        """Return the range as HCL writes it: the line of the end only if it differs."""
        if self.line == self.end_line:
            return f"{self.file}:{self.line},{self.column}-{self.end_column}"
        return f"{self.file}:{self.line},{self.column}-{self.end_line},{self.end_column}"


def refuse(place: Position | None, summary: str, detail: str) -> HclError:
    """Return the error with one diagnostic; without a ``place`` it says ``<nil>``."""
    return HclError(f"{place or '<nil>'}: {summary}; {detail}")
