"""Reads copier's answers file: the template's address, its version, and the recorded answers.

copier reads it as well, but it answers a fault in it with a traceback, or ignores it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlservice.errors import UpgradeError

ANSWERS_FILE = ".copier-answers.yml"
_REMEDY = "take the file from an older commit (`git log -- .copier-answers.yml`)"


@dataclass(frozen=True)
class CopierAnswers:
    """The recorded template, its version, and the answers to its questions."""

    source: str
    commit: str
    values: Mapping[str, Any]

    @property
    def package(self) -> str:
        """Name of the owner's package."""
        return str(self.values.get("service_slug", "")).replace("-", "_")


def read_answers(folder: Path) -> CopierAnswers:
    """Read the answers of the service in ``folder``; raises ``UpgradeError``."""
    path = folder / ANSWERS_FILE
    if not path.is_file():
        raise UpgradeError(
            f"{ANSWERS_FILE} is not in {folder}, so the template of this service is unknown: "
            f"run the command in the service's folder, or {_REMEDY}"
        )
    recorded = _parse(path)
    for key in ("_commit", "_src_path"):
        value = recorded.get(key)
        if isinstance(value, (int, float)):
            raise UpgradeError(
                f"{ANSWERS_FILE} has a number for {key} ({value}), but needs a text: write it "
                f"in quotes, `{key}: '...'`, and commit it"
            )
        if not isinstance(value, str) or not value.strip():
            raise UpgradeError(
                f"{ANSWERS_FILE} has no {key} ({_MEANING[key]}): {_REMEDY}, or add the line "
                f"`{key}: ...` yourself and commit it"
            )
    values = {key: value for key, value in recorded.items() if not key.startswith("_")}
    return CopierAnswers(recorded["_src_path"].strip(), recorded["_commit"].strip(), values)


_MEANING = {
    "_commit": "the version of the template that this service is made from, such as v0.1.0",
    "_src_path": "the git address of the template",
}


def _parse(path: Path) -> dict[str, Any]:
    yaml = _yaml()
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        place = str(error).replace("\n", " ")
        raise UpgradeError(f"{ANSWERS_FILE} is not YAML: {place}: {_REMEDY}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UpgradeError(f"{ANSWERS_FILE} is not a table of names and values: {_REMEDY}")
    return {str(key): value for key, value in found.items()}


def dump(values: Mapping[str, Any]) -> str:
    """Return the answers as YAML that copier reads back."""
    text: str = _yaml().safe_dump(dict(values), allow_unicode=True)
    return text


def _yaml() -> Any:
    """The YAML library comes with copier, so a container that only serves does not have it."""
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise UpgradeError(
            "copier and its libraries are not installed here: upgrade by `make upgrade`, which "
            "installs requirements/dev.lock into .venv"
        ) from error
