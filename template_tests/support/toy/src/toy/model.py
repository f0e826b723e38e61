"""A model that answers x times its slope, slowly if it is told to."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """``slope`` times x."""

    slope: float
    padding: str = ""


def save(model: Model, folder: Path) -> None:
    """Write the model."""
    (folder / "model.json").write_text(json.dumps(vars(model)), "utf-8")


def load(folder: Path) -> Model:
    """Read the model."""
    return Model(**json.loads((folder / "model.json").read_text("utf-8")))


def predict(model: Model, rows: Array) -> Array:
    """The scores; each row predicted is counted in the file TOY_COUNT."""
    if count := os.environ.get("TOY_COUNT"):
        with Path(count).open("ab") as file:
            file.write(b"." * len(rows))
    time.sleep(float(os.environ.get("TOY_DELAY", "0")))
    troubles = rows[:, 1]
    if (troubles == 1).any():
        raise ValueError("a row that this model cannot take")
    if (troubles == 2).any():
        time.sleep(float(os.environ.get("TOY_HANG", "60")))
    if (troubles == 6).any():
        raise SystemExit(3)
    scores = rows[:, 0] * model.slope
    scores = np.where(troubles == 3, np.nan, scores)
    scores = np.where(troubles == 4, np.inf, scores)
    return scores[:-1] if (troubles == 5).any() else scores
