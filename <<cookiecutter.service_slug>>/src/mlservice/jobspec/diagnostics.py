"""What Nomad says of a jobspec that it does not understand, in its own form.

A diagnostic reads ``input.hcl:3,5-9: Summary; Detail``; one without a place has ``<nil>`` there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A range of a source text; lines and columns begin at 1, the end is the first column after."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        """As HCL writes it: the end's line only where it is another one."""
        if self.line == self.end_line:
            return f"{self.file}:{self.line},{self.column}-{self.end_column}"
        return f"{self.file}:{self.line},{self.column}-{self.end_line},{self.end_column}"


class HclError(Exception):
    """A text that HCL or Nomad's rules refuse; its words are what Nomad answers."""

    def __init__(self, *diagnostics: str) -> None:
        """Keep each diagnostic; they are joined by lines."""
        super().__init__("\n".join(diagnostics))
        self.diagnostics = diagnostics


def refuse(place: Place | None, summary: str, detail: str) -> HclError:
    """The error with one diagnostic; without a ``place`` it is Go's nil."""
    return HclError(f"{place or '<nil>'}: {summary}; {detail}")
