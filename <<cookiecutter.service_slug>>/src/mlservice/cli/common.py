"""What several verbs share: settings and store from the environment, and a plain table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlservice.artifacts import Artifact, Store, list_artifacts, open_artifact, open_store
from mlservice.artifacts.artifact import relative_path
from mlservice.errors import ArtifactNotFound, SettingsError
from mlservice.owner import load_pipeline
from mlservice.settings import Settings, load_settings


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of the service whose folder the command runs in."""
    return load_settings(Path.cwd(), environ)


def settings_store(settings: Settings) -> Store:
    """The artifact store of the settings."""
    found = settings.artifacts
    return open_store(
        settings.artifact_root, s3_endpoint=found.s3_endpoint, s3_region=found.s3_region
    )


def find_model(settings: Settings, uri: str) -> Artifact:
    """The artifact at ``uri``, or for "latest" that of the latest period.

    Of several of one period, one with the pipeline's own parameters goes before the results of a
    grid or a comparison. Raises ``ArtifactNotFound`` where there is none.
    """
    store = settings_store(settings)
    if uri != "latest":
        return open_artifact(store, relative_path(store, uri))
    pipeline = load_pipeline(settings.service.package)
    found = list_artifacts(store, f"{settings.service.name}/{pipeline.get_task_family()}")
    if not found:
        raise ArtifactNotFound(
            f"there is no model in {store.root} yet: run `mlservice pipeline run`, or name one by "
            "its URI"
        )
    usual = _defaults(pipeline)

    def rank(model: Artifact) -> tuple[str, bool, datetime]:
        given = model.manifest.parameters
        as_usual = all(given.get(name) == value for name, value in usual.items())
        return str(given.get("period")), as_usual, model.manifest.created

    return max(found, key=rank)


def _defaults(pipeline: Any) -> dict[str, Any]:
    """The values of the pipeline's parameters beside its period; none where one must be given."""
    from luigi.parameter import MissingParameterException

    try:
        values: dict[str, Any] = pipeline(period=datetime.min).values
    except MissingParameterException:
        return {}
    return {name: value for name, value in values.items() if name != "period"}


def pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as its two parts; raises ``SettingsError``."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise SettingsError(f"'{text}': give it as NAME=VALUE, such as trees=300")
    return name, value


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text; those whose cells are all numbers are set to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [bool(rows) and all(_is_number(cell) for cell in column[1:]) for column in columns]
    lines = []
    for row in (header, *rows):
        cells = zip(row, widths, right, strict=True)
        text = "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in cells)
        lines.append(text.rstrip())
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).rstrip("%").strip().isdigit()
