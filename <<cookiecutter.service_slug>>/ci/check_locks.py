"""Fails where a lock file has no version for a requirement, or one that it does not allow.

Compares names and versions only, so that it needs no network; `make lock` resolves again.
"""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
LOCKS = {"service.lock": ("platform.in", "service.in"), "dev.lock": ("dev.in",)}


def main() -> int:
    """Print each requirement that its lock does not satisfy; returns the exit code."""
    overridden = {canonicalize_name(r.name) for r in _requirements(FOLDER / "overrides.txt")}
    faults = [
        f"requirements/service.in: {requirement} is switched off by requirements/overrides.txt: "
        "delete its line there"
        for requirement in _requirements(FOLDER / "service.in")
        if canonicalize_name(requirement.name) in overridden
    ]
    faults += [
        f"requirements/{lock}: {requirement} ({source}) is not satisfied"
        for lock, sources in LOCKS.items()
        for source in sources
        for requirement in _requirements(FOLDER / source)
        if not _satisfied(requirement, _locked(FOLDER / lock))
    ]
    if faults:
        print("\n".join([*faults, "run `make lock` and commit the lock files"]))
    return bool(faults)


def _requirements(file: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def _locked(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.+!-]+)", file.read_text("utf-8"), re.M):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def _satisfied(requirement: Requirement, locked: dict[str, list[str]]) -> bool:
    versions = locked.get(canonicalize_name(requirement.name), [])
    return any(requirement.specifier.contains(version, prereleases=True) for version in versions)


if __name__ == "__main__":
    sys.exit(main())
