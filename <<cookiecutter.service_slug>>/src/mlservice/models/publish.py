"""Publishes a model: checks it and writes its record to Consul; for rolling, updates the workers.

Workers that follow the live file (``reload`` = watch or signal) see Consul's key by themselves.
For ``rolling``, the worker job is registered with the model in its meta. Nomad's deployment then
replaces one instance after the other, and reverts if one does not become healthy.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from datetime import datetime

from mlservice.artifacts import Artifact
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.cluster import Nomad
from mlservice.errors import ClusterConflict, ClusterError, ModelRefused
from mlservice.live import ModelRecord
from mlservice.models.registry import Registry, Result
from mlservice.owner import ModelCode
from mlservice.quality import try_model

META_KEY = "model"
_MAX_CONFLICTS = 10
log = logging.getLogger("mlservice.models")


def describe(artifact: Artifact) -> ModelRecord:
    """Return what is published of a model: its address, its manifest's checksum, its metrics.

    Raises ``ModelRefused`` for a model without a period, or with a metric that is not finite.
    """
    manifest = artifact.store.read(f"{artifact.path}/{MANIFEST_NAME}")
    try:
        return ModelRecord(
            uri=artifact.uri,
            sha256=hashlib.sha256(manifest).hexdigest(),
            version=artifact.version,
            metrics=artifact.manifest.metrics,
            created=artifact.manifest.created,
            period=datetime.fromisoformat(artifact.manifest.parameters["period"]).isoformat(),
        )
    except (KeyError, ValueError) as error:
        raise ModelRefused(
            f"{artifact.uri} is not published: {error}: a model needs a period, which the task "
            "`Pipeline` in pipeline.py has, and finite metrics"
        ) from error


def check(artifact: Artifact, code: ModelCode) -> None:
    """Load and try the model as a worker would; raises ``ModelRefused`` or ``ArtifactError``."""
    with artifact.files() as folder:
        try:
            try_model(folder, code.load, code.predict, code.checks)
        except ModelRefused as error:
            raise ModelRefused(f"{artifact.uri} is not published: {error}") from error


def publish(
    registry: Registry, record: ModelRecord, *, by_hand: bool, workers: tuple[Nomad, str] | None
) -> Result:
    """Let ``record`` serve; ``by_hand`` even if it is older than the one that serves.

    ``workers`` is the Nomad and the job of the workers if the reload is rolling. Raises
    ``ClusterError``; the same call again completes what was begun.
    """
    result = registry.choose(record) if by_hand else registry.offer(record)
    if workers and result in ("published", "unchanged"):
        roll(*workers, registry)
    return result


def roll(nomad: Nomad, job_name: str, registry: Registry) -> None:
    """Register the worker job with the model that serves in its meta, and otherwise unchanged.

    The job is read before the model, so that a publisher in between causes a conflict.
    """
    for _ in range(_MAX_CONFLICTS):
        job = nomad.job(job_name)
        if job is None:
            raise ClusterError(
                f"{job_name} is not registered, so no worker takes the model: run "
                "`mlservice deploy register`"
            )
        record = registry.current()
        if record is None:
            return
        wanted = record.encode()
        if job.spec.meta.get(META_KEY) == wanted:
            return
        with suppress(ClusterConflict):
            nomad.register(job.spec.with_meta(META_KEY, wanted), job.index)
        # The next turn reads it back: before Nomad 2.0.1 two writers can both succeed.
    raise ClusterError(
        f"{job_name}: gave up after {_MAX_CONFLICTS} conflicting registrations: stop the other "
        "process that registers it (see `nomad job history`), and repeat"
    )
