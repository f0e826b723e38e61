"""Runs copier in a process of its own, and turns its tracebacks into messages with a remedy.

It never gets ``--trust``: a template must not run commands on the machine of the person who
upgrades. They can trust a template in copier's own settings, which stay in force.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlservice.errors import UpgradeError
from mlservice.upgrade.git import redact

_TIMEOUT = 900.0
_TAIL_LINES = 12
_CHOICE = re.compile(r"Invalid choice for '(\w+)': (.*?) is not in (\[.*\])")
_INVALID = re.compile(r"Validation error for question '(\w+)': (.*)", re.DOTALL)
_REQUIRED = re.compile(r'Question "(\w+)" is required')
_UNSAFE = re.compile(r"potentially unsafe features?: ([^.\n]*)")
_TASK = re.compile(r"Task (.*) returned non-zero exit status (\d+)")


@dataclass(frozen=True)
class Copier:
    """Copier with a scratch folder and the environment of its processes."""

    scratch: Path
    environ: Mapping[str, str]

    def render(self, source: str, version: str, answers: Path, into: Path) -> None:
        """Render ``version``; raises ``UpgradeError`` for a missing or forbidden answer."""
        options = ("--quiet", "--defaults", "--skip-tasks", f"--data-file={answers}")
        self._run(into.name, version, "copy", *options, f"--vcs-ref={version}", source, str(into))

    def update(self, folder: Path, version: str, data: Mapping[str, str]) -> None:
        """Update the rendered ``folder``; success of copier does not prove a good result."""
        given = [f"--data={name}={value}" for name, value in data.items()]
        options = ("--quiet", "--defaults", "--conflict=inline", *given, f"--vcs-ref={version}")
        self._run("update", version, "update", *options, str(folder))

    def _run(self, name: str, version: str, *arguments: str) -> None:
        # Without -P a file copier.py in the folder would run instead. Each process has a cache of
        # its own: the usual one would keep the address with its token, and is not for two at once.
        result = subprocess.run(
            (sys.executable, "-P", "-m", "copier", *arguments),
            cwd=self.scratch,
            env={**self.environ, "COPIER_CACHE_DIR": str(self.scratch / f"{name}.cache")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            check=False,
        )
        if result.returncode:
            words = redact(result.stdout.decode(errors="replace").strip())
            raise UpgradeError(_explain(words, version))


def require_copier() -> None:
    """Raise ``UpgradeError`` if copier is not installed."""
    if importlib.util.find_spec("copier") is None:
        raise UpgradeError(
            "copier is not installed here: upgrade by `make upgrade`, which installs "
            "requirements/dev.lock into .venv"
        )


def _explain(words: str, version: str) -> str:
    for pattern, text in _EXPLANATIONS.items():
        if found := pattern.search(words):
            groups = [" ".join(group.split()) for group in found.groups()]
            return text.format(*groups, version=version)
    tail = "\n".join(f"    | {line}" for line in words.splitlines()[-_TAIL_LINES:])
    return f"copier failed with the template's version {version}; its last lines:\n{tail}"


_GIVE = "mlservice upgrade --data {0}=VALUE"
_EXPLANATIONS = {
    _CHOICE: (
        "answer {0}: {1} is no longer among the choices of the template's version {version}, "
        f"which are {{2}}: choose one by `{_GIVE}`"
    ),
    _REQUIRED: (
        "answer {0}: the template's version {version} asks a new question that has no default: "
        f"answer it by `{_GIVE}`"
    ),
    _INVALID: (
        "answer {0} is not allowed by the template's version {version}: {1} "
        f"Give another one by `{_GIVE}`"
    ),
    _UNSAFE: (
        "the template's version {version} wants to run code of its own on this machine ({0}), "
        "which an upgrade does not allow: ask its owners for a release without it; if you have "
        "read and trust it, list its address under `trust` in copier's settings file"
    ),
    _TASK: (
        "a migration of the template's version {version} failed: {0} ended with exit code {1}: "
        "report it to the template's owners, or stay on your version until it is fixed"
    ),
}
