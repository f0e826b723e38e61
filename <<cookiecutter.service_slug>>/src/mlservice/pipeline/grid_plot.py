"""Draws the metric of a grid over its parameters: one panel for each, with the best marked."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

_MAX_NAMES = 12


def draw_grid(results: Path, axes: Sequence[str], metric: str, best: float, into: Path) -> None:
    """Draw the results of a CSV file as a PNG: a dot for each combination, a star for the best."""
    from matplotlib.figure import Figure

    with results.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[metric]]
    figure = Figure(figsize=(4.2 * len(axes), 3.8), layout="constrained")
    for panel, axis in zip(
        figure.subplots(1, len(axes), sharey=True, squeeze=False)[0], axes, strict=True
    ):
        places, names = _places([row[axis] for row in rows])
        values = [float(row[metric]) for row in rows]
        panel.scatter(places, values, s=12, alpha=0.5, linewidths=0, color="#4477aa")
        found = [place for place, value in zip(places, values, strict=True) if value == best]
        panel.scatter(found, [best] * len(found), s=60, color="#cc3311", marker="*", zorder=3)
        panel.set_xlabel(axis)
        panel.locator_params("x", nbins=6, integer=all(place.is_integer() for place in places))
        if names:
            panel.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0)
    figure.axes[0].set_ylabel(metric)
    figure.suptitle(f"{len(rows)} combinations; best {metric} {best:.5g}")
    figure.savefig(into, dpi=120)


def _places(texts: Sequence[str]) -> tuple[list[float], list[str]]:
    """Return positions on an axis: numbers by their size, other values by their order."""
    try:
        return [float(text) for text in texts], []
    except ValueError:
        names = sorted(set(texts))[:_MAX_NAMES]
        order = {name: float(number) for number, name in enumerate(names)}
        return [order.get(text, float(len(names))) for text in texts], names
