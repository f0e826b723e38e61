"""Reads the contracts of the last release from git, and compares them with the present ones.

A release is a tag such as v1.4.0. The last one is the nearest before the commit that is checked
out, so a branch that maintains 1.x is compared with 1.x. If there is none before it (master was not
merged back yet), it is the newest of all.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlservice.api.compatibility import ContractChange, Side, compare
from mlservice.contracts import Contract
from mlservice.errors import ReleaseError

if TYPE_CHECKING:
    from packaging.version import Version

SIDES: tuple[Side, ...] = ("request", "response")
_TAGS = "v[0-9]*"


@dataclass(frozen=True)
class Comparison:
    """What changed since the release ``since``; ``new`` are the contracts that it did not have.

    Before the first release ``since`` is empty, and so are the changes.
    """

    version: str
    since: str = ""
    changes: Mapping[Side, list[ContractChange]] = field(default_factory=dict)
    new: tuple[Side, ...] = ()

    @property
    def breaking(self) -> bool:
        """Whether a change breaks callers or readers."""
        return any(change.breaks for found in self.changes.values() for change in found)

    @property
    def allowed(self) -> bool:
        """Whether the version announces the breaking changes, if there are any."""
        return not self.breaking or is_major(self.since, self.version)


def compare_with_release(
    folder: Path, environ: Mapping[str, str], since: str | None = None
) -> Comparison:
    """Compare ``folder/contracts`` with the last release, or with the one tagged ``since``.

    Raises ``ReleaseError`` if it or the present version cannot be read, and ``ContractError`` for
    a contract that is not a JSON Schema.
    """
    git = _Git(folder, environ)
    version = _own_version(folder)
    tag = git.named(since) if since else git.last_tag()
    if tag is None:
        return Comparison(version)
    _version(tag, "the tag")
    changes: dict[Side, list[ContractChange]] = {}
    new = []
    for side in SIDES:
        path = f"contracts/{side}.schema.json"
        promised = git.schema(tag, path)
        if promised is None:
            new.append(side)
        else:
            changes[side] = compare(promised, Contract.load(folder / path).schema, side)
    return Comparison(version, tag, changes, tuple(new))


def is_major(before: str, after: str) -> bool:
    """Whether the step between two versions may break clients: a greater major number.

    While both are 0.y.z, a greater y counts as well. Raises ``ReleaseError``.
    """
    old, new = _version(before, "the tag"), _version(after, "pyproject.toml")
    if old.major == new.major == 0:
        return new.minor > old.minor
    return new.major > old.major


def _version(text: str, source: str) -> Version:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion:
        raise ReleaseError(f"{source} '{text}' is not a version: give one such as v1.4.0") from None


def _own_version(folder: Path) -> str:
    path = folder / "pyproject.toml"
    try:
        version = str(tomllib.loads(path.read_text("utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f'{path}: no version can be read ({error}): write version = "0.1.0" below [project]'
        ) from error
    _version(version, "pyproject.toml")
    return version


@dataclass(frozen=True)
class _Git:
    folder: Path
    environ: Mapping[str, str]

    def last_tag(self) -> str | None:
        """Return the last release, None before the first one."""
        inside = self._run("rev-parse", "--is-shallow-repository")
        if inside.returncode:
            raise ReleaseError(
                f"the last release cannot be read: git says '{_words(inside.stderr)}': run this in "
                "the service's git repository (`make init` makes one)"
            )
        near = self._run("describe", "--tags", "--abbrev=0", f"--match={_TAGS}")
        if near.returncode == 0:
            return _words(near.stdout)
        newest = self._run("tag", "--list", "--sort=-version:refname", _TAGS)
        if tags := _words(newest.stdout).split():
            return tags[0]
        if _words(inside.stdout) == "true":
            raise ReleaseError(
                "this clone is shallow and has no tag, so it may lack releases: run "
                " `git fetch --unshallow --tags`, or set GIT_DEPTH to 0 in CI"
            )
        return None

    def named(self, tag: str) -> str:
        """``tag``; raises ``ReleaseError`` if there is no such tag."""
        found = self._run("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
        if found.returncode:
            raise ReleaseError(
                f"--since {tag}: there is no such tag here: `git tag --list 'v*'` lists them, "
                "`git fetch --tags` gets those of the server"
            )
        return tag

    def schema(self, tag: str, path: str) -> object:
        """Return the schema at ``path`` in the release, or None if it had none."""
        shown = self._run("show", f"refs/tags/{tag}:./{path}")
        if shown.returncode:
            return None
        try:
            return Contract(f"{path} of {tag}", json.loads(shown.stdout)).schema
        except ValueError as error:
            raise ReleaseError(
                f"{path} of {tag} is not JSON ({error}): compare with another release by --since"
            ) from error

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        # A hook leaves variables such as GIT_DIR behind, which lead to another repository.
        environ = {key: text for key, text in self.environ.items() if not key.startswith("GIT_")}
        try:
            return subprocess.run(
                ("git", *arguments), cwd=self.folder, env=environ, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise ReleaseError("git is not on the PATH: install it") from error


def _words(output: bytes) -> str:
    return output.decode(errors="replace").strip()
