"""Keeps a broken model (always zero, out of range, worse than a guess) from users.

The same checks run twice: in the training job before anything is published, and in each worker
that loads the model, on the golden rows that were published with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlservice.errors import ArtifactCorrupt, MlserviceError, ModelRefused, OwnerError

Array = npt.NDArray[np.float64]
GOLDEN_NAME = "golden.npz"
_LOSSES = ("log_loss", "squared_error")
_MAX_GOLDEN_ROWS = 5000
_EXACT = 1e-6


@dataclass(frozen=True)
class QualityChecks:
    """Bounds for a model's scores on rows that it was not trained on.

    ``low`` and ``high`` bound every score. ``min_spread`` is the smallest standard deviation of
    the scores; a constant model has 0. ``margin`` is the share of the baseline's loss by which the
    model must be better (0.01: at least 1 %). ``loss`` is "log_loss" for probabilities, or
    "squared_error". The baseline predicts the mean of the training labels for every row.
    """

    low: float
    high: float
    min_spread: float = 1e-6
    margin: float = 0.0
    loss: str = "log_loss"

    def __post_init__(self) -> None:
        """Raise ``OwnerError`` for bounds without a meaning."""
        if self.loss not in _LOSSES:
            raise OwnerError(
                f"QualityChecks(loss={self.loss!r}): give one of {', '.join(map(repr, _LOSSES))}"
            )
        if not self.low < self.high:
            raise OwnerError(
                f"QualityChecks(low={self.low}, high={self.high}): low must be below high"
            )
        if self.loss == "log_loss" and (self.low < 0 or self.high > 1):
            raise OwnerError(
                f"QualityChecks(low={self.low}, high={self.high}): log_loss is for probabilities, "
                'from 0 to 1; write loss="squared_error" for quantities'
            )

    def failures(self, scores: Array, labels: Array, baseline: float) -> list[str]:
        """Return what is wrong with ``scores`` (shape n) for rows with ``labels`` (shape n)."""
        if unusable := self._unusable(scores, labels):
            return [unusable]
        found = []
        if scores.min() < self.low or scores.max() > self.high:
            found.append(
                f"scores from {scores.min():.4g} to {scores.max():.4g} leave the range "
                f"{self.low:.4g} to {self.high:.4g}"
            )
        if (spread := scores.std()) < self.min_spread:
            found.append(
                f"the output is constant (about {scores.mean():.4g} for every row; its standard "
                f"deviation {spread:.2g} is below {self.min_spread:g})"
            )
        loss, reference = self.losses(scores, labels, baseline)
        if loss > reference * (1 - self.margin):
            found.append(
                f"{self.loss} {loss:.4f} does not beat the baseline's {reference:.4f} "
                f"by {self.margin:.1%}"
            )
        return found

    def _unusable(self, scores: Array, labels: Array) -> str | None:
        """Why the scores cannot be compared with the labels; None if they can."""
        if scores.shape != labels.shape:
            return (
                f"scores of shape {scores.shape} came back for labels of shape {labels.shape}: "
                "predict() must return one number for each row"
            )
        if not len(labels):
            return "there are no rows to try the model on"
        if not np.isfinite(scores).all():
            return f"{int((~np.isfinite(scores)).sum())} scores are not finite"
        if self.loss == "log_loss" and (labels.min() < 0 or labels.max() > 1):
            return (
                f"labels from {labels.min():.4g} to {labels.max():.4g} are no probabilities, which "
                'log_loss needs: write loss="squared_error" for quantities'
            )
        return None

    def losses(self, scores: Array, labels: Array, baseline: float) -> tuple[float, float]:
        """Return the mean loss of the scores, and that of the constant ``baseline``."""
        constant = np.full_like(scores, baseline)
        return _loss(self.loss, scores, labels), _loss(self.loss, constant, labels)


@dataclass(frozen=True)
class Golden:
    """Rows that are published with a model, and the scores that it must give for them.

    ``rows`` has shape (n, features), ``labels`` and ``scores`` shape (n,); ``features`` names
    the columns; ``baseline`` is the mean of the training labels.
    """

    features: tuple[str, ...]
    rows: Array
    labels: Array
    scores: Array
    baseline: float

    def save(self, folder: Path) -> None:
        """Write the golden rows into the model's folder."""
        np.savez(
            folder / GOLDEN_NAME,
            features=np.array(self.features),
            rows=self.rows,
            labels=self.labels,
            scores=self.scores,
            baseline=np.array(self.baseline),
        )

    @classmethod
    def load(cls, folder: Path) -> Golden:
        """Read the golden rows; raises ``ArtifactCorrupt`` if they are missing or broken."""
        try:
            with np.load(folder / GOLDEN_NAME, allow_pickle=False) as data:
                return cls(
                    tuple(str(name) for name in data["features"]),
                    data["rows"],
                    data["labels"],
                    data["scores"],
                    float(data["baseline"]),
                )
        except (OSError, KeyError, ValueError) as error:
            raise ArtifactCorrupt(
                f"{folder / GOLDEN_NAME}: {error}: the training job must call `accept_model`"
            ) from error

    def verify(self, scores: Array, checks: QualityChecks) -> None:
        """Compare a loaded model's ``scores`` for the golden rows with those of the training.

        Raises ``ModelRefused`` with every failure.
        """
        found = checks.failures(scores, self.labels, self.baseline)
        if scores.shape == self.scores.shape and np.isfinite(scores).all():
            distance = float(np.abs(scores - self.scores).max())
            if distance > _EXACT * max(1.0, float(np.abs(self.scores).max())):
                found.append(f"scores differ by up to {distance:.4g} from those in training")
        _refuse(found)


