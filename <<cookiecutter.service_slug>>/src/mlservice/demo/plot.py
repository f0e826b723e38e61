"""Draws what the demo's bandit learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlservice.demo.processes import CHALLENGER, STABLE


def draw_bandit(
    shares: Sequence[float], size: int, regret: Sequence[float], even_regret: float, into: Path
) -> None:
    """Draw the stable version's share in each round of ``size`` requests, and the regret."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    middles = [(n + 0.5) * size for n in range(len(shares))]
    above.plot(middles, shares, marker="o", label=STABLE)
    above.plot(middles, [1 - share for share in shares], marker="o", label=CHALLENGER)
    above.set(ylabel=f"share of {size} requests", ylim=(0, 1), title="What the bandit learns")
    below.plot(range(1, len(regret) + 1), regret, label="bandit")
    below.plot([0, len(regret)], [0, even_regret * len(regret)], "--", label="even split")
    below.set(xlabel="requests", ylabel="regret in rewards")
    for part in (above, below):
        part.legend()
        part.grid(alpha=0.3)
    figure.savefig(into)
