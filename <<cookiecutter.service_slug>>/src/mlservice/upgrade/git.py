"""Runs git so that neither the caller's environment nor the user's settings change the result.

A hook or a pre-commit run leaves variables such as ``GIT_DIR`` behind, which would send our
commands to another repository. A user's hooks, signing, global ignore list or whitespace repair
would change what is compared. Variables for the access to servers are kept.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlservice.errors import UpgradeError

_ACCESS = frozenset(
    {
        "GIT_ASKPASS",
        "GIT_PROXY_COMMAND",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
    }
)
_PLAIN = {
    "apply.ignoreWhitespace": "no",
    "apply.whitespace": "nowarn",
    "commit.gpgSign": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "diff.mnemonicPrefix": "false",
    "diff.noprefix": "false",
    "status.showUntrackedFiles": "normal",
    "tag.gpgSign": "false",
}
# Only for our own clones: in the owner's repository their ignore list must count.
_ALONE = {
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.excludesFile": os.devnull,
    "core.safecrlf": "false",
    "init.templateDir": "",
    "merge.conflictStyle": "merge",
}
_TIMEOUT = 600.0


@dataclass(frozen=True)
class Git:
    """Git in one folder, with the environment that every call gets."""

    folder: Path
    environ: Mapping[str, str]

    def run(
        self, *arguments: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the output; raises ``UpgradeError`` with git's own message if git fails."""
        result = self._call(arguments, stdin, extra or {})
        if result.returncode:
            words = redact(result.stderr.decode(errors="replace").strip())
            raise UpgradeError(f"git {redact(' '.join(arguments[:2]))} failed: {words}")
        return result.stdout

    def text(self, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
        """Return the output without the newline at its end."""
        return self.run(*arguments, extra=extra).decode(errors="surrogateescape").rstrip("\n")

    def paths(self, *arguments: str) -> list[str]:
        """Return the paths that a command prints, separated by NUL (``-z``)."""
        found = self.run(*arguments).decode(errors="surrogateescape").split("\0")
        return [path for path in found if path]

    def attempt(self, *arguments: str) -> str | None:
        """Return the output, or None if git fails."""
        result = self._call(arguments, b"", {})
        return None if result.returncode else result.stdout.decode(errors="replace").strip()

    def _call(
        self, arguments: tuple[str, ...], stdin: bytes, extra: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ("git", *arguments),
                cwd=self.folder,
                env={**self.environ, **extra},
                input=stdin,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except FileNotFoundError as error:
            raise UpgradeError("git is not on the PATH: install it, upgrades need it") from error
        except subprocess.TimeoutExpired as error:
            raise UpgradeError(
                f"git {arguments[0]} did not end within {_TIMEOUT:.0f} s: check the network"
            ) from error


def clean_environment(environ: Mapping[str, str], *, alone: bool) -> dict[str, str]:
    """Return the environment for git and copier; ``alone`` ignores the user's settings."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name in _ACCESS
    }
    kept |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    settings = _PLAIN | (_ALONE if alone else {})
    kept["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        kept |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return kept


def redact(text: str) -> str:
    """Remove from addresses in ``text`` whatever may be a password or a token."""
    text = re.sub(r"(\w://)[^/\s'\"]*@", r"\1***@", text)
    return re.sub(r"(?i)((?:token|password|secret)=)[^&\s'\"]+", r"\1***", text)
