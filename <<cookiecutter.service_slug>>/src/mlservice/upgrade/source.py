"""Finds the template and its newest version, and compares that with the recorded one.

copier looks for tags as well. But it takes the last commit of a template without tags, it fails on
a downgrade, and it prints an address with the token that may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlservice.errors import UpgradeError
from mlservice.upgrade.copier_answers import ANSWERS_FILE
from mlservice.upgrade.git import Git, clean_environment, redact

if TYPE_CHECKING:
    from packaging.version import Version

_SHORT = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_REMOTE = re.compile(r"^(\w[\w+.-]*://|[^/\\]+:)")
# Addresses that copier takes for git without asking the server; others must end in .git.
_TAKEN = ("git@", "git://", "git+", "https://github.com/", "https://gitlab.com/")
# Many ids could be read as versions: 12c4567 is a candidate of release 12.
_COMMIT_ID = re.compile(r"^[0-9a-f]{7,64}$")
_DESCRIBED = re.compile(r"^(?P<tag>.+)-(?P<distance>\d+)-g[0-9a-f]+$")
_EDIT = f"correct _src_path in {ANSWERS_FILE} and commit it"


def fetch(source: str, folder: Path, environ: Mapping[str, str]) -> Git:
    """Clone the template into ``folder``, without its files."""
    address = _address(source)
    clone = Git(folder.parent, clean_environment(environ, alone=True))
    try:
        clone.run("clone", "--quiet", "--bare", "--", address, str(folder))
    except UpgradeError as error:
        raise UpgradeError(
            f"_src_path: the template '{redact(source)}' cannot be reached: {error}\n"
            f"check the network and your access to it, or {_EDIT}"
        ) from error
    return Git(folder, clone.environ)


def newest_tag(template: Git, source: str) -> str:
    """Return the tag of the newest version (PEP 440), without prereleases."""
    versions = [
        (version, tag)
        for tag in template.text("tag", "--list").splitlines()
        if (version := _version(tag)) is not None and not version.is_prerelease
    ]
    if not versions:
        raise UpgradeError(
            f"the template '{redact(source)}' has no released version (a tag such as v0.1.0): "
            f"ask its owners to tag a release, or {_EDIT}"
        )
    return max(versions)[1]


def is_due(template: Git, recorded: str, newest: str) -> bool:
    """Whether the newest version is newer than the recorded one."""
    target = commit_of(template, newest)
    current = commit_of(template, recorded)
    if current == target:
        return False
    described = _DESCRIBED.match(recorded)
    tag = described["tag"] if described else recorded
    here = None if _COMMIT_ID.match(tag) else _version(tag)
    there = _version(newest)
    if here is not None and there is not None:
        return there > here
    if current is None or target is None:
        return True
    return template.attempt("merge-base", "--is-ancestor", target, current) is None


def commit_of(template: Git, name: str) -> str | None:
    """Return the commit of a tag, a description (v0.1.0-3-gabc) or an id; None if there is none."""
    return template.attempt(
        "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
    )


def _version(tag: str) -> Version | None:
    """The library for versions comes with copier, so it is imported here."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(tag)
    except InvalidVersion:
        return None


def _address(source: str) -> str:
    """Return an address that git can clone; refuses a folder that cannot be found again."""
    for short, long in _SHORT.items():
        if source.startswith(short):
            return f"{long}{source.removeprefix(short).lstrip('/').removesuffix('.git')}.git"
    if _REMOTE.match(source):
        return _remote(source)
    folder = Path(source).expanduser()
    if not folder.is_absolute():
        raise UpgradeError(
            f"_src_path: '{source}' is a relative path, which cannot be found again: write the "
            f"template's git address or its full path: {_EDIT}"
        )
    if not folder.exists():
        raise UpgradeError(
            f"_src_path: the template's folder '{source}' does not exist: write its "
            f"git address or its new path: {_EDIT}"
        )
    return str(folder)


def _remote(source: str) -> str:
    if not source.endswith(".git") and not source.startswith(_TAKEN):
        raise UpgradeError(
            f"_src_path: '{redact(source)}' is an address that copier does not take for git: "
            f"write it as 'git+{redact(source)}': {_EDIT}"
        )
    return source.removeprefix("git+")