def has_golden_rows(folder: Path) -> bool:
    """Whether ``accept_model`` has left golden rows in ``folder``, as it does for every model."""
    return (folder / GOLDEN_NAME).exists()


def try_model(
    folder: Path,
    load: Callable[[Path], Any],
    predict: Callable[[Any, Array], Array],
    checks: QualityChecks,
) -> tuple[Any, Golden]:
    """Load the model in ``folder`` and try it on its golden rows; returns both.

    Raises ``ModelRefused`` if the model cannot be loaded, cannot predict, or fails its quality
    checks.
    """
    golden = Golden.load(folder)
    try:
        model = load(folder)
        scores = np.asarray(predict(model, golden.rows), dtype=np.float64)
    except MlserviceError:
        raise
    except Exception as error:
        raise ModelRefused(
            f"the model cannot be loaded and tried: {type(error).__name__}: {error}: load() in "
            "model.py must read what save() wrote, and predict() must take its rows"
        ) from error
    golden.verify(scores, checks)
    return model, golden


def accept_model(
    checks: QualityChecks,
    *,
    features: Sequence[str],
    rows: Array,
    labels: Array,
    scores: Array,
    baseline: float,
    output: Path,
) -> dict[str, float]:
    """Check a new model on rows that it was not trained on, and keep some as golden rows.

    ``rows`` has shape (n, features); ``labels`` and ``scores`` have shape (n,). Returns the
    metrics ``loss``, ``baseline_loss`` and ``rows``. Raises ``ModelRefused``; then nothing is
    published.
    """
    if rows.ndim != 2 or rows.shape[1] != len(features):
        raise ModelRefused(
            f"rows of shape {rows.shape} for {len(features)} names: FEATURES and features() in "
            "features.py must agree"
        )
    labels = labels.astype(np.float64)
    _refuse(checks.failures(scores, labels, baseline))
    kept = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_GOLDEN_ROWS)).astype(int)
    golden = Golden(tuple(features), rows[kept], labels[kept], scores[kept], baseline)
    golden.save(output)
    loss, reference = checks.losses(scores, labels, baseline)
    return {"loss": loss, "baseline_loss": reference, "rows": float(len(rows))}


def _refuse(found: Sequence[str]) -> None:
    if found:
        raise ModelRefused(
            f"the model fails its quality checks: {'; '.join(found)}: look at "
            "the model, at the data of this period, or at the bounds in checks.py"
        )


def _loss(name: str, scores: Array, labels: Array) -> float:
    if name == "log_loss":
        bounded = np.clip(scores, 1e-12, 1 - 1e-12)
        return float(-np.mean(labels * np.log(bounded) + (1 - labels) * np.log1p(-bounded)))
    return float(np.mean((scores - labels) ** 2))
