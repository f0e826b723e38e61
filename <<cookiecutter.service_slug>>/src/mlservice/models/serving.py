"""Publishes models of a service by its settings: the steps behind ``mlservice models``."""

from __future__ import annotations

from collections.abc import Mapping

from mlservice.artifacts import Artifact
from mlservice.cluster import open_consul, open_nomad
from mlservice.live import ModelRecord
from mlservice.models.publish import check, describe, publish
from mlservice.models.registry import Registry, Result
from mlservice.owner import load_model_code
from mlservice.progress import SILENT, Progress
from mlservice.settings import Settings


def open_registry(settings: Settings, environ: Mapping[str, str]) -> Registry:
    """Open the published models of the service, in the Consul of the settings."""
    consul = open_consul(settings.consul, environ)
    return Registry(consul, settings.service.name, settings.models.serves)


def publish_model(
    settings: Settings,
    environ: Mapping[str, str],
    model: Artifact,
    *,
    by_hand: bool,
    progress: Progress = SILENT,
) -> Result:
    """Check a model as a worker would, then publish it; ``by_hand`` even if it is older.

    Raises ``ModelRefused``, ``ArtifactError`` or ``ClusterError``.
    """
    progress.begin("publishing: checks, then records the model", 2)
    check(model, load_model_code(settings.service.package))
    progress.advance()
    result = publish_record(settings, environ, describe(model), by_hand=by_hand)
    progress.advance()
    progress.end()
    return result


def roll_back(
    settings: Settings, environ: Mapping[str, str], version: str | None
) -> tuple[ModelRecord, Result]:
    """Publish an earlier model again: ``version``, or the one before the one that serves.

    Raises ``ClusterError`` if there is none.
    """
    registry = open_registry(settings, environ)
    record = registry.find(version) if version else registry.before()
    return record, publish_record(settings, environ, record, by_hand=True)


def publish_record(
    settings: Settings, environ: Mapping[str, str], record: ModelRecord, *, by_hand: bool
) -> Result:
    """Publish a model's record in the way that ``[models] reload`` names."""
    workers = None
    if settings.models.reload == "rolling":
        nomad = open_nomad(settings.service_cluster, environ, "service_cluster")
        workers = (nomad, settings.worker_job)
    return publish(open_registry(settings, environ), record, by_hand=by_hand, workers=workers)
