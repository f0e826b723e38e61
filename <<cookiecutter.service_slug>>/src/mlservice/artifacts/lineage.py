"""What an artifact was made from, down to the raw data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlservice.artifacts.artifact import Artifact, open_artifact, relative_path
from mlservice.artifacts.store_protocol import Store


@dataclass(frozen=True)
class Lineage:
    """An artifact, and the lineage of each artifact that its job took as an input.

    ``environment`` has the versions of packages, and so of the data sets that come as packages.
    """

    uri: str
    task: str
    parameters: Mapping[str, Any]
    environment: Mapping[str, str]
    inputs: tuple[Lineage, ...]


def read_lineage(store: Store, artifact: Artifact) -> Lineage:
    """Read the lineage of an artifact; raises ``ArtifactNotFound`` if an input is gone."""
    manifest = artifact.manifest
    uris = [uri for several in manifest.inputs.values() for uri in several]
    return Lineage(
        uri=artifact.uri,
        task=manifest.task,
        parameters=dict(manifest.parameters),
        environment=dict(manifest.environment),
        inputs=tuple(
            read_lineage(store, open_artifact(store, relative_path(store, uri))) for uri in uris
        ),
    )
