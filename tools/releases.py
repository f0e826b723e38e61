"""Finds the template's releases: a release is the commit that dates its version in CHANGELOG.md.

The version in pyproject.toml changes with the first commit after a release, so it cannot say what
was released. `python tools/releases.py` lists version and commit, oldest first; with --last it
prints the commit of the newest.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = "CHANGELOG.md"
_DATED = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """A version, and the commit that dates it."""

    version: str
    commit: str


def releases(repository: Path = ROOT) -> list[Release]:
    """The releases of the branch that is checked out in ``repository``, oldest first."""
    found: dict[str, Release] = {}
    for commit in _git(repository, "log", "--reverse", "--format=%H", "--", CHANGELOG).split():
        text = _git(repository, "show", f"{commit}:{CHANGELOG}")
        for version in reversed(_DATED.findall(text)):
            found.setdefault(version, Release(version, commit))
    return list(found.values())


def _git(repository: Path, *arguments: str) -> str:
    command = ("git", "-C", str(repository), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    listed = releases()
    if "--last" in sys.argv[1:]:
        print(listed[-1].commit if listed else "")
    else:
        print("\n".join(f"{release.version} {release.commit}" for release in listed))
