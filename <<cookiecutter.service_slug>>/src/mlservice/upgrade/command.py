"""Says whether an upgrade is due, and takes it.

Nothing is written to the repository until every guard has passed. Then ``git apply`` writes all
files and the index, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlservice.errors import UpgradeError
from mlservice.upgrade.copier import require_copier
from mlservice.upgrade.copier_answers import ANSWERS_FILE, CopierAnswers, read_answers
from mlservice.upgrade.git import Git, clean_environment
from mlservice.upgrade.guards import vetoes
from mlservice.upgrade.rehearsal import (
    Rehearsal,
    ServiceRepository,
    find_markers,
    find_rejects,
    rehearse,
)
from mlservice.upgrade.report import next_steps, summary
from mlservice.upgrade.source import commit_of, fetch, is_due, newest_tag

_NOTHING = "The upgrade was not taken; nothing in this repository has changed."


@dataclass(frozen=True)
class Versions:
    """The recorded and the newest version of the template, and whether an upgrade is due."""

    recorded: str
    newest: str
    due: bool

    def describe(self) -> str:
        """Return one line for people."""
        verdict = "an upgrade is due: run `make upgrade`" if self.due else "up to date"
        return f"template {self.recorded}, newest {self.newest}: {verdict}"


def compare_versions(folder: Path, environ: Mapping[str, str]) -> Versions:
    """Compare the recorded version with the newest; raises ``UpgradeError``."""
    _locate(folder, environ)
    answers = read_answers(folder)
    with _scratch() as scratch:
        newest, due, _ = _compare(answers, scratch, environ)
    return Versions(answers.commit, newest, due)


def take_upgrade(
    folder: Path, environ: Mapping[str, str], data: Mapping[str, str] | None = None
) -> str:
    """Take the newest version, staged and not committed; returns the report.

    ``data`` answers questions that are new, or whose recorded answer is no longer allowed. Raises
    ``UpgradeError`` and leaves the repository as it was if the owner could lose anything.
    """
    repository = _locate(folder, environ)
    answers = read_answers(folder)
    with _scratch() as scratch:
        newest, due, known = _compare(answers, scratch, environ)
        if not due:
            return _up_to_date(repository, answers.commit, newest)
        require_copier()
        _require_clean(repository)
        if not known:
            raise UpgradeError(_UNKNOWN.format(commit=answers.commit, newest=newest))
        found = rehearse(repository, answers, newest, data or {}, scratch, environ)
        words = summary(found, answers.package, answers.commit, newest)
        if vetoed := vetoes(found, answers.package, newest):
            shown = "\n".join(f"- {veto}" for veto in vetoed)
            raise UpgradeError(f"{words}\n{shown}\n{_NOTHING}")
        _apply(repository, found)
    return f"{words}\n{next_steps(found, newest)}"


_UNKNOWN = (
    f"_commit: '{{commit}}' in {ANSWERS_FILE} is not in the template any more, so your edits "
    "cannot be told from its text: ask the template's owners to restore the tag or commit, or "
    "write the tag there that is nearest to your files, and commit it (newest: {newest})"
)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Make a folder for the rehearsal; files that cannot be removed are left behind."""
    with TemporaryDirectory(prefix="mlservice-upgrade-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


def _locate(folder: Path, environ: Mapping[str, str]) -> ServiceRepository:
    folder = folder.resolve()
    service = Git(folder, clean_environment(environ, alone=False))
    top = service.attempt("rev-parse", "--show-toplevel")
    if top is None:
        raise UpgradeError(f"{folder} is not a git repository: make it one by `make init`")
    if service.attempt("rev-parse", "--verify", "--quiet", "HEAD") is None:
        raise UpgradeError(f"{folder} has no commit yet: `git add --all` and commit first")
    prefix = folder.relative_to(Path(top).resolve()).as_posix()
    outer = Git(Path(top), service.environ)
    return ServiceRepository(outer, service, "" if prefix == "." else f"{prefix}/")


def _compare(
    answers: CopierAnswers, scratch: Path, environ: Mapping[str, str]
) -> tuple[str, bool, bool]:
    """Return the newest version, whether it is due, and whether the recorded one still exists."""
    template = fetch(answers.source, scratch / "template.git", environ)
    newest = newest_tag(template, answers.source)
    known = commit_of(template, answers.commit) is not None
    return newest, is_due(template, answers.commit, newest), known


def _up_to_date(repository: ServiceRepository, current: str, newest: str) -> str:
    words = f"template {current}, newest {newest}: up to date"
    if repository.service.attempt("diff", "--quiet", "HEAD", "--", ANSWERS_FILE) is None:
        words += "; the upgrade to it is not committed yet: review it by `git diff --cached`"
    return words


def _require_clean(repository: ServiceRepository) -> None:
    """Refuse changes that the clone would not have, and remains of an earlier upgrade."""
    git = repository.service
    status = git.paths(
        "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "."
    )
    dirty = [line[3:] for line in status if not line.startswith("??")]
    untracked = [line[3:] for line in status if line.startswith("??")]
    _refuse(dirty, "changes that are not committed: commit them, or `git stash`")
    _refuse(untracked, "files that git does not know: commit, ignore or remove them")
    _refuse(find_markers(git), "conflict markers of an earlier merge: resolve them, commit")
    _refuse(
        find_rejects(git), "rejected changes of an earlier update: apply them, delete the files"
    )


def _refuse(paths: list[str], reason: str) -> None:
    if paths:
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        raise UpgradeError(f"{', '.join(paths[:_SHOWN])}{more}: {reason}; then upgrade again")


_SHOWN = 10


def _apply(repository: ServiceRepository, found: Rehearsal) -> None:
    patch = found.git.run(
        "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff",
        "--no-textconv", "--no-color", "HEAD", found.result_id,
    )  # fmt: skip
    # git apply refuses a file whose time differs from the index, as after a copy or a touch.
    repository.top.attempt("update-index", "-q", "--refresh")
    try:
        repository.top.run("apply", "--index", "--whitespace=nowarn", "-", stdin=patch)
    except UpgradeError as error:
        raise UpgradeError(
            f"{error}\nmove the named files out of the way and upgrade again. {_NOTHING}"
        ) from error
