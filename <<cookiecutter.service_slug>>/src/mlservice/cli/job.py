"""``mlservice job NAME --call JSON``: the command line of a job's process or container."""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlservice.artifacts import Store, open_artifact
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.cli.common import read_settings, settings_store
from mlservice.errors import ArtifactExists, JobError
from mlservice.jobs import JobCall, Place, load_job, run_job
from mlservice.jobs.memory import OUT_OF_MEMORY_CODE, kills_for_memory, out_of_memory
from mlservice.observe.logs import log_as_text


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("job", help="run one job (used by the pipeline)")
    parser.add_argument("name", metavar="NAME")
    call = parser.add_mutually_exclusive_group(required=True)
    call.add_argument("--call", metavar="JSON", help="inputs, parameters, output")
    call.add_argument(
        "--payload", type=Path, metavar="FILE", help="a file with that, or with where it is stored"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    log_as_text()
    settings = read_settings(environ)
    store = settings_store(settings)
    call = JobCall.decode(arguments.call or _stored(arguments.payload, store))
    if store.exists(f"{call.output}/{MANIFEST_NAME}"):
        # Nomad may start a child again that ended well, after it lost sight of it.
        print(f"nothing to do: {store.root}/{call.output} is complete")
        return 0
    kills_before = kills_for_memory()
    try:
        job = load_job(settings.service.package, arguments.name, call)
        artifact = run_job(job, call, Place(store, settings.folder, settings.service.package))
    except ArtifactExists:
        artifact = open_artifact(store, call.output)
        print("another writer published this artifact first; the work of this one was dropped")
    except Exception:
        if out_of_memory(kills_before):
            traceback.print_exc()
            return OUT_OF_MEMORY_CODE
        raise
    print(f"artifact  {artifact.uri}")
    return 0


def _stored(file: Path, store: Store) -> str:
    """The call in a dispatch's payload; one that was too large for Nomad lies in the store."""
    try:
        text = file.read_text("utf-8")
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise JobError(f"--payload {file}: {error}: dispatch the job with a call") from error
    if isinstance(found, dict) and "stored" in found:
        return store.read(str(found["stored"])).decode()
    return text
