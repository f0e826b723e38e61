"""Describes an upgrade: what changes, which edits are at risk, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from mlservice.upgrade.guards import edits_at_risk, in_house
from mlservice.upgrade.rehearsal import Rehearsal
from mlservice.upgrade.trees import path_changes

_NEED_LOCK = ("requirements/platform.in", "requirements/dev.in")
_SHOWN = 40


def summary(found: Rehearsal, package: str, current: str, newest: str) -> str:
    """Describe what the upgrade does to this repository."""
    upgrade = path_changes(found.owner, found.result)
    dropped = [p for p in path_changes(found.old, found.new).paths if p not in found.owner]
    sections = {
        "added": upgrade.added,
        "changed": upgrade.changed,
        "deleted": upgrade.deleted,
        "your edits in files that it changes, at risk: read these first": edits_at_risk(found),
        "yours, so not changed, though the template's example is new; compare if you like": [
            path for path in path_changes(found.old, found.new).paths if in_house(path, package)
        ],
        "deleted by you, so they stay deleted": [
            p for p in dropped if p in found.old and not in_house(p, package)
        ],
        "ignored by git, so not taken": found.ignored,
    }
    lines = [f"template {current} -> {newest}"]
    for title, paths in sections.items():
        lines += _section(title, paths)
    return "\n".join(lines)


def next_steps(found: Rehearsal, newest: str) -> str:
    """Return the commands that follow an applied upgrade."""
    changed = path_changes(found.owner, found.result).paths
    lock = [path for path in _NEED_LOCK if path in changed]
    steps = ["git diff --cached             # review: the upgrade is staged, not committed"]
    if lock:
        steps.append(f"make lock                     # since {' and '.join(lock)} changed")
    steps += [
        "make lint test",
        f"git commit -am 'chore: upgrade the template to {newest}'",
    ]
    shown = "\n".join(f"    {step}" for step in steps)
    return f"Next:\n{shown}\n`git reset --hard` takes the upgrade back."


def _section(title: str, paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    more = [f"    and {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else []
    return [f"  {title}:", *(f"    {path}" for path in paths[:_SHOWN]), *more]
