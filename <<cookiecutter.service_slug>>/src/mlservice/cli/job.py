"""``mlservice job NAME --call JSON``: the command line of a job's process or container."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mlservice.artifacts import open_artifact
from mlservice.cli.common import read_settings, settings_store
from mlservice.door import open_job_modules
from mlservice.errors import ArtifactExists
from mlservice.jobs import JobCall, find_job, run_job
from mlservice.observe.logs import log_as_text


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("job", help="run one job (used by the pipeline)")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--call", required=True, metavar="JSON", help="inputs, parameters, output")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    log_as_text()
    settings = read_settings(environ)
    open_job_modules(settings.service.package)
    store = settings_store(settings)
    call = JobCall.decode(arguments.call)
    try:
        artifact = run_job(find_job(arguments.name), call, store, settings.folder)
    except ArtifactExists:
        artifact = open_artifact(store, call.output)
        print("another writer published this artifact first; the work of this one was dropped")
    print(f"artifact  {artifact.uri}")
    return 0
