"""``mlservice models list|show|publish|rollback``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlservice.cli.group import CommandGroup, environ_of, settings_of
from mlservice.cli.options import JsonOption
from mlservice.cli.output import print_json, print_table
from mlservice.cli.progress import show_progress

if TYPE_CHECKING:
    from mlservice.models.registry import Listed, Registry

commands = CommandGroup("Show which model serves, and choose another one.")

MEANING = {
    "published": "is published and serves from now on",
    "unchanged": "is published already",
    "late": "is not published: a newer model serves or did",
    "rolled back": "is not published: it was rolled back (`mlservice models publish` insists)",
}


@commands.command("list", example="mlservice models list")
def list_all(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all models that were published, the newest first."""
    found = _registry(context).published()
    if as_json:
        print_json([{**m.record.model_dump(mode="json"), "serves": m.serves} for m in found])
    else:
        print_table(("", "version", "period", "made (UTC)", "metrics"), [_row(m) for m in found])


@commands.command("show", example="mlservice models show 3f2a")
def show(
    context: typer.Context,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="A version, or its first characters.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Show one published model in full."""
    record = _registry(context).find(version).model_dump(mode="json")
    if as_json:
        print_json(record)
    else:
        for name, value in record.items():
            print(f"{name:<10}{value}")


@commands.command("publish", example="mlservice models publish latest")
def publish(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(metavar="URI", help="The model's artifact, or `latest`.")],
    as_json: JsonOption = False,
) -> None:
    """Check a model and let it serve.

    This also takes a model that is older than the one that serves.
    """
    from mlservice.models.selection import find_model
    from mlservice.models.serving import publish_model

    settings, environ = settings_of(context), environ_of(context)
    with show_progress(silent=as_json) as progress:
        model = find_model(settings, environ_of(context), uri)
        result = publish_model(settings, environ, model, by_hand=True, progress=progress)
    print_published(model.version, result, as_json=as_json)


@commands.command("rollback", example="mlservice models rollback")
def rollback(
    context: typer.Context,
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION", help="The model to go back to (default: the next older one)."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let an earlier model serve again."""
    from mlservice.models.serving import roll_back

    record, result = roll_back(settings_of(context), environ_of(context), version)
    print_published(record.version, result, as_json=as_json)


def print_published(version: str, result: str, *, as_json: bool) -> None:
    """Say whether a model serves now."""
    if as_json:
        print_json({"version": version, "result": result})
    else:
        print(f"{version}  {MEANING[result]}")


def _registry(context: typer.Context) -> Registry:
    from mlservice.models.serving import open_registry

    return open_registry(settings_of(context), environ_of(context))


def _row(model: Listed) -> tuple[str, ...]:
    record = model.record
    return (
        "serves" if model.serves else "",
        record.version,
        record.period,
        f"{record.created:%Y-%m-%d %H:%M}",
        "  ".join(f"{name} {value:.4g}" for name, value in record.metrics.items()),
    )
