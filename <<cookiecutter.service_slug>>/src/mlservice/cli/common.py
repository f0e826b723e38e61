"""What several verbs share: settings and store from the environment, and a plain table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlservice.artifacts import Store, open_store
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
