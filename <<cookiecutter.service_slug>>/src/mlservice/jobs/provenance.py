"""What an artifact was made with: the service's commit, and the versions that were installed."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)", re.MULTILINE)


def git_commit(folder: Path) -> str | None:
    """Return the commit of the repository in ``folder``, marked if files differ from it.

    None if there is no repository.
    """
    command = ("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40")
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def installed_versions(folder: Path) -> dict[str, str]:
    """Return the versions of Python and of the packages that the owner requires.

    Packages that hold raw data are among them.
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    required = folder / "requirements" / "service.in"
    names = _REQUIREMENT.findall(required.read_text("utf-8")) if required.exists() else []
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
