"""Judges a rehearsed upgrade: each guard names what the owner would lose, and the remedy.

copier's exit code does not help: it is 0 with conflicts, with an edited file deleted, and with a
binary file of the owner replaced.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from mlservice.upgrade.copier_answers import ANSWERS_FILE
from mlservice.upgrade.rehearsal import Rehearsal, find_markers
from mlservice.upgrade.trees import edit_survives, path_changes

_HOUSE = (
    "src/{package}/*",
    "contracts/*",
    "tests/service/*",
    "service.toml",
    "requirements/service.in",
    "requirements/overrides.txt",
    "requirements/*.lock",
    "nomad/*.vars.hcl",
    "README.md",
    "CHANGELOG.md",
    ".secrets.baseline",
    "docs/decisions/*",
)


def in_house(path: str, package: str) -> bool:
    """Whether a file is the owner's, which no upgrade may touch."""
    return any(fnmatchcase(path, pattern.format(package=package)) for pattern in _HOUSE)


def owner_edits(found: Rehearsal) -> tuple[str, ...]:
    """Return files of the owner that differ from the old version's rendering."""
    return tuple(
        path for path in path_changes(found.old, found.owner).paths if path != ANSWERS_FILE
    )


def edits_at_risk(found: Rehearsal) -> tuple[str, ...]:
    """Return the owner's edits in files that the upgrade changes."""
    touched = set(path_changes(found.owner, found.result).paths)
    return tuple(path for path in owner_edits(found) if path in touched)


def vetoes(found: Rehearsal, package: str, newest: str) -> list[str]:
    """Return all reasons against the upgrade; empty if there are none."""
    return [
        *_conflicts(found, newest),
        *_house(found, package),
        *_lost_edits(found, package, newest),
    ]


def _conflicts(found: Rehearsal, newest: str) -> list[str]:
    rejected = {path.removesuffix(".rej") for path in found.rejected}
    marked = find_markers(found.git)
    paths = {*found.conflicts, *rejected, *(place.rsplit(":", 1)[0] for place in marked)}
    return [
        f"{path}: your edit and the template's change are in conflict: take your edit out of the "
        f"file, commit, upgrade and put it back; or merge by hand on a branch: "
        f"`.venv/bin/copier update --defaults --vcs-ref={newest}`"
        for path in sorted(paths)
    ]


def _house(found: Rehearsal, package: str) -> list[str]:
    return [
        f"{path}: the file is yours, and the upgrade would touch it: this is a bug of the "
        "template, whose copier.yml must exclude it on updates: report it to its owners"
        for path in path_changes(found.owner, found.result).paths
        if in_house(path, package)
    ]


def _lost_edits(found: Rehearsal, package: str, newest: str) -> list[str]:
    reported = {*found.conflicts, *(path.removesuffix(".rej") for path in found.rejected)}
    candidates = [p for p in owner_edits(found) if p not in reported and not in_house(p, package)]
    return [text for path in candidates if (text := _lost_edit(found, path, newest))]


def _lost_edit(found: Rehearsal, path: str, newest: str) -> str:
    old, owner, new, result = (
        tree.get(path) for tree in (found.old, found.owner, found.new, found.result)
    )
    if owner is None:
        return _CAME_BACK.format(path=path) if result is not None else ""
    if result is None:
        return _DROPPED.format(path=path, newest=newest, target=_renamed(found, path))
    if result == owner or (old is not None and owner == new == result):
        return ""
    if old is None:
        return _BOTH_ADDED.format(path=path)
    if new is None or not edit_survives(found.git, old, owner, new, result):
        return _OVERWRITTEN.format(path=path, newest=newest)
    return ""


_CAME_BACK = (
    "{path}: you deleted the file, and the upgrade would bring it back: put an empty file there, "
    "commit and upgrade again, or ask the template's owners"
)
_DROPPED = (
    "{path}: you edited the file, and the template's version {newest} {target}: move what you "
    "need to a file of your own, delete this one, commit and upgrade again"
)
_BOTH_ADDED = (
    "{path}: the template adds a file of this name, and you have one already: rename yours, "
    "commit and upgrade again"
)
_OVERWRITTEN = (
    "{path}: the template's change would overwrite your edit: take it out of the file, commit, "
    "upgrade to {newest} and put it back"
)


def _renamed(found: Rehearsal, path: str) -> str:
    """Describe what became of the file; identical content counts as renamed."""
    lost = found.old.get(path)
    for target in path_changes(found.old, found.new).added:
        if lost is not None and found.new[target].blob == lost.blob:
            return f"renames it to {target}"
    return "drops it"
