"""Trains the model of a period on the weeks before it, and checks it on the last week."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mlservice import accept_model, job

from .checks import CHECKS
from .data import LATE_MINUTES, requests
from .features import FEATURES, matrix
from .model import fit, predict, save


@job(memory_mb=(1024, 2048, 4096), model=True)
def train(
    examples: list[Path], output: Path, *, trees: int, learning_rate: float
) -> dict[str, float]:
    """Fit on all weeks but the last, check on the last, and write the model.

    ``examples`` are the weeks in order of time, so that the check uses later data than the fit.
    """
    *past, last = (pl.read_parquet(folder / "examples.parquet") for folder in examples)
    if not past:
        raise ValueError(
            "weeks = 1: training needs 2 or more, because the last week is for the check"
        )
    train_set = pl.concat(past)
    labels = _labels(train_set)
    model = fit(matrix(requests(train_set)), labels, trees=trees, learning_rate=learning_rate)
    save(model, output)
    rows = matrix(requests(last))
    return accept_model(
        CHECKS,
        features=FEATURES,
        rows=rows,
        labels=_labels(last),
        scores=predict(model, rows),
        baseline=float(labels.mean()),
        output=output,
    )


def _labels(examples: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    late = examples["arrival_delay_minutes"] >= LATE_MINUTES
    return late.cast(pl.Float64).to_numpy()
