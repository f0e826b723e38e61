"""Fetches, verifies, loads and tries a model; the result is a slot that is ready to predict.

A slot never changes, so a swap replaces one reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlservice.artifacts import Artifact, Manifest, Store
from mlservice.artifacts.artifact import relative_path
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.errors import ArtifactCorrupt, ModelRefused
from mlservice.live import ModelRecord
from mlservice.owner import ModelCode
from mlservice.protocol.packing import features_digest
from mlservice.quality import try_model

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ModelSlot:
    """A model that has passed its checks; ``predict`` maps shape (n, columns) to (n,)."""

    version: str
    columns: int
    features: str
    predict: Callable[[Array], Array]


def load_slot(artifact: Artifact, code: ModelCode) -> ModelSlot:
    """Load the model in ``artifact`` and try it on its golden rows.

    Raises ``ArtifactCorrupt`` for an altered file and ``ModelRefused`` for a model that cannot
    be loaded, cannot predict, or fails its quality checks.
    """
    with artifact.files() as folder:
        try:
            model, golden = try_model(folder, code.load, code.predict, code.checks)
        except ModelRefused as error:
            raise ModelRefused(f"{artifact.uri}: {error}") from error
    return ModelSlot(
        version=artifact.version,
        columns=len(golden.features),
        features=features_digest(golden.features),
        predict=lambda rows: code.predict(model, rows),
    )


def fetch_slot(
    record: ModelRecord, store: Store, code: ModelCode, names: Sequence[str]
) -> ModelSlot:
    """Load the model that ``record`` names, after a check of its published checksum.

    ``names`` are the features that gateways of this code send. Raises what ``load_slot`` raises,
    ``ArtifactNotFound``, and ``StoreError`` if the store cannot be reached.
    """
    path = relative_path(store, record.uri)
    text = store.read(f"{path}/{MANIFEST_NAME}")
    digest = hashlib.sha256(text).hexdigest()
    if digest != record.sha256:
        raise ArtifactCorrupt(
            f"{record.uri}/{MANIFEST_NAME}: has SHA-256 {digest[:12]}…, but was published with "
            f"{record.sha256[:12]}…: it was altered, so publish another model"
        )
    slot = load_slot(Artifact(store, path, Manifest.decode(text, record.uri)), code)
    if slot.features != features_digest(names):
        raise ModelRefused(
            f"{record.uri}: was trained with other features than FEATURES in features.py: train "
            "it with this code, or deploy the code that it was trained with"
        )
    return replace(slot, version=record.version)
