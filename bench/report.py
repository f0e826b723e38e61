"""Prints tables of absolute figures, then the ratios with their bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Turn


@dataclass(frozen=True)
class Figure:
    """One claim: the median of ``values``, one value for each round, and its bar."""

    name: str
    values: tuple[float, ...]
    bar: float
    at_least: bool
    unit: str = "x"
    note: str = ""

    @property
    def median(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def reached(self) -> bool:
        """Whether the median meets its bar."""
        return self.median >= self.bar if self.at_least else self.median <= self.bar


def print_turns(title: str, turns: Mapping[str, Sequence[Turn]]) -> None:
    """Print the absolute figures of a section: medians, and the range of the rates."""
    rows = [_row(name, found) for name, found in turns.items()]
    header = ("", "req/s", "(span)", "p50 ms", "p99 ms", "CPU s", "req/CPU s", "errors")
    print(f"\n{title}\n{table(header, rows)}", flush=True)


def print_figures(figures: Sequence[Figure]) -> None:
    """Print the ratios, their spread, and whether they meet their bars."""
    rows = [
        (
            figure.name,
            f"{figure.median:.2f} {figure.unit}",
            f"{min(figure.values):.2f} - {max(figure.values):.2f}",
            f"{'>=' if figure.at_least else '<='} {figure.bar:g} {figure.unit}",
            "reached" if figure.reached else "missed",
            figure.note,
        )
        for figure in figures
    ]
    header = ("figure (median of the rounds)", "value", "spread", "bar", "", "")
    print(f"\nFIGURES\n{table(header, rows)}", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format rows as columns; the first is aligned left, the others right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0], cells[-1] = row[0].ljust(widths[0]), row[-1]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def cpu_share(turns: Sequence[Turn], name: str) -> float:
    """Return how many cores a part of a contender used, as the median of the turns."""
    return median(turn.cpu[name] / turn.seconds for turn in turns)


def _row(name: str, turns: Sequence[Turn]) -> tuple[str, ...]:
    rates = [turn.rate for turn in turns]
    return (
        name,
        f"{median(rates):,.0f}",
        f"({min(rates):,.0f} - {max(rates):,.0f})",
        f"{median(turn.p50 for turn in turns):.2f}",
        f"{median(turn.p99 for turn in turns):.1f}",
        f"{median(turn.cpu['all'] for turn in turns):.2f}",
        f"{median(turn.per_cpu_second for turn in turns):,.0f}",
        str(sum(turn.errors for turn in turns)),
    )
