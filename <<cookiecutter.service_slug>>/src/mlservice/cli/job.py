"""``mlservice job NAME --call JSON``: the command line of a job's process or container."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated

import typer

from mlservice.cli.group import environ_of, settings_of
from mlservice.cli.options import exactly_one


def job(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The job's name.")],
    call: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The job's inputs, parameters and output."),
    ] = None,
    payload: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A file with the call, or with the place where it is stored."
        ),
    ] = None,
) -> None:
    """Run one job, as the pipeline does.

    People use `mlservice pipeline run`.
    """
    from mlservice.jobs.memory import OUT_OF_MEMORY_CODE, kills_for_memory, out_of_memory
    from mlservice.jobs.process import run_named_job
    from mlservice.observe.logs import log_as_text

    exactly_one(context, call=call, payload=payload)
    log_as_text()
    settings = settings_of(context)
    kills_before = kills_for_memory()
    try:
        print(run_named_job(settings, environ_of(context), name, call or "", payload))
    except Exception as error:
        if not out_of_memory(kills_before):
            raise
        traceback.print_exc()
        raise typer.Exit(OUT_OF_MEMORY_CODE) from error
