"""A loaded model, ready to predict, and how it comes to be: fetch, verify, load, try.

Nothing of a slot changes once it is made, so a swap is the exchange of one reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlservice.artifacts import Artifact
from mlservice.door import ModelSide, try_model
from mlservice.errors import ModelRefused
from mlservice.protocol.packing import features_digest

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ModelSlot:
    """A model that has passed its checks: ``predict`` maps (n, columns) to (n,)."""

    version: str
    columns: int
    features: str
    predict: Callable[[Array], Array]


def load_slot(artifact: Artifact, side: ModelSide) -> ModelSlot:
    """Load the model in ``artifact`` and try it on its golden rows.

    Raises ``ArtifactCorrupt`` for an altered file and ``ModelRefused`` for a model that cannot
    be loaded, cannot predict, or fails its quality checks.
    """
    with artifact.files() as folder:
        try:
            model, golden = try_model(side, folder)
        except ModelRefused as error:
            raise ModelRefused(f"{artifact.uri}: {error}") from error
    return ModelSlot(
        version=model_version(artifact),
        columns=len(golden.features),
        features=features_digest(golden.features),
        predict=lambda rows: side.predict(model, rows),
    )


def model_version(artifact: Artifact) -> str:
    """Name of the model in answers: when it was made, and a hash of the artifact's path."""
    digest = hashlib.sha256(artifact.path.encode()).hexdigest()[:8]
    return f"{artifact.manifest.created:%Y%m%dT%H%M%S}-{digest}"
