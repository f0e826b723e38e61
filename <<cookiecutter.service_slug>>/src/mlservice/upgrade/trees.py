"""Compares whole folders as git trees, of which an upgrade has four.

They are the renderings of the old and the new version, what the owner has, and the result of the
rehearsal. All are in the clone's object store, so two files are equal if their modes and object ids
are, whatever their size, encoding or line ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlservice.upgrade.git import Git


@dataclass(frozen=True)
class Entry:
    """A file of a tree: its mode (executable, link) and the id of its content."""

    mode: str
    blob: str


Tree = Mapping[str, Entry]


@dataclass(frozen=True)
class PathChanges:
    """Paths that were added, changed or deleted between two trees."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All of these paths."""
        return (*self.added, *self.changed, *self.deleted)


def path_changes(before: Tree, after: Tree) -> PathChanges:
    """Return the changes from one tree to another."""
    return PathChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(p for p in before.keys() & after.keys() if before[p] != after[p])),
        deleted=tuple(sorted(before.keys() - after.keys())),
    )


def read_tree(git: Git, treeish: str) -> dict[str, Entry]:
    """Return all files of a tree."""
    tree = {}
    for line in git.paths("ls-tree", "-r", "-z", "--full-tree", treeish):
        head, path = line.split("\t", 1)
        mode, _, blob = head.split(" ")
        tree[path] = Entry(mode, blob)
    return tree


def store_tree(git: Git, folder: Path) -> str:
    """Store all files of ``folder``, also ignored ones, with ``git``; returns the tree's id."""
    extra = {"GIT_INDEX_FILE": str(folder.with_name(f"{folder.name}.index"))}
    where = (f"--git-dir={git.folder / '.git'}", f"--work-tree={folder}")
    outside = Git(folder, git.environ)
    outside.run(*where, "add", "--all", "--force", ".", extra=extra)
    return outside.text(*where, "write-tree", extra=extra)


def edit_survives(git: Git, old: Entry, owner: Entry, new: Entry, result: Entry) -> bool:
    """Whether the result has the owner's edit of a file beside the template's.

    This is so if git's three-way merge has the same result. It is also so if each line was added
    and removed as often as by the owner: then the edit has moved, as in a reordered file.
    """
    if owner.mode not in {old.mode, result.mode}:
        return False
    if result.blob == owner.blob or owner.blob == old.blob:
        return True
    contents = [git.run("cat-file", "blob", each.blob) for each in (old, owner, new, result)]
    return _merged(git, contents) or _same_edit(contents)


def _merged(git: Git, contents: list[bytes]) -> bool:
    old, owner, new, result = contents
    if new == owner:
        return result == new
    names = [git.folder / ".git" / f"merge-{name}" for name in ("owner", "old", "new")]
    for path, content in zip(names, (owner, old, new), strict=True):
        path.write_bytes(content)
    merged = git.attempt("merge-file", "--quiet", *map(str, names))
    return merged is not None and names[0].read_bytes() == result


def _same_edit(contents: list[bytes]) -> bool:
    if any(b"\0" in content for content in contents):
        return False
    old, owner, new, result = (Counter(content.splitlines()) for content in contents)
    lines = old.keys() | owner.keys() | new.keys() | result.keys()
    return all(result[line] - new[line] == owner[line] - old[line] for line in lines)
