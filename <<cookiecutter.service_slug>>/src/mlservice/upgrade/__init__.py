"""Template upgrades that are rehearsed before they touch the repository."""

from collections.abc import Mapping
from pathlib import Path


def check(folder: Path, environ: Mapping[str, str]) -> str:
    return ""


def upgrade(folder: Path, environ: Mapping[str, str]) -> str:
    return ""
