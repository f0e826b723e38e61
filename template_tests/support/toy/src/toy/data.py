"""Rows of an hour."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from mlservice import Sample, job

DEMO_PERIOD = "2024-01-02T00"


@job(memory_mb=(300,))
def rows(output: Path, *, hour: datetime, size: int = 100) -> dict[str, float]:
    """Write random rows that are the same for each hour."""
    generator = np.random.default_rng(int(hour.timestamp()))
    np.save(output / "rows.npy", generator.random(size))
    return {"rows": float(size)}


def samples(after: datetime, count: int) -> list[Sample]:
    """Some requests."""
    return [Sample(f"{after} {n}", {"x": n / count}, "nothing") for n in range(count)]
