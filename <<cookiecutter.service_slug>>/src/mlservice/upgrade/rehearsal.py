"""Performs the upgrade in a clone, and keeps what the guards need to judge it.

The clone holds only what is committed, so copier cannot reach ignored files such as a filled-in
``.env``. The renderings of the old and the new version show which lines are the owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlservice.errors import UpgradeError
from mlservice.upgrade.copier import Copier
from mlservice.upgrade.copier_answers import ANSWERS_FILE, CopierAnswers, dump, read_answers
from mlservice.upgrade.git import Git, clean_environment
from mlservice.upgrade.trees import Tree, read_tree, store_tree

MARKER = "^([<]{7}|[>]{7}) "


@dataclass(frozen=True)
class ServiceRepository:
    """The repository and the service in it, which may be a folder of a larger one."""

    top: Git
    service: Git
    prefix: str


@dataclass(frozen=True)
class Rehearsal:
    """What the upgrade did in the clone; paths are relative to the service's folder."""

    git: Git
    old: Tree
    new: Tree
    owner: Tree
    result: Tree
    result_id: str
    conflicts: tuple[str, ...]
    rejected: tuple[str, ...]
    ignored: tuple[str, ...]


def rehearse(
    repository: ServiceRepository,
    answers: CopierAnswers,
    newest: str,
    data: Mapping[str, str],
    scratch: Path,
    environ: Mapping[str, str],
) -> Rehearsal:
    """Clone the repository, update the clone, and render both versions beside it."""
    clean = clean_environment(environ, alone=True)
    clone = _clone(repository, scratch / "clone", clean)
    service = Git(clone.folder / repository.prefix, clean)
    if not (service.folder / ANSWERS_FILE).is_file():
        raise UpgradeError(f"{ANSWERS_FILE} is not committed: `git add -f {ANSWERS_FILE}`, commit")
    copier = Copier(scratch, clean)
    old, new = scratch / "old", scratch / "new"
    before = _write(scratch / "old.yml", answers.values)
    after = _write(scratch / "new.yml", {**answers.values, **data})
    _all_of(
        lambda: copier.render(answers.source, newest, after, new),
        lambda: copier.render(answers.source, answers.commit, before, old),
        lambda: copier.update(service.folder, newest, data),
    )
    _check_data(data, answers, read_answers(new), newest)
    return _observe(clone, service, repository.prefix, old, new)


def _check_data(
    data: Mapping[str, str], answers: CopierAnswers, rendered: CopierAnswers, newest: str
) -> None:
    """Refuse ``--data`` that answers no question, which copier would silently ignore."""
    asked = rendered.values
    if unknown := sorted(data.keys() - asked.keys()):
        raise UpgradeError(
            f"--data {', '.join(unknown)}: {newest} asks no such question "
            f"(it asks {', '.join(asked)})"
        )
    slug = answers.values.get("service_slug")
    if data.get("service_slug", slug) != slug:
        raise UpgradeError(
            f"--data service_slug={data['service_slug']}: a service keeps its name ({slug}), "
            "since its package, jobs and Consul keys have it: start a new service and move your "
            "files"
        )


def find_markers(git: Git) -> list[str]:
    """Return tracked files under git's folder that hold a conflict marker, with the line."""
    options = ("--cached", "--line-number", "--only-matching", "--no-color", "--no-column", "-zIE")
    found = git.attempt("grep", *options, MARKER, "--", ".") or ""
    return [":".join(line.split("\0")[:2]) for line in found.splitlines()]


def find_rejects(git: Git) -> list[str]:
    """Return files with changes that could not be merged, also if git ignores them."""
    return git.paths(
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--",
        "*.rej",
        ":(exclude).venv",
        ":(exclude).cache",
    )


def _clone(repository: ServiceRepository, into: Path, environ: Mapping[str, str]) -> Git:
    """Clone the last commit by URL, because a shallow repository allows nothing else."""
    address = repository.top.folder.as_uri()
    outside = Git(into.parent, environ)
    outside.run("clone", "--quiet", "--depth=1", "--no-tags", "--", address, str(into))
    return Git(into, environ)


def _all_of(*steps: Callable[[], None]) -> None:
    """Run all at the same time; raises the first error in the order given."""
    with ThreadPoolExecutor(len(steps)) as pool:
        running = [pool.submit(step) for step in steps]
    for future in running:
        future.result()


def _observe(clone: Git, service: Git, prefix: str, old: Path, new: Path) -> Rehearsal:
    conflicts = service.paths("ls-files", "-z", "--unmerged", "--", ".")
    rejected = find_rejects(service)
    ignored = service.paths("ls-files", "-z", "--others", "--ignored", "--exclude-standard")
    clone.run("add", "--all")
    result_id = clone.text("write-tree")
    return Rehearsal(
        git=clone,
        old=read_tree(clone, store_tree(clone, old)),
        new=read_tree(clone, store_tree(clone, new)),
        owner=read_tree(clone, f"HEAD:{prefix}"),
        result=read_tree(clone, f"{result_id}:{prefix}"),
        result_id=result_id,
        conflicts=tuple(sorted({line.split("\t", 1)[1] for line in conflicts})),
        rejected=tuple(rejected),
        ignored=tuple(path for path in ignored if not path.endswith(".rej")),
    )


def _write(path: Path, values: Mapping[str, Any]) -> Path:
    path.write_text(dump(values), encoding="utf-8")
    return path
