"""Finds the model that a command means: one by its URI, or the latest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlservice.artifacts import Artifact, list_artifacts, open_artifact, open_service_store
from mlservice.artifacts.artifact import relative_path
from mlservice.errors import ArtifactNotFound
from mlservice.owner import load_pipeline
from mlservice.settings import Settings

LATEST = "latest"


def find_model(settings: Settings, environ: Mapping[str, str], uri: str) -> Artifact:
    """Open the artifact at ``uri``, or for ``LATEST`` the model of the latest period.

    Of several models of one period, one with the pipeline's default parameters comes before the
    results of a grid or a comparison. Raises ``ArtifactNotFound`` if there is no model.
    """
    store = open_service_store(settings, environ)
    if uri != LATEST:
        return open_artifact(store, relative_path(store, uri))
    pipeline = load_pipeline(settings.service.package)
    found = list_artifacts(store, f"{settings.service.name}/{pipeline.get_task_family()}")
    if not found:
        raise ArtifactNotFound(
            f"there is no model in {store.root} yet: run `mlservice pipeline run`, or give the URI "
            "of a model"
        )
    defaults = _default_parameters(pipeline)

    def rank(model: Artifact) -> tuple[str, bool, datetime]:
        given = model.manifest.parameters
        is_default = all(given.get(name) == value for name, value in defaults.items())
        return str(given.get("period")), is_default, model.manifest.created

    return max(found, key=rank)


def _default_parameters(pipeline: Any) -> dict[str, Any]:
    """Return the defaults of all parameters but the period; none if one has no default."""
    from luigi.parameter import MissingParameterException

    try:
        values: dict[str, Any] = pipeline(period=datetime.min).values
    except MissingParameterException:
        return {}
    return {name: value for name, value in values.items() if name != "period"}
