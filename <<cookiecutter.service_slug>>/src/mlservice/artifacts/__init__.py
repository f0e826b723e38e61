"""Artifacts: results that are named by their parameters, published whole, and never replaced."""

from mlservice.artifacts.artifact import Artifact, list_artifacts, open_artifact, publish
from mlservice.artifacts.manifest import FileEntry, Manifest
from mlservice.artifacts.path import artifact_path
from mlservice.artifacts.service_store import open_service_store
from mlservice.artifacts.store import open_store
from mlservice.artifacts.store_protocol import Store

__all__ = [
    "Artifact",
    "FileEntry",
    "Manifest",
    "Store",
    "artifact_path",
    "list_artifacts",
    "open_artifact",
    "open_service_store",
    "open_store",
    "publish",
]
