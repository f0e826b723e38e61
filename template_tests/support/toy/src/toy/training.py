"""Makes a model of hours."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from mlservice import accept_model, job

from .checks import CHECKS
from .features import FEATURES
from .model import Model, predict, save


@job(memory_mb=(300, 900))
def fit(hours: list[Path], output: Path, *, slope: float, padding: int = 0) -> dict[str, float]:
    """Write a model with the slope, and check it; TOY_* make trouble."""
    if os.environ.get("TOY_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
    if os.environ.get("TOY_FAIL"):
        raise ValueError("the data of this hour are broken")
    eaten = np.ones(int(os.environ.get("TOY_EAT", "0")) * 1024 * 1024, dtype=np.uint8)
    time.sleep(float(os.environ.get("TOY_WAIT", "0")) + (1.5 if eaten.any() else 0))
    x = np.concatenate([np.load(folder / "rows.npy") for folder in hours])
    model = Model(slope, "p" * padding)
    save(model, output)
    inputs = np.column_stack([x, np.zeros_like(x)])
    return accept_model(
        CHECKS,
        features=FEATURES,
        rows=inputs,
        labels=x,
        scores=predict(model, inputs),
        baseline=float(x.mean()),
        output=output,
    )
