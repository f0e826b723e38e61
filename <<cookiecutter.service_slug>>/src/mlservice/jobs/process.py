"""What the process of a job does: the steps behind ``mlservice job``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mlservice.artifacts import Store, open_artifact, open_service_store
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.errors import ArtifactExists, JobError
from mlservice.jobs.call import JobCall
from mlservice.jobs.loading import load_job
from mlservice.jobs.run import Place, run_job
from mlservice.settings import Settings


def run_named_job(
    settings: Settings, environ: Mapping[str, str], name: str, call: str, payload: Path | None
) -> str:
    """Run the job ``name`` with a call, or with a payload's; says what came of it.

    Raises what ``run_job`` does.
    """
    store = open_service_store(settings, environ)
    decoded = JobCall.decode(call if payload is None else _read_payload(payload, store))
    if store.exists(f"{decoded.output}/{MANIFEST_NAME}"):
        # Nomad may start a child again that has succeeded, if it lost track of it.
        return f"nothing to do: {store.root}/{decoded.output} is complete"
    note = ""
    try:
        job = load_job(settings.service.package, name, decoded)
        artifact = run_job(job, decoded, Place(store, settings.folder, settings.service.package))
    except ArtifactExists:
        artifact = open_artifact(store, decoded.output)
        note = "another writer published this artifact first; this job's result was dropped\n"
    return f"{note}artifact  {artifact.uri}"


def _read_payload(file: Path, store: Store) -> str:
    """Read the call in a payload; a call that is too large for Nomad is in the store."""
    try:
        text = file.read_text("utf-8")
        found = json.loads(text)
    except OSError as error:
        raise JobError(f"--payload {file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise JobError(f"--payload {file}: {error}: dispatch the job with a call") from error
    if isinstance(found, dict) and "stored" in found:
        return store.read(str(found["stored"])).decode()
    return text
